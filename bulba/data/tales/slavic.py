"""A Slavic language as the templates see it: actors as declined phrases, and words that agree with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bulba.data.tales.grammar import CASES, Adjective, Grammar, Noun
from bulba.data.tales.plots import Actor
from bulba.data.tales.template import Phrase, Wording, parse_wording


@dataclass(slots=True)
class SlavicPhrase:
    """An actor as a noun phrase: ``волк``, long ``серый волк``; counted ``пять серых волков``; ``девочка Маша``."""

    grammar: Grammar
    actor: Actor
    noun: Noun
    adjective: Adjective | None
    name: Noun | None
    places: Mapping[str, tuple[str, str]]  # "where" and "to": preposition and case
    forms: dict[tuple[tuple[str, ...], bool], str] = field(default_factory=dict)

    @property
    def agreement(self) -> str:
        return "pl" if self.actor.plural or self.actor.count else self.noun.gender

    @property
    def animate(self) -> bool:
        return self.noun.animate

    @property
    def gait(self) -> str:
        return self.actor.gait

    def form(self, features: tuple[str, ...], long: bool) -> str:
        """The phrase in a case, ``pl``, ``num`` (the numeral alone), ``where`` or ``to``; long with its adjective."""
        key = features, long
        if key not in self.forms:
            self.forms[key] = self._form(features, long)
        return self.forms[key]

    def _form(self, features: tuple[str, ...], long: bool) -> str:
        for direction in ("where", "to"):
            if direction in features:
                preposition, case = self.places[direction]
                return f"{preposition} {self.form((case,), long)}"
        case = next((feature for feature in features if feature in CASES), "nom")
        adjective = self.adjective if long else None
        if self.actor.count and "pl" not in features:
            if "num" in features:
                return self.grammar.numeral(self.actor.count, self.noun.gender, self.animate, case)
            return " ".join(self.grammar.counted(self.actor.count, self.noun, adjective, case))
        if self.name and not long:
            return self.name.forms[case]
        plural = self.actor.plural or "pl" in features
        agreement = "pl" if plural else self.noun.gender
        words = [adjective.agreeing(agreement, self.animate, case)] if adjective else []
        words.append(self.noun.forms[f"{case}.pl" if plural else case])
        if self.name:
            words.append(self.name.forms[case])
        return " ".join(words)


class SlavicLanguage:
    """Grammar and wording of one language, ready to fill templates."""

    def __init__(
        self,
        grammar: Grammar,
        wording: str,
        *,
        names: Mapping[str, str],
        gaits: Mapping[str, Mapping[str, str]],
        prepositions: frozenset[str],
        polish: Callable[[str], str],
    ) -> None:
        self.grammar = grammar
        self.names = {  # by the noun they follow: "boy", "girl"
            noun: [grammar.decline(*name.split()) for name in block.split("|")] for noun, block in names.items()
        }
        self.gaits = gaits  # "arrive": the verb for each gait
        self._polish = polish  # the sounds between words, over a whole text
        self.wording: Wording = parse_wording(wording, prepositions)

    def polish(self, text: str) -> str:
        return self._polish(text)

    def phrase(self, actor: Actor) -> SlavicPhrase:
        noun = self.grammar.nouns[actor.noun]
        places = {key: _preposition(value, key) for key, value in noun.places.items()}
        if "where" in places and "to" not in places:
            places["to"] = (places["where"][0], "acc")
        adjective = self.grammar.adjectives[actor.trait] if actor.trait else None
        name = None if actor.name is None else self.names[actor.noun][actor.name]
        return SlavicPhrase(self.grammar, actor, noun, adjective, name, places)

    def inflect(self, word: str, features: tuple[str, ...], phrase: Phrase | None, after_preposition: bool) -> str:
        """A verb in a person or agreeing in the past; an adjective or pronoun agreeing in a case."""
        if word in self.gaits:
            assert phrase is not None, f"{word} needs an actor"
            word = self.gaits[word][phrase.gait]
        verb = self.grammar.verbs.get(word)
        if verb:
            key = ".".join(features) or (phrase.agreement if phrase else "inf")
            return verb.forms[key]
        assert phrase is not None, f"{word} needs an actor to agree with"
        form = self.grammar.by_lemma[word].agreeing(
            phrase.agreement, phrase.animate, features[0] if features else "nom"
        )
        return self.grammar.AFTER_PREPOSITION.get(form, form) if after_preposition else form


def _preposition(value: str, direction: str) -> tuple[str, str]:
    preposition, _, case = value.partition(".")
    return preposition, case or {"where": "loc", "to": "acc"}[direction]
