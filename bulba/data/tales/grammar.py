"""Slavic inflection by classes: a stem, a table of endings, and explicit irregular forms.

A lexicon is a block of lines, one word a line:

- noun: ``concept lemma class [key=value ...]``. A trailing ``*`` on the class marks an animate noun. The keys are
  ``obl`` (stem outside the nominative), ``pl`` (stem of the plural), ``gp`` (whole genitive plural), ``g`` (gender,
  if it is not the first letter of the class), ``where`` and ``to`` (preposition of a place, with ``.case`` where
  the case is not the usual one), or the name of a case, which gives that form whole;
- adjective: ``concept lemma class``;
- verb: ``lemma aspect [class stem] [past=masculine:stem:neuter] [key=form ...]``. The stem is that of the present
  (of the future, if perfective); ``one:other`` gives the 1st person singular (and the 3rd plural, where that ends
  in -ут, -ють and the like) a stem of its own. A verb that the tales use in the past alone has no class.

What differs between the languages (spelling, softening, numerals) is decided by a subclass of `Grammar`.
Stress is not modelled: where it decides an ending, the class does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

CASES = ("nom", "gen", "dat", "acc", "ins", "loc", "voc")
AGREEMENTS = ("m", "f", "n", "pl")  # what an adjective or a past tense agrees with
PERSONS = ("1sg", "2sg", "3sg", "1pl", "3pl")  # nobody in the tales says the plural you


@dataclass(frozen=True, slots=True)
class Noun:
    """A noun and its forms, ``forms["dat"]`` or ``forms["dat.pl"]``; `places` holds its prepositions of place."""

    lemma: str
    gender: str
    animate: bool
    forms: Mapping[str, str]
    places: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Adjective:
    """An adjective, a pronoun or the numeral one: ``forms["f"]["dat"]``."""

    lemma: str
    forms: Mapping[str, Mapping[str, str]]

    def agreeing(self, agreement: str, animate: bool, case: str) -> str:
        """The form for a gender or the plural; an accusative without a form of its own follows animacy."""
        row = self.forms[agreement]
        if case == "acc" and "acc" not in row:
            case = "gen" if animate and agreement in ("m", "pl") else "nom"
        return row["nom" if case == "voc" else case]


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb: ``inf``, the past ``m f n pl``, ``1sg`` to ``3pl`` of the present or future, ``imp`` and ``imp.pl``."""

    lemma: str
    aspect: str
    forms: Mapping[str, str]


class Grammar(ABC):
    """The paradigms of one language and the words built by them."""

    NOUN_CLASSES: ClassVar[Mapping[str, str]]  # "nom gen dat acc ins loc [voc] | nom gen dat acc ins loc" of the plural
    ADJECTIVE_CLASSES: ClassVar[Mapping[str, Sequence[str]]]  # rows of endings for m, f, n, pl
    VERB_CLASSES: ClassVar[Mapping[str, str]]  # endings of `PERSONS`
    PRONOUNS: ClassVar[Mapping[str, Sequence[str]]]  # words of no class: rows of whole forms for m, f, n, pl
    ONE: str  # the lemma of the numeral one among the pronouns
    SMALL_NUMERALS: ClassVar[Mapping[int, Mapping[str, str]]]  # 2, 3, 4: the row for m and n, and for f if it differs
    LARGE_NUMERALS: ClassVar[Mapping[int, str]]  # 5 and above
    AFTER_PREPOSITION: ClassVar[Mapping[str, str]] = {}  # forms of pronouns that change there
    INFINITIVE: str  # how an infinitive ends
    REFLEXIVE_INFINITIVE: str
    PAST: tuple[str, str, str]  # masculine ending, neuter and plural vowel

    def __init__(self, nouns: str, adjectives: str, verbs: str) -> None:
        self.nouns = {concept: self.decline(*entry) for concept, *entry in _entries(nouns)}
        self.adjectives = {concept: self.decline_adjective(*entry) for concept, *entry in _entries(adjectives)}
        self.verbs = {entry[0]: self.conjugate(*entry) for entry in _entries(verbs)}
        self.pronouns = {lemma: Adjective(lemma, _by_case(rows)) for lemma, rows in self.PRONOUNS.items()}
        self.by_lemma = {adjective.lemma: adjective for adjective in self.adjectives.values()} | self.pronouns

    @abstractmethod
    def attach(self, stem: str, ending: str, animate: bool = False) -> str:
        """Join a stem and an ending by the spelling rules; ``-`` is no ending, ``@`` the softening one."""

    @abstractmethod
    def reflexive(self, key: str, form: str) -> str:
        """The form of a verb under `key` with its reflexive suffix."""

    def few(self, noun: Noun, adjective: Adjective | None) -> list[str]:
        """The adjective, if any, and the noun after 2, 3 and 4 in the nominative: in the plural."""
        return [*([adjective.agreeing("pl", False, "nom")] if adjective else []), noun.forms["nom.pl"]]

    def decline(self, lemma: str, noun_class: str, *rest: str) -> Noun:
        animate, noun_class = noun_class.endswith("*"), noun_class.rstrip("*")
        keys = dict(word.split("=", 1) for word in rest)
        gender = keys.pop("g", noun_class[0])
        singular, plural = (row.split() for row in self.NOUN_CLASSES[noun_class].split("|"))
        oblique = keys.pop("obl", _stem(lemma, singular[0]))
        rows = (("", oblique, singular), (".pl", keys.pop("pl", oblique), plural))
        forms = {
            case + number: self.attach(stem, ending, animate)
            for number, stem, endings in rows
            for case, ending in zip(CASES, endings, strict=False)
            if ending != "="
        }
        forms |= {"nom": lemma, "gen.pl": keys.pop("gp", forms["gen.pl"])}
        places: dict[str, str] = {key: keys.pop(key) for key in ("where", "to") if key in keys}
        forms |= keys
        forms.setdefault("acc", forms["gen"] if animate and gender == "m" else lemma)
        forms.setdefault("acc.pl", forms["gen.pl" if animate else "nom.pl"])
        forms.setdefault("voc", lemma)
        return Noun(lemma, gender, animate, forms, places)

    def decline_adjective(self, lemma: str, adjective_class: str) -> Adjective:
        rows = self.ADJECTIVE_CLASSES[adjective_class]
        stem = _stem(lemma, rows[0].split()[0])
        whole = [" ".join(e if e == "=" else self.attach(stem, e) for e in row.split()) for row in rows]
        return Adjective(lemma, _by_case(whole))

    def conjugate(self, lemma: str, aspect: str, *rest: str) -> Verb:
        keys = dict(word.split("=", 1) for word in rest if "=" in word)
        classed = [word for word in rest if "=" not in word]
        is_reflexive = lemma.endswith(self.REFLEXIVE_INFINITIVE)
        stem = lemma.removesuffix(self.REFLEXIVE_INFINITIVE if is_reflexive else self.INFINITIVE)
        ending, neuter, plural = self.PAST
        past_m, past, neuter = _filled(keys.pop("past", ""), (stem + ending, stem + "л", neuter))
        forms = {"m": past_m, "f": past + "а", "n": past + neuter, "pl": past + plural}
        if classed:
            verb_class, stems = classed
            first, _, other = stems.partition(":")
            for person, ending in zip(PERSONS, self.VERB_CLASSES[verb_class].split(), strict=True):
                is_first = person == "1sg" or (person == "3pl" and ending[0] in "ую")
                forms[person] = self.attach(first if is_first else other or first, ending)
        forms |= keys
        if is_reflexive:
            forms = {key: self.reflexive(key, form) for key, form in forms.items()}
        return Verb(lemma, aspect, {"inf": lemma, **forms})

    def counted(self, count: int, noun: Noun, adjective: Adjective | None, case: str) -> list[str]:
        """A numeral, the adjective if any, and the noun, agreeing in `case`."""
        numeral = self.numeral(count, noun.gender, noun.animate, case)
        if count == 1:
            tail = [adjective.agreeing(noun.gender, noun.animate, case)] if adjective else []
            return [numeral, *tail, noun.forms[case]]
        plain = case in ("nom", "acc")
        if plain and count < 5 and not (case == "acc" and noun.animate):
            return [numeral, *self.few(noun, adjective)]
        case = "gen" if plain else case
        tail = [adjective.agreeing("pl", noun.animate, case)] if adjective else []
        return [numeral, *tail, noun.forms[f"{case}.pl"]]

    def numeral(self, count: int, gender: str, animate: bool, case: str) -> str:
        if count == 1:
            return self.pronouns[self.ONE].agreeing(gender, animate, case)
        if count < 5:
            rows = self.SMALL_NUMERALS[count]
            row = dict(zip(CASES, rows.get(gender, rows["m"]).split(), strict=False))
            if case == "acc":
                case = "gen" if animate else "nom"
            return row[case]
        return dict(zip(CASES, self.LARGE_NUMERALS[count].split(), strict=False))[case]


def _filled(given: str, regular: Sequence[str]) -> list[str]:
    """``a::c`` over the regular parts: what is left empty stays regular."""
    parts = [*given.split(":"), "", ""]
    return [part or rule for part, rule in zip(parts, regular, strict=False)]


def _stem(lemma: str, ending: str) -> str:
    return lemma if ending == "-" else lemma[: -len(ending)]


def _by_case(rows: Iterable[str]) -> dict[str, dict[str, str]]:
    return {
        agreement: {case: form for case, form in zip(CASES, row.split(), strict=False) if form != "="}
        for agreement, row in zip(AGREEMENTS, rows, strict=True)
    }


def _entries(block: str) -> Iterable[list[str]]:
    return (line.split() for line in block.splitlines() if line.strip() and not line.startswith("#"))
