"""The plots that all languages share: who plays in them, and the order of what happens.

A plot names its roles by single letters, casts them with concepts of `world`, and lists its beats paragraph by
paragraph. The wording of a beat belongs to a language. The letters mean the same in every plot: ``h`` the hero,
``o`` the hero's home, ``f g m`` friends, ``v`` the villain, ``p`` a place, ``x`` a thing, ``e`` food, ``w`` what
grows or is wished for, ``n k r`` counted things.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bulba.data.tales.world import ANIMALS, CHILDREN, ELDERS, FOODS, PLACES, THINGS, WISHES, YOUNG

PLAYGROUNDS = "forest glade meadow field orchard bog hill river lake"
NUM_NAMES = 7  # of each sex, in each language
_AWAY = {  # where those live who can help a sick friend
    "bee": ("meadow", "glade"),
    "bear": ("forest", "glade", "hill"),
    "cow": ("village", "meadow"),
    "goat": ("village", "meadow"),
    "stork": ("bog", "meadow"),
    "hedgehog": ("forest", "glade"),
    "badger": ("forest", "hill"),
}


@dataclass(frozen=True, slots=True)
class Actor:
    """Who or what fills a role: a noun, and what the tale says of it."""

    noun: str
    trait: str | None = None  # the adjective of its long form
    name: int | None = None  # which of the names of its sex
    count: int | None = None  # for a numeral phrase, "five apples"
    plural: bool = False
    gait: str = "walk"


Cast = dict[str, Actor]


class Casting:
    """Draws actors for one tale: nobody plays twice, and no adjective is used twice if that can be."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.taken: set[str] = set()

    def animal(self, candidates: str, trait: str | None = None) -> Actor:
        noun = self.rng.choice([word for word in candidates.split() if word not in self.taken])
        self.taken.add(noun)
        return Actor(noun, trait or self._trait(ANIMALS[noun].traits), gait=ANIMALS[noun].gait)

    def child(self) -> Actor:
        return replace(self.one_of(CHILDREN), name=self.rng.randrange(NUM_NAMES))

    def elder(self, candidates: str = "") -> Actor:
        return self.one_of(ELDERS, candidates)

    def hero(self, animals: str) -> Actor:
        """A child once in three tales, otherwise one of `animals`."""
        return self.child() if self.rng.random() < 1 / 3 else self.animal(animals)

    def home(self, actor: Actor) -> Actor:
        homes = ANIMALS[actor.noun].homes if actor.noun in ANIMALS else ("village",)
        return self.one_of(PLACES, " ".join(homes))

    def place(self, candidates: str, home: Actor) -> Actor:
        """One of `candidates`, away from `home`."""
        return self.one_of(PLACES, " ".join(place for place in candidates.split() if place != home.noun))

    def food(self, actor: Actor) -> Actor:
        return self.one_of(FOODS, " ".join(ANIMALS[actor.noun].foods))

    def one_of(self, concepts: Mapping[str, tuple[str, ...]], candidates: str = "", trait: str | None = None) -> Actor:
        """One of the nouns of a table of `world` (of `candidates`, if there are any) with one of its adjectives."""
        noun = self.rng.choice(candidates.split() or list(concepts))
        return Actor(noun, trait or self._trait(concepts[noun]))

    def _trait(self, traits: tuple[str, ...]) -> str:
        trait = self.rng.choice([trait for trait in traits if trait not in self.taken] or traits)
        self.taken.add(trait)
        return trait


def _lost(c: Casting) -> Cast:
    h = c.hero("hare hedgehog squirrel mouse kitten piglet bear badger frog beaver")
    f = c.animal("hare fox hedgehog squirrel mole crow dog goat stork beaver badger sparrow owl cat")
    o = c.home(h)
    return {"h": h, "o": o, "x": c.one_of(THINGS), "p": c.place(PLAYGROUNDS, o), "f": f, "e": c.food(f)}


def _harvest(c: Casting) -> Cast:
    h = c.elder("grandfather grandmother") if c.rng.random() < 0.5 else c.animal("hedgehog hare badger bear piglet")
    w = c.one_of(FOODS, "turnip beet carrot cabbage potato", "huge")
    f = c.animal("dog horse goat cow bear wolf")
    g = c.animal("cat fox hen hare squirrel rooster duck piglet")
    m = c.animal("mouse sparrow ant bee frog snail grasshopper", "small")
    return {"h": h, "o": c.home(h), "w": w, "f": f, "g": g, "m": m}


def _trick(c: Casting) -> Cast:
    h = c.animal("hare squirrel mouse rooster hen kitten piglet hedgehog goat")
    o = c.home(h)
    e = c.one_of(FOODS, "pie cheese fish pancake pear apple")
    return {"h": h, "o": o, "v": c.animal("wolf fox"), "e": e, "p": c.place(PLAYGROUNDS, o)}


def _trap(c: Casting) -> Cast:
    h = c.animal("bear wolf fox")
    o = c.home(h)
    return {"h": h, "o": o, "f": c.animal("mouse squirrel hare"), "p": c.place("glade meadow hill field", o)}


def _share(c: Casting) -> Cast:
    h = c.animal("hare hedgehog squirrel mouse piglet badger beaver goat bear")
    f = c.animal("hare hedgehog squirrel mouse piglet badger beaver goat bear horse crow")
    o = c.home(h)
    food = c.one_of(FOODS, "apple pear plum nut mushroom carrot")
    count = c.rng.randint(3, 10)
    given = c.rng.randint(1, count - 1)
    counts = {"n": count, "k": given, "r": count - given}
    back = c.rng.choice([back for back in ("apple", "nut", "mushroom", "carrot") if back != food.noun])
    cast = {role: replace(food, count=count) for role, count in counts.items()}
    return cast | {"h": h, "o": o, "f": f, "p": c.place(PLAYGROUNDS, o), "e": Actor(back, plural=True)}


def _fear(c: Casting) -> Cast:
    h = c.hero("hare squirrel kitten piglet frog duck mouse")
    o = c.home(h)
    f = c.animal("dog rooster goat horse cow" if o.noun == "village" else "bear badger beaver fox wolf")
    g = c.animal("hedgehog mouse mole turtle frog")
    return {"h": h, "o": o, "f": f, "g": g, "e": c.food(g)}


def _house(c: Casting) -> Cast:
    h = c.animal("hare fox hedgehog cat goat rooster squirrel piglet")
    f = c.animal("bear beaver horse badger dog cow")
    g = c.animal("hen duck goat crow sparrow hare squirrel stork")
    return {"h": h, "o": c.home(h), "f": f, "g": g}


def _race(c: Casting) -> Cast:
    h = c.animal("hare horse fox dog wolf cat squirrel")
    f = c.animal("turtle snail hedgehog mole ant")
    o = c.home(h)
    return {"h": h, "o": o, "f": f, "p": c.place("oak river mill hill lake", o)}


def _sick(c: Casting) -> Cast:
    h = c.animal("hare hedgehog squirrel mouse kitten piglet cat dog fox")
    o = c.home(h)
    f = c.animal("hare badger mouse rooster hen frog sparrow")
    givers = {"honey": "bee bear", "milk": "cow goat", "raspberry": "bear stork hedgehog badger"}
    e = c.one_of(FOODS, "honey raspberry" if o.noun == "village" else "honey milk raspberry")
    g = c.animal(givers[e.noun])
    return {"h": h, "o": o, "f": f, "e": e, "g": g, "p": c.place(" ".join(_AWAY[g.noun]), o)}


def _fish(c: Casting) -> Cast:
    h = c.child() if c.rng.random() < 0.5 else c.elder()
    o = c.home(h)
    y = Actor("goldfish", "golden")
    return {"h": h, "o": o, "y": y, "p": c.place("river lake pond", o), "w": c.one_of(WISHES)}


def _store(c: Casting) -> Cast:
    h = c.animal("ant squirrel mouse hedgehog mole badger")
    stores = {"ant": "grain", "squirrel": "nut mushroom", "mouse": "grain nut", "mole": "carrot potato"}
    e = c.one_of(FOODS, stores.get(h.noun, "mushroom apple"))
    f = c.animal("grasshopper frog hare cat sparrow crow")
    return {"h": h, "o": c.home(h), "e": replace(e, plural=e.noun != "grain"), "f": f}


def _way(c: Casting) -> Cast:
    h = c.child()
    o = c.home(h)
    f = c.animal("bear wolf hare hedgehog squirrel owl crow stork badger fox")
    e = Actor(c.rng.choice(("mushroom", "berry", "nut")), plural=True)
    return {"h": h, "o": o, "e": e, "f": f, "p": c.place("mill river lake hill", o), "a": c.food(f)}


def _brood(c: Casting) -> Cast:
    h = c.animal(" ".join(YOUNG))
    o = c.home(h)
    f = c.animal("stork crow sparrow hedgehog frog beaver dog cat horse squirrel")
    k = Actor(YOUNG[h.noun], "small")
    count = c.rng.randint(6, 10)
    n, r = replace(k, count=count), replace(k, count=count - 1)
    return {"h": h, "o": o, "k": k, "n": n, "r": r, "f": f, "p": c.place("meadow field orchard river lake", o)}


@dataclass(frozen=True, slots=True)
class Plot:
    """A name, how its roles are cast, and its beats, paragraph by paragraph."""

    name: str
    cast: Callable[[Casting], Cast]
    paragraphs: tuple[tuple[str, ...], ...]


def _plot(cast: Callable[[Casting], Cast], beats: str) -> Plot:
    paragraphs = tuple(tuple(paragraph.split()) for paragraph in beats.split("|"))
    return Plot(cast.__name__.removeprefix("_"), cast, paragraphs)


PLOTS = (
    _plot(_lost, "open lose | search | help | end formula"),
    _plot(_harvest, "open grow | pull | call | all | end formula"),
    _plot(_trick, "open find | threat | ruse | end formula"),
    _plot(_trap, "open caught | plea | net | free | end formula"),
    _plot(_share, "open find | meet | share | winter | end formula"),
    _plot(_fear, "open noise | friend | go | truth | end formula"),
    _plot(_house, "open need | help | build | winter end formula"),
    _plot(_race, "open boast | bet | run finish | end formula"),
    _plot(_sick, "open ill | way | get | well | end formula"),
    _plot(_fish, "open catch | speak | wish | come end formula"),
    _plot(_store, "open summer | advice | winter | door | end formula"),
    _plot(_way, "open gather | lost | meet | home | end formula"),
    _plot(_brood, "open kids | gone | seek | found | end formula"),
)
