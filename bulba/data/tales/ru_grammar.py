"""Russian words and how they inflect: the tables of `grammar`, the lexicon, and the sounds between words."""

from __future__ import annotations

import re
from typing import ClassVar

from bulba.data.tales.grammar import Adjective, Grammar, Noun


class RussianGrammar(Grammar):
    """The paradigms of Russian."""

    NOUN_CLASSES: ClassVar = {
        "m": "- а у = ом е | ы ов ам = ами ах",  # волк
        "mc": "- а у = ем е | ы ев ам = ами ах",  # заяц
        "ms": "ь я ю = ем е | и ей ям = ями ях",  # медведь
        "mse": "ь я ю = ём е | и ей ям = ями ях",  # конь
        "mj": "й я ю = ём е | и ёв ям = ями ях",  # воробей
        "mk": "- а у = ом е | а - ам = ами ах",  # котёнок, котята
        "f": "а ы е у ой е | ы - ам = ами ах",  # лиса
        "fh": "а ы е у ей е | ы - ам = ами ах",  # груша
        "fs": "я и е ю ей е | и ь ям = ями ях",  # Оля
        "n": "о а у = ом е | а - ам = ами ах",  # болото
        "ns": "е я ю = ем е | я ей ям = ями ях",  # поле
    }
    ADJECTIVE_CLASSES: ClassVar = {
        "h": ("ый ого ому = ым ом", "ая ой ой ую ой ой", "ое ого ому ое ым ом", "ые ых ым = ыми ых"),  # добрый
        "o": ("ой ого ому = ым ом", "ая ой ой ую ой ой", "ое ого ому ое ым ом", "ые ых ым = ыми ых"),  # большой
        "x": ("ий его ему = им ем", "ая ей ей ую ей ей", "ее его ему ее им ем", "ие их им = ими их"),  # рыжий
        "j": ("ий его ему = им ем", "яя ей ей юю ей ей", "ее его ему ее им ем", "ие их им = ими их"),  # синий
    }
    VERB_CLASSES: ClassVar = {
        "А": "ю ешь ет ем ют",  # гуляю
        "Е": "у ешь ет ем ут",  # плачу
        "Ё": "у ёшь ёт ём ут",  # найду
        "Ю": "ю ёшь ёт ём ют",  # смеюсь
        "И": "ю ишь ит им ят",  # люблю
        "У": "у ишь ит им ят",  # вижу
        "Ч": "у ишь ит им ат",  # лежу
    }
    PRONOUNS: ClassVar = {
        "он": ("он его ему его им нём", "она её ей её ею ней", "оно его ему его им нём", "они их им их ими них"),
        "свой": (
            "свой своего своему = своим своём",
            "своя своей своей свою своей своей",
            "своё своего своему своё своим своём",
            "свои своих своим = своими своих",
        ),
        "мой": (
            "мой моего моему = моим моём",
            "моя моей моей мою моей моей",
            "моё моего моему моё моим моём",
            "мои моих моим = моими моих",
        ),
        "один": (
            "один одного одному = одним одном",
            "одна одной одной одну одной одной",
            "одно одного одному одно одним одном",
            "одни одних одним = одними одних",
        ),
        # Nouns for a person that come in pairs agree like pronouns do.
        "друг": (
            "друг друга другу друга другом друге",
            "подруга подруги подруге подругу подругой подруге",
            "друг друга другу друга другом друге",
            "друзья друзей друзьям друзей друзьями друзьях",
        ),
    }
    ONE = "один"
    AFTER_PREPOSITION: ClassVar = {
        "его": "него",
        "ему": "нему",
        "им": "ним",
        "её": "неё",
        "ей": "ней",
        "ею": "ней",
        "их": "них",
        "ими": "ними",
    }
    SMALL_NUMERALS: ClassVar = {
        2: {"m": "два двух двум = двумя двух", "f": "две двух двум = двумя двух"},
        3: {"m": "три трёх трём = тремя трёх"},
        4: {"m": "четыре четырёх четырём = четырьмя четырёх"},
    }
    LARGE_NUMERALS: ClassVar = {
        5: "пять пяти пяти пять пятью пяти",
        6: "шесть шести шести шесть шестью шести",
        7: "семь семи семи семь семью семи",
        8: "восемь восьми восьми восемь восемью восьми",
        9: "девять девяти девяти девять девятью девяти",
        10: "десять десяти десяти десять десятью десяти",
    }
    INFINITIVE, REFLEXIVE_INFINITIVE, PAST = "ть", "ться", ("л", "о", "и")

    def attach(self, stem: str, ending: str, animate: bool = False) -> str:
        if ending == "-":
            return stem
        return stem + ("и" + ending[1:] if ending[0] == "ы" and stem[-1] in "гкхжшщч" else ending)

    def reflexive(self, key: str, form: str) -> str:
        return form + ("сь" if form[-1] in "аеёиоуюя" else "ся")

    def few(self, noun: Noun, adjective: Adjective | None) -> list[str]:
        """The noun in the genitive singular; an adjective in the genitive plural, feminine in the nominative."""
        case = "nom" if noun.gender == "f" else "gen"
        return [*([adjective.agreeing("pl", False, case)] if adjective else []), noun.forms["gen"]]


PREPOSITIONS = frozenset(["в", "к", "у", "с", "на", "за", "от", "до", "из", "для", "без", "перед", "под", "над"])
_CONSONANT = "бвгджзклмнпрстфхцчшщ"
_VOCALISED = (
    (re.compile(rf"\b([вВ]) (?=[вф][{_CONSONANT}]|мн|двор|сне\b|льд)"), "о "),
    (re.compile(rf"\b([сС]) (?=[сзшж][{_CONSONANT}]|вс|мн|двор)"), "о "),
    (re.compile(r"\b([кК]) (?=вс|мн|двор)"), "о "),
)


def polish(text: str) -> str:
    """The sounds between words: в, с and к become во, со and ко before a cluster that needs it."""
    for pattern, tail in _VOCALISED:
        text = pattern.sub(rf"\1{tail}", text)
    return text
