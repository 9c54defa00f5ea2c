"""Estimates the weights by which `bulba_rust/core/src/language` tells languages apart, and prints them as Rust.

    python dev/language_weights.py FOLDER > bulba_rust/core/src/language/weights.rs

FOLDER holds one LANG.txt per language with a sentence a line; lines whose MD5 is odd are left for judging. The table
in the repository was made from:

- be, ru, uk, en: news and sentences of Common Voice (CC0), Universal Dependencies treebanks (CC BY-SA), novels of
  ELTeC (CC BY), Russian plays of DraCor (CC0) and prose and poems in the public domain, UA-GEC essays (CC BY);
  at most 20 000 sentences each of 40 to 400 letters.
- every other language: the message catalogues of Django 5.1, django CMS 5.1 and Wagtail 8.0 (BSD).

For each script there is a naive Bayes model: a weight for each letter, for the commonest words, and for the commonest
endings of three letters of longer words. Weights are log-probabilities in tenths of a nat; those of words and endings
are relative to the language where they are likeliest, and not below -50.
"""

import hashlib
import math
import re
import sys
from collections import Counter
from pathlib import Path

CYRILLIC = {
    "be": ["be"],
    "ru": ["ru"],
    "uk": ["uk"],
    "bg": ["bg"],
    "mk": ["mk"],
    "sr": ["sr"],
    "other": ["mn", "tg", "ky", "kk", "tt", "os"],
}
LATIN_OTHER = """
    de fr es it nl pl cs sk sl hr ro pt sv da nb fi hu tr lt lv et sr_Latn ca eu id
    sq bs az gl cy af is eo vi sw gd dsb hsb ga nn ms uz tk
"""
LATIN = {"en": ["en"], "other": LATIN_OTHER.split()}

CYRILLIC_LETTERS = "абвгдежзийклмнопрстуфхцчшщъыьэюяёіїєґўј*"
LATIN_LETTERS = "abcdefghijklmnopqrstuvwxyz*"
NUM_WORDS = 60
NUM_ENDINGS = 60
MIN_COUNT = 5
MAX_WORD_LETTERS = 8
ENDING_LETTERS = 3
MIN_LETTERS_WITH_ENDING = 5
SMOOTHING = 2e-4
MIN_WEIGHT = -5.0
"""In nats."""


def read(folder: Path, language: str) -> list[str]:
    file = folder / f"{language}.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [line for line in lines if hashlib.md5(line.encode()).digest()[0] % 2 == 0]


def words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())


def letter_weights(counts: dict[str, Counter[str]], letters: str) -> dict[str, list[float]]:
    totals = {name: sum(count.values()) for name, count in counts.items()}
    return {
        letter: [
            math.log((counts[name][letter] / totals[name] + SMOOTHING) / (1 + SMOOTHING * len(letters)))
            for name in counts
        ]
        for letter in letters
    }


def word_weights(counts: dict[str, Counter[str]], chosen: set[str]) -> dict[str, list[float]]:
    totals = {name: sum(count.values()) for name, count in counts.items()}
    weights = {}
    for word in sorted(chosen):
        logs = [math.log((counts[name][word] + 0.5) / (totals[name] + 500)) for name in counts]
        row = [max(log - max(logs), MIN_WEIGHT) for log in logs]
        if min(row) < -1:
            weights[word] = row
    return weights


def is_of(letter: str, cyrillic: bool) -> bool:
    return ("\u0400" <= letter <= "\u052f") if cyrillic else letter.isalpha() and letter < "\u0250"


def model(folder: Path, groups: dict[str, list[str]], letters: str) -> list[dict[str, list[float]]]:
    cyrillic = letters == CYRILLIC_LETTERS
    letter_counts: dict[str, Counter[str]] = {name: Counter() for name in groups}
    word_counts: dict[str, Counter[str]] = {name: Counter() for name in groups}
    ending_counts: dict[str, Counter[str]] = {name: Counter() for name in groups}
    for name, languages in groups.items():
        for language in languages:
            for line in read(folder, language):
                for letter in line.lower():
                    if is_of(letter, cyrillic):
                        letter_counts[name][letter if letter in letters else "*"] += 1
                for word in words(line):
                    if is_of(word[0], cyrillic):
                        word_counts[name][word] += 1
                        if len(word) >= MIN_LETTERS_WITH_ENDING:
                            ending_counts[name][word[-ENDING_LETTERS:]] += 1
    chosen_words, chosen_endings = set(), set()
    for name, languages in groups.items():
        # Several languages share a column, so it needs more words.
        common = word_counts[name].most_common(NUM_WORDS * min(len(languages), 3))
        chosen_words |= {word for word, n in common if n >= MIN_COUNT and len(word) <= MAX_WORD_LETTERS}
        common = ending_counts[name].most_common(NUM_ENDINGS)
        chosen_endings |= {ending for ending, n in common if n >= MIN_COUNT}
    return [
        letter_weights(letter_counts, letters),
        word_weights(word_counts, chosen_words),
        word_weights(ending_counts, chosen_endings),
    ]


def table(name: str, key: str, rows: dict[str, list[float]], width: int) -> str:
    quote = "'" if key == "char" else '"'
    lines, line = [], "   "
    for text, weights in rows.items():
        item = f" ({quote}{text}{quote}, [{', '.join(str(round(10 * weight)) for weight in weights)}]),"
        if len(line + item) > 118:
            lines.append(line)
            line = "   "
        line += item
    body = "\n".join([*lines, line])
    return f"#[rustfmt::skip]\npub const {name}: [({key}, [i8; {width}]); {len(rows)}] = [\n{body}\n];\n"


def main() -> None:
    folder = Path(sys.argv[1])
    parts = ["//! Made by `dev/language_weights.py`, which says from what; do not edit.\n"]
    for script, groups, letters in (("CYRILLIC", CYRILLIC, CYRILLIC_LETTERS), ("LATIN", LATIN, LATIN_LETTERS)):
        names = [f"{script}_LETTERS", f"{script}_WORDS", f"{script}_ENDINGS"]
        keys = ["char", "&str", "&str"]
        columns = ", ".join(groups)
        for name, key, rows in zip(names, keys, model(folder, groups, letters), strict=True):
            parts.append(f"/// Columns: {columns}.\n{table(name, key, rows, len(groups))}")
    print("\n".join(parts), end="")


if __name__ == "__main__":
    main()
