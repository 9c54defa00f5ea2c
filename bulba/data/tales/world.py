"""What is true in every tale, whatever its language: who lives where, eats what, moves how and looks how.

Everything here is a concept, an English word that each lexicon translates.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Animal:
    """What the tales know of an animal; every field but `gait` is a choice."""

    homes: tuple[str, ...]
    gait: str
    foods: tuple[str, ...]
    traits: tuple[str, ...]


def _rows(block: str) -> list[list[tuple[str, ...]]]:
    return [[tuple(cell.split(",")) for cell in line.split()] for line in block.strip().splitlines()]


def _traits(block: str) -> dict[str, tuple[str, ...]]:
    return {concept: traits for (concept,), traits in _rows(block)}


ANIMALS = {
    concept: Animal(homes, gait, foods, traits)
    for (concept,), homes, (gait,), foods, traits in _rows("""
        hare         forest,meadow  run    carrot,cabbage       small,grey,timid,nimble,white
        fox          forest         run    fish,cheese,pie      ginger,sly,clever,fluffy
        wolf         forest         run    fish,pie             grey,big,old
        bear         forest         walk   honey,raspberry      big,brown,strong,kind
        hedgehog     forest,glade   walk   apple,mushroom,pear  small,prickly,curious,clever
        squirrel     forest         run    nut,mushroom         ginger,fluffy,nimble,merry
        mouse        field,village  run    cheese,grain         small,grey,timid,clever
        frog         bog,lake       jump   raspberry,bread      green,merry,small,curious
        cat          village        run    milk,fish            grey,black,fluffy,old
        dog          village        run    pie,cheese           old,brave,kind,black
        goat         village        walk   cabbage,carrot       white,curious,merry,old
        rooster      village        walk   grain,bread          proud,ginger,brave,merry
        hen          village        walk   grain,bread          white,small,black,kind
        duck         lake,village   fly    bread,grain          white,grey,kind,old
        crow         forest,field   fly    cheese,bread         black,old,clever
        owl          forest         fly    pie,cheese           old,clever,grey
        sparrow      village        fly    grain,bread          small,grey,merry,nimble
        stork        bog,village    fly    fish,bread           white,proud,clever
        beaver       lake,river     walk   apple,carrot         strong,brown,clever,old
        badger       forest         walk   honey,apple,mushroom old,quiet,grey,kind
        mole         field,meadow   crawl  carrot,potato        black,small,quiet,old
        turtle       lake,bog       crawl  raspberry,cabbage    old,green,quiet,clever
        snail        meadow,glade   crawl  raspberry,cabbage    small,quiet,old
        ant          forest,glade   crawl  grain,raspberry      small,strong,black,nimble
        bee          meadow         fly    honey,raspberry      small,nimble,kind
        grasshopper  meadow,field   jump   raspberry,cabbage    green,merry,small
        kitten       village        run    milk,fish            small,white,fluffy,curious
        piglet       village        run    pie,potato,apple     small,white,curious,merry
        horse        village        run    carrot,apple         old,white,strong,kind
        cow          village        walk   cabbage,apple        brown,kind,old
    """)
}
CHILDREN = _traits("""
        boy          small,kind,brave,merry,curious,clever
        girl         small,kind,brave,merry,curious,clever
    """)
ELDERS = _traits("""
        grandfather  old,kind,poor
        grandmother  old,kind,poor
        fisherman    old,young,poor,kind
        miller       old,young,kind,merry
        shepherd     old,young,poor,merry
    """)
YOUNG = {"duck": "duckling", "hen": "chick", "goat": "kid", "fox": "cub"}
PLACES = _traits("""
        forest       dense,dark,old,green,distant
        glade        green,quiet,distant,sunny
        meadow       green,wide,distant
        field        wide,green,distant
        garden       big,old,green
        orchard      old,big,green
        bog          distant,quiet,green
        hill         high,green
        river        wide,quiet,deep
        lake         deep,quiet,big
        pond         old,quiet,deep
        village      distant,small,quiet,old
        oak          old,high,big
        mill         old,distant,big
    """)
THINGS = _traits("""
        ball         red,blue,yellow,new,green
        hat          warm,red,green,new,blue
        key          small,golden,old,silver
        basket       new,big,beautiful
        mitten       warm,blue,red,new
        scarf        warm,red,blue,green
        pipe         small,new,beautiful
        bell         silver,golden,small
        bag          new,big,old,blue
        doll         beautiful,small,new
    """)
FOODS = _traits("""
        apple        red,ripe,sweet,big
        pear         yellow,ripe,sweet,big
        plum         blue,ripe,sweet
        nut          big,ripe,tasty
        mushroom     white,big,beautiful
        berry        ripe,sweet,red
        carrot       sweet,tasty,big
        potato       big,tasty
        pie          tasty,hot,sweet
        pancake      tasty,hot,big
        cheese       tasty,fresh,yellow
        fish         fresh,tasty,big
        honey        sweet,fresh,golden
        raspberry    sweet,ripe,fresh
        milk         fresh,warm
        bread        fresh,tasty
        grain        golden,ripe
        cabbage      fresh,big,tasty
        turnip       huge
        beet         huge
    """)
WISHES = _traits("""
        house        new,big,warm,beautiful
        boat         new,big,beautiful
        cart         new,big
        cow          white,brown,beautiful
        horse        white,strong,beautiful,young
    """)
