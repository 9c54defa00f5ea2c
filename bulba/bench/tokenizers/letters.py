"""Tokens as people read them: the script of a token, its text made visible, and the alphabets."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

ALPHABETS = {
    "be": "абвгдеёжзійклмнопрстуўфхцчшыьэюя",
    "ru": "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
    "uk": "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя",
    "en": "abcdefghijklmnopqrstuvwxyz",
}
LETTER_KINDS = ("Cyrillic", "Latin", "mixed Cyrillic", "other scripts")
KINDS = (*LETTER_KINDS, "digits", "signs and spaces", "part bytes", "special")
CYRILLIC_ALPHABETS = ("be", "ru", "uk")
LETTER_CATEGORIES = ("Lu", "Ll", "Lt", "Lo")  # without modifier letters, such as the apostrophe ʼ
VISIBLE = {" ": "␣", "\n": "⏎", "\r": "␍", "\t": "⇥", "\u00a0": "⍽"}
REPEATED = re.compile(r"(.{1,4}?)\1{4,}", re.DOTALL)


def kind_of(token: bytes) -> str:
    """Which of `KINDS` a token is: by the scripts of its letters, or what it is without letters."""
    if not token:
        return "special"
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return "part bytes"
    scripts = {_script(character) for character in text if unicodedata.category(character) in LETTER_CATEGORIES}
    if not scripts:
        return "digits" if any(character.isdigit() for character in text) else "signs and spaces"
    if scripts in ({"Cyrillic"}, {"Latin"}):
        return scripts.pop()
    # Mostly Latin letters that look like Cyrillic ones.
    return "mixed Cyrillic" if "Cyrillic" in scripts else "other scripts"


@cache
def _script(letter: str) -> str:
    """The first word of the letter's Unicode name: Cyrillic, Latin, Cjk, ..."""
    return unicodedata.name(letter, "unknown").split()[0].split("-")[0].capitalize()


def visible(token: bytes) -> str:
    """The text of a token with spaces and line ends to be seen, bytes as \\xd0, long repeats counted."""
    text = token.decode("utf-8", errors="backslashreplace")
    text = REPEATED.sub(lambda found: f"{found[1]}×{len(found[0]) // len(found[1])}", text)
    text = "".join(VISIBLE.get(character, character) for character in text)
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)


def letters_of(language: str) -> str:
    """The alphabet, capitals first."""
    return ALPHABETS[language].upper() + ALPHABETS[language]
