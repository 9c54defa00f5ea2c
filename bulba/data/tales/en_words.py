"""English words: plurals, articles, pronouns, and actors as phrases.

English verbs agree with nothing in the past tense, so the wording has them written out; only a verb that depends on
how an actor moves is chosen here.
"""

from __future__ import annotations

from dataclasses import dataclass

from bulba.data.tales.plots import Actor
from bulba.data.tales.template import Phrase, Wording, parse_wording

FEMININE = frozenset(
    [
        "fox",
        "squirrel",
        "mouse",
        "frog",
        "goat",
        "hen",
        "duck",
        "crow",
        "owl",
        "turtle",
        "ant",
        "bee",
        "cow",
        "goldfish",
        "girl",
        "grandmother",
    ]
)
MASCULINE = frozenset(
    [
        "hare",
        "wolf",
        "bear",
        "hedgehog",
        "cat",
        "dog",
        "rooster",
        "sparrow",
        "stork",
        "beaver",
        "badger",
        "mole",
        "snail",
        "grasshopper",
        "kitten",
        "piglet",
        "horse",
        "boy",
        "grandfather",
        "fisherman",
        "miller",
        "shepherd",
    ]
)
WORDS = {  # a concept whose word is another
    "beautiful": "pretty",
    "cub": "fox cub",
    "dense": "thick",
    "distant": "faraway",
    "goldfish": "fish",
    "high": "tall",
    "oak": "oak tree",
    "raspberry": "raspberries",
    "small": "little",
}
MASS = frozenset(["honey", "milk", "bread", "grain", "cheese", "raspberry"])  # "some", and no plural
IRREGULAR_PLURALS = {"berry": "berries", "potato": "potatoes", "fish": "fish", "wolf": "wolves", "mouse": "mice"}
WHERE = {"in": "forest glade meadow field garden orchard village", "on": "bog hill", "by": "river lake pond oak mill"}
NUMERALS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
PRONOUNS = {  # for m, f, n, pl
    "he": ("he", "she", "it", "they"),
    "him": ("him", "her", "it", "them"),
    "his": ("his", "her", "its", "their"),
    "himself": ("himself", "herself", "itself", "themselves"),
    "is": ("is", "is", "is", "are"),
    "was": ("was", "was", "was", "were"),
}
AGREEMENTS = ("m", "f", "n", "pl")
GAITS = {
    "arrived": {
        "run": "came running",
        "walk": "came",
        "fly": "came flying",
        "jump": "came hopping",
        "crawl": "came crawling",
    },
    "approached": {"run": "ran up", "walk": "came up", "fly": "flew up", "jump": "hopped up", "crawl": "crawled up"},
    "passed": {"run": "ran", "walk": "walked", "fly": "flew", "jump": "hopped", "crawl": "crawled"},
    "set off": {"run": "ran off", "walk": "set off", "fly": "flew off", "jump": "hopped off", "crawl": "crawled off"},
}
NAMES = {
    "boy": ["Tom", "Jack", "Ben", "Will", "Sam", "Oliver", "Peter"],
    "girl": ["Anna", "Lucy", "Emma", "Molly", "Rose", "Alice", "Kate"],
}


def plural(noun: str) -> str:
    """The plural of a word: by rule, unless it is one of the irregular ones."""
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def with_article(words: str) -> str:
    """``a`` or ``an`` before the words; every vowel letter of the lexicon at the start of a word is a vowel sound."""
    return ("an " if words[0] in "aeiou" else "a ") + words


@dataclass(frozen=True, slots=True)
class EnglishPhrase:
    """An actor as a noun phrase: ``the wolf``, long ``the grey wolf``; ``five red apples``; ``Anna``."""

    actor: Actor

    @property
    def agreement(self) -> str:
        noun = self.actor.noun
        if self.actor.plural or self.actor.count not in (None, 1) or noun == "raspberry":
            return "pl"
        return "f" if noun in FEMININE else "m" if noun in MASCULINE else "n"

    @property
    def animate(self) -> bool:
        return self.actor.noun in FEMININE | MASCULINE

    @property
    def gait(self) -> str:
        return self.actor.gait

    @property
    def name(self) -> str | None:
        return None if self.actor.name is None else NAMES[self.actor.noun][self.actor.name]

    def form(self, features: tuple[str, ...], long: bool) -> str:
        """``a`` and ``bare`` choose the article, ``pl`` the plural, ``num`` the numeral alone; ``poss voc where``."""
        if "where" in features or "to" in features:
            preposition = next(word for word, nouns in WHERE.items() if self.actor.noun in nouns.split())
            rest = tuple(feature for feature in features if feature not in ("where", "to"))
            return f"{'to' if 'to' in features else preposition} {self.form(rest, long)}"
        if "poss" in features:
            return self.form((), long) + "’s"
        if "num" in features:
            return NUMERALS[self.actor.count or 1]
        trait = self.actor.trait if long else None
        noun = WORDS.get(self.actor.noun, self.actor.noun)
        is_plural = "pl" in features or self.actor.plural or (self.actor.count or 1) > 1
        words = " ".join(filter(None, [WORDS.get(trait or "", trait), plural(noun) if is_plural else noun]))
        if self.name:
            return f"{with_article(words)} called {self.name}" if long else self.name
        if "voc" in features:
            return f"dear {words}"
        if self.actor.count:
            return f"{NUMERALS[self.actor.count]} {words}"
        if "a" in features:
            return f"some {words}" if self.actor.noun in MASS or is_plural else with_article(words)
        return words if "bare" in features or is_plural else f"the {words}"


class English:
    """Wording and words of English, ready to fill templates."""

    def __init__(self, wording: str) -> None:
        self.wording: Wording = parse_wording(wording, frozenset())

    def phrase(self, actor: Actor) -> EnglishPhrase:
        return EnglishPhrase(actor)

    def inflect(self, word: str, features: tuple[str, ...], phrase: Phrase | None, after_preposition: bool) -> str:
        """A pronoun or a form of to be for the actor, or the verb for its gait."""
        assert phrase is not None, f"{word} needs an actor"
        if word in GAITS:
            return GAITS[word][phrase.gait]
        return PRONOUNS[word][AGREEMENTS.index(phrase.agreement)]

    def polish(self, text: str) -> str:
        """Nothing sounds differently between English words; a and an are chosen with their phrase."""
        return text
