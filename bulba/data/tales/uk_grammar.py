"""Ukrainian words and how they inflect: the tables of `grammar`, the lexicon, and the sounds between words.

The norm is that of the orthography of 2019. Of parallel forms the tales use one: animate masculines take -ові, -еві
in the dative and locative.
"""

from __future__ import annotations

import re
from typing import ClassVar

from bulba.data.tales.grammar import Grammar


class UkrainianGrammar(Grammar):
    """The paradigms of Ukrainian; ``%`` is the dative, ``&`` the locative and ``!`` the vocative of masculines."""

    NOUN_CLASSES: ClassVar = {
        "m": "- а % = ом & ! | и ів ам = ами ах",  # вовк
        "ms": "ь я еві = ем еві ю | і ів ям = ями ях",  # ведмідь
        "mo": "о а ові = ом ові у | и ів ам = ами ах",  # Сашко
        "f": "а и @ у ою @ о | и - ам = ами ах",  # коза
        "fs": "я і і ю ею і е | і ь ям = ями ях",  # лисиця
        "fm": "а і і у ею і е | і - ам = ами ах",  # груша
        "n": "о а у = ом @ о | а - ам = ами ах",  # болото
        "ns": "е я ю = ем і е | я ів ям = ями ях",  # поле
        "nt": "я яти яті = ям яті я | ята ят ятам = ятами ятах",  # кошеня
        "nh": "а ати аті = ам аті а | ата ат атам = атами атах",  # курча
    }
    ADJECTIVE_CLASSES: ClassVar = {
        "h": ("ий ого ому = им ому", "а ої ій у ою ій", "е ого ому е им ому", "і их им = ими их"),  # добрий
        "j": ("ій ього ьому = ім ьому", "я ьої ій ю ьою ій", "є ього ьому є ім ьому", "і іх ім = іми іх"),  # синій
    }
    VERB_CLASSES: ClassVar = {
        "А": "ю єш є ємо ють",  # гуляю
        "Е": "у еш е емо уть",  # знайду
        "И": "ю иш ить имо ять",  # люблю
        "У": "у иш ить имо ять",  # сиджу
        "Ч": "у иш ить имо ать",  # бачу
        "Ї": "ю їш їть їмо ять",  # стою
    }
    PRONOUNS: ClassVar = {
        "він": (
            "він його йому його ним ньому",
            "вона її їй її нею ній",
            "воно його йому його ним ньому",
            "вони їх їм їх ними них",
        ),
        "свій": (
            "свій свого своєму = своїм своєму",
            "своя своєї своїй свою своєю своїй",
            "своє свого своєму своє своїм своєму",
            "свої своїх своїм = своїми своїх",
        ),
        "мій": (
            "мій мого моєму = моїм моєму",
            "моя моєї моїй мою моєю моїй",
            "моє мого моєму моє моїм моєму",
            "мої моїх моїм = моїми моїх",
        ),
        "один": (
            "один одного одному = одним одному",
            "одна однієї одній одну однією одній",
            "одне одного одному одне одним одному",
            "одні одних одним = одними одних",
        ),
        "справжній": ("справжній", "справжня", "справжній", "справжні"),  # as in a real friend
        # Nouns for a person that come in pairs agree like pronouns do.
        "друг": (
            "друг друга другові друга другом другові",
            "подруга подруги подрузі подругу подругою подрузі",
            "друг друга другові друга другом другові",
            "друзі друзів друзям друзів друзями друзях",
        ),
    }
    ONE = "один"
    AFTER_PREPOSITION: ClassVar = {"його": "нього", "її": "неї", "їх": "них"}
    SMALL_NUMERALS: ClassVar = {
        2: {"m": "два двох двом = двома двох", "f": "дві двох двом = двома двох"},
        3: {"m": "три трьох трьом = трьома трьох"},
        4: {"m": "чотири чотирьох чотирьом = чотирма чотирьох"},
    }
    LARGE_NUMERALS: ClassVar = {
        5: "п’ять п’яти п’яти п’ять п’ятьма п’яти",
        6: "шість шести шести шість шістьма шести",
        7: "сім семи семи сім сьома семи",
        8: "вісім восьми восьми вісім вісьма восьми",
        9: "дев’ять дев’яти дев’яти дев’ять дев’ятьма дев’яти",
        10: "десять десяти десяти десять десятьма десяти",
    }
    INFINITIVE, REFLEXIVE_INFINITIVE, PAST = "ти", "тися", ("в", "о", "и")

    def attach(self, stem: str, ending: str, animate: bool = False) -> str:
        last = stem[-1]
        if ending == "-":
            return stem
        if ending == "!":
            if stem.endswith(("ик", "вк", "чк", "шк", "жк")) and stem != "вовк":
                return stem + "у"
            return stem[:-1] + {"к": "че", "г": "же", "х": "ше"}.get(last, last + "е")
        if ending in ("%", "&") and animate:
            return stem + "ові"
        if ending == "%" or (ending == "&" and last == "к"):
            return stem + "у"
        if ending in ("&", "@"):
            return stem[:-1] + {"к": "ці", "г": "зі", "х": "сі"}.get(last, last + "і")
        return stem + ending

    def reflexive(self, key: str, form: str) -> str:
        return form + ("ться" if key == "3sg" and not form.endswith("ть") else "ся")


PREPOSITIONS = frozenset(["в", "у", "з", "із", "за", "від", "до", "на", "для", "без", "перед", "під", "над", "біля"])
_VOWEL = "аеєиіїоуюя"
_CONSONANT = "бвгґджзйклмнпрстфхцчшщ"
# What stands before a word: a vowel, or a pause (anything but a letter), or else a consonant.
_AFTER_VOWEL = rf"(?<=[{_VOWEL}{_VOWEL.upper()}] )"
_AFTER_CONSONANT = rf"(?<=[{_CONSONANT}{_CONSONANT.upper()}ьЬ] )"
_NO_V = "[вф]|[лстхдз]ь?в"  # before these у stays у even after a vowel
_ALTERNATING = "же|сі|се|зя|тік|тек|дома|двох|трьох|ряту|вечері|ранці|ночі|зимку|літку|перед"  # уже - вже, усі - всі
_RULES = (
    # у - в: the preposition, then the words that begin with either.
    (re.compile(rf"{_AFTER_VOWEL}у (?!{_NO_V})"), "в "),
    (re.compile(rf"\bу (?=[{_VOWEL}])"), "в "),
    (re.compile(rf"\bУ (?=[{_VOWEL}])"), "В "),
    (re.compile(rf"{_AFTER_VOWEL}у(?={_ALTERNATING})"), "в"),
    # і - й: the conjunction, then the verb to go.
    (re.compile(rf"{_AFTER_VOWEL}і (?![йяюєї])"), "й "),
    (re.compile(rf"{_AFTER_VOWEL}і(?=(?:шов|шла|шло|шли|де|деш|ти)\b)"), "й"),
    # з - із - зі.
    (re.compile(rf"\b([зЗ]) (?=[зсцчшщж][{_CONSONANT}]|мною)"), r"\1і "),
)
_WITH_VOWEL = str.maketrans({"з": "із", "З": "Із"})
_WITH = re.compile(rf"\b[зЗ] (?=[зсшщ])|{_AFTER_CONSONANT}з (?=[{_CONSONANT}])")


def polish(text: str) -> str:
    """The sounds between words: у or в, і or й, з, із or зі (orthography of 2019, §§ 23-25).

    The templates write у, і and з, which stay after a consonant and after a pause. After a vowel they become в
    (not before в, ф, св, тв and the like) and й (not before й, я, ю, є, ї); before a vowel у becomes в anyway.
    З becomes зі before a cluster that a sibilant opens, із before з, с, ш, щ and between consonants.
    """
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return _WITH.sub(lambda match: match[0].translate(_WITH_VOWEL), text)
