"""Are near copies found, and nothing else dropped? Copies of a known Jaccard index, planted and searched for.

A passage of 50 to 5000 words is edited, word by word, until the Jaccard index of the two sets of five-word sequences
(`jaccard`) is within 0.01 of the target. The table has, for each target::

    candidates  share of the pairs that the signatures bring together: each pair alone, any threshold met
    expected    the same by the formula 1 - (1 - J^6)^20
    recall      share of the pairs at or above the threshold that are found, among all passages at once
    precision   share of what is dropped there that really is at or above the threshold
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bulba import _rust
from bulba.data.tales import LANGUAGES, tale
from bulba.errors import ConfigError, DataError

TARGETS = (0.7, 0.8, 0.9)
TOLERANCE = 0.01
NUM_WORDS = (50, 5000)  # of a passage, evenly on a logarithmic scale
WORD = re.compile(r"[^\W_]+")
ACCENTS = re.compile("[\u0300-\u036f\u00ad]")


@dataclass(frozen=True)
class PlantedPair:
    """A passage and its edited copy; `jaccard` is that of the two."""

    passage: str
    copy: str
    jaccard: float


@dataclass(frozen=True)
class Found:
    """What became of the pairs of one target; shares from 0 to 1, None where there is nothing to share."""

    target: float
    pairs: int
    candidates: float
    expected: float
    recall: float | None
    precision: float | None


def measure_dedup(folder: str | None = None, pairs: int = 300, threshold: float = 0.8, seed: int = 0) -> list[Found]:
    """Plant `pairs` near copies for each target and print how many are found.

    The passages come from the .txt and .md files of `folder`, or from the embedded tales.
    """
    rng = random.Random(seed)
    words = _words_of_folder(Path(folder), rng) if folder else _words_of_tales(rng)
    planted = {target: [plant(_take(words, rng), target, rng) for _ in range(pairs)] for target in TARGETS}
    found = [find_planted(target, planted[target], threshold) for target in TARGETS]
    table = Table("Jaccard", "pairs", "candidates", "expected", f"recall at {threshold}", "precision")
    for row in found:
        shares = ("-" if share is None else f"{share:.4f}" for share in (row.recall, row.precision))
        table.add_row(f"{row.target}", f"{row.pairs}", f"{row.candidates:.4f}", f"{row.expected:.4f}", *shares)
    Console().print(table)
    return found


def find_planted(target: float, pairs: list[PlantedPair], threshold: float) -> Found:
    """Search for the pairs: each alone for the candidates, all together for recall and precision."""
    lowest = target - 2 * TOLERANCE
    candidates = [bool(_rust.find_duplicates([pair.passage, pair.copy], lowest, num_threads=1)) for pair in pairs]
    # Passages first, then copies, so that the two of a pair are far apart.
    texts = [pair.passage for pair in pairs] + [pair.copy for pair in pairs]
    dropped = {index: of for index, of, _, _ in _rust.find_duplicates(texts, threshold)}
    near = {len(pairs) + number: pair for number, pair in enumerate(pairs) if pair.jaccard >= threshold}
    right = [index for index, of in dropped.items() if jaccard(texts[index], texts[of]) >= threshold]
    return Found(
        target=target,
        pairs=len(pairs),
        candidates=sum(candidates) / len(pairs),
        expected=sum(1 - (1 - pair.jaccard**6) ** 20 for pair in pairs) / len(pairs),
        recall=sum(index in dropped for index in near) / len(near) if near else None,
        precision=len(right) / len(dropped) if dropped else None,
    )


def plant(words: list[str], target: float, rng: random.Random) -> PlantedPair:
    """A copy of the passage with words replaced, left out and put in until its Jaccard index is that of the target.

    Raises:
        DataError: no number of edits comes within the tolerance, because the passage is too short or repeats itself.
    """
    passage = " ".join(words)
    sequences = five_word_sequences(passage)
    for _ in range(1000):
        copy, index = list(words), 1.0
        while index > target + TOLERANCE:
            missing = _num_edits(len(words), target) - _num_edits(len(words), index)
            for _ in range(max(1, int(0.8 * missing))):
                edit(copy, words, rng)
            index = _jaccard(sequences, five_word_sequences(" ".join(copy)))
        if index >= target - TOLERANCE:
            return PlantedPair(passage, " ".join(copy), index)
    raise DataError(
        f"no edits bring a passage of {len(words)} words to a Jaccard index of {target}: use longer or other texts."
    )


def _num_edits(num_words: int, index: float) -> float:
    """About how many: one takes away five sequences and makes as many, where it is far from others and the ends."""
    return num_words * (1 - index) / (1 + index) / 5


def edit(copy: list[str], words: list[str], rng: random.Random) -> None:
    """Replace, leave out or put in one word, each as often as the others."""
    place = rng.randrange(len(copy))
    kind = rng.randrange(3)
    copy[place : place + (kind != 0)] = [] if kind == 1 else [rng.choice(words)]


def jaccard(first: str, second: str) -> float:
    """Of the two sets of five-word sequences, from the definition: the share of all sequences that both texts have."""
    return _jaccard(five_word_sequences(first), five_word_sequences(second))


def _jaccard(first: set[tuple[str, ...]], second: set[tuple[str, ...]]) -> float:
    return len(first & second) / max(1, len(first | second))


def five_word_sequences(text: str) -> set[tuple[str, ...]]:
    """Words are letters and digits in lower case; stress marks and soft hyphens do not count."""
    words = WORD.findall(ACCENTS.sub("", text).replace("ʼ", "'").lower())
    return set(zip(*(words[start:] for start in range(5)), strict=False))


def _take(words: Iterator[str], rng: random.Random) -> list[str]:
    """The next words as a passage, so that no two passages overlap."""
    shortest, longest = NUM_WORDS
    length = round(shortest * (longest / shortest) ** rng.random())
    passage = list(islice(words, length))
    if len(passage) < length:
        raise ConfigError("the folder has too few words for so many pairs: set fewer pairs or add text.")
    return passage


def _words_of_tales(rng: random.Random) -> Iterator[str]:
    while True:
        yield from tale(rng.choice(LANGUAGES), rng).split()


def _words_of_folder(folder: Path, rng: random.Random) -> Iterator[str]:
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".txt", ".md"))
    if not files:
        raise ConfigError(f"{folder} has no .txt or .md files to take passages from: set another folder.")
    rng.shuffle(files)
    for file in files:
        yield from file.read_text(encoding="utf-8", errors="replace").split()  # odd words are as good as any
