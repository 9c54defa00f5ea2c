"""Belarusian words and how they inflect: the tables of `grammar`, the lexicon, and the sounds between words.

Akanne is written in the stems (кот, ката; рака, рэкі), and stress decides between the classes ``m`` and ``me``,
``f`` and ``fe``, ``n`` and ``ne`` (endings ам, ай, а without it, ом, ой, о under it). The norm is that of the
orthography of 2008, so the conjunction і stays і after a vowel.
"""

from __future__ import annotations

import re
from typing import ClassVar

from bulba.data.tales.grammar import Grammar

VOWELS = "аеёіоуыэюя"


class BelarusianGrammar(Grammar):
    """The paradigms of Belarusian."""

    NOUN_CLASSES: ClassVar = {
        "m": "- а у = ам & | ы аў ам = амі ах",  # вожык
        "me": "- а у = ом & | ы оў ам = амі ах",  # кот
        "ms": "ь я ю = ем ю | і яў ям = ямі ях",  # мядзведзь
        "mse": "ь я ю = ём ю | і ёў ям = ямі ях",  # конь
        "ma": "а ы у у ам у | ы - ам = амі ах",  # сабака
        "f": "а ы @ у ай @ | ы - ам = амі ах",  # варона
        "fe": "а ы @ у ой @ | ы - ам = амі ах",  # сава
        "fs": "я і і ю яй і | і ь ям = ямі ях",  # бабуля
        "n": "а а у = ам & | ы - ам = амі ах",  # балота
        "ne": "о а у = ом & | ы - ам = амі ах",  # малако
        "ns": "е я ю = ем і | і яў ям = ямі ях",  # поле
        "nt": "я яці яці = ём яці | яты ят ятам = ятамі ятах",  # кацяня
    }
    ADJECTIVE_CLASSES: ClassVar = {
        "u": ("ы ага аму = ым ым", "ая ай ай ую ай ай", "ае ага аму ае ым ым", "ыя ых ым = ымі ых"),  # добры
        "s": ("ы ога ому = ым ым", "ая ой ой ую ой ой", "ое ога ому ое ым ым", "ыя ых ым = ымі ых"),  # стары
        "j": ("і яга яму = ім ім", "яя яй яй юю яй яй", "яе яга яму яе ім ім", "ія іх ім = імі іх"),  # сіні
    }
    VERB_CLASSES: ClassVar = {
        "А": "ю еш е ем юць",  # гуляю
        "Е": "у еш е ем уць",  # знайду, знойдзеш
        "Ё": "у еш е ём уць",  # жыву
        "Э": "у эш э ом уць",  # бяру
        "Ш": "у аш а ам уць",  # плачу
        "І": "ю іш іць ім яць",  # люблю
        "Ж": "у іш іць ім яць",  # гляджу
        "Ы": "у ыш ыць ым аць",  # ляжу
    }
    PRONOUNS: ClassVar = {
        "ён": ("ён яго яму яго ім ім", "яна яе ёй яе ёю ёй", "яно яго яму яго ім ім", "яны іх ім іх імі іх"),
        "свой": (
            "свой свайго свайму = сваім сваім",
            "свая сваёй сваёй сваю сваёй сваёй",
            "сваё свайго свайму сваё сваім сваім",
            "свае сваіх сваім = сваімі сваіх",
        ),
        "мой": (
            "мой майго майму = маім маім",
            "мая маёй маёй маю маёй маёй",
            "маё майго майму маё маім маім",
            "мае маіх маім = маімі маіх",
        ),
        "адзін": (
            "адзін аднаго аднаму = адным адным",
            "адна адной адной адну адной адной",
            "адно аднаго аднаму адно адным адным",
            "адны адных адным = аднымі адных",
        ),
        "сапраўдны": ("сапраўдны", "сапраўдная", "сапраўдны", "сапраўдныя"),  # as in a real friend
        # Nouns for a person that come in pairs agree like pronouns do.
        "сябар": (
            "сябар сябра сябру сябра сябрам сябру",
            "сяброўка сяброўкі сяброўцы сяброўку сяброўкай сяброўцы",
            "сябар сябра сябру сябра сябрам сябру",
            "сябры сяброў сябрам сяброў сябрамі сябрах",
        ),
    }
    ONE = "адзін"
    SMALL_NUMERALS: ClassVar = {
        2: {"m": "два двух двум = двума двух", "f": "дзве дзвюх дзвюм = дзвюма дзвюх"},
        3: {"m": "тры трох тром = трыма трох"},
        4: {"m": "чатыры чатырох чатыром = чатырма чатырох"},
    }
    LARGE_NUMERALS: ClassVar = {
        5: "пяць пяці пяці пяць пяццю пяці",
        6: "шэсць шасці шасці шэсць шасцю шасці",
        7: "сем сямі сямі сем сямю сямі",
        8: "восем васьмі васьмі восем васьмю васьмі",
        9: "дзевяць дзевяці дзевяці дзевяць дзевяццю дзевяці",
        10: "дзесяць дзесяці дзесяці дзесяць дзесяццю дзесяці",
    }
    INFINITIVE, REFLEXIVE_INFINITIVE, PAST = "ць", "цца", ("ў", "а", "і")

    def attach(self, stem: str, ending: str, animate: bool = False) -> str:
        last = stem[-1]
        if ending == "-":
            return stem[:-1] + "ў" if last == "в" else stem
        if ending == "&" and (animate or last == "к"):
            return stem + "у"
        if ending in ("&", "@"):
            softened = {"к": "цы", "г": "зе", "х": "се", "д": "дзе", "т": "це"}
            if last in softened:
                return stem[:-1] + softened[last]
            return stem + ("ы" if last in "ржшчц" else "е")
        if ending[0] == "ы" and last in "гкх":
            ending = "і" + ending[1:]
        return stem + ending

    def reflexive(self, key: str, form: str) -> str:
        if key == "3pl" or (key == "3sg" and form.endswith("ць")):
            return form.removesuffix("ць") + "цца"
        return form + ("цца" if key == "3sg" else "ся")


PREPOSITIONS: frozenset[str] = frozenset()  # no pronoun changes after one
_SEMIVOWEL = re.compile(rf"(?<=[{VOWELS}{VOWELS.upper()}] )у")
_WITH = re.compile(r"\b([зЗ]) (?=[сзшж][бвгджзклмнпрстфхцчш]|мной)")


def polish(text: str) -> str:
    """The sounds between words: у becomes ў after a vowel without a pause, з becomes са before a cluster.

    The rule of ў: at the beginning of a word, in small letters, right after a word that ends in a vowel, with nothing
    but a space between. No word of the lexicon begins with a stressed у, which would stay.
    """
    return _WITH.sub(lambda match: "са " if match[1] == "з" else "Са ", _SEMIVOWEL.sub("ў", text))
