"""The text that tokenizers are measured on: documents by language, and their words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bulba.data.documents import documents
from bulba.errors import DataError

# Letters with their stress marks; an apostrophe inside belongs to the word.
WORD = re.compile(r"(?:[^\W\d_][\u0300-\u036f]*)+(?:['’ʼ](?:[^\W\d_][\u0300-\u036f]*)+)*")
NFD_SAMPLE_CHARS = 500_000  # of each language
NFD_CUT_CHARS = 10_000  # taken of one document at most
MAX_SKIPPED = 20
LANGUAGES = ("be", "ru", "uk", "en", "code", "other")


@dataclass(frozen=True)
class LanguageText:
    """The documents of one language, in NFC, and how often each word occurs in them."""

    documents: list[str]

    @cached_property
    def words(self) -> Counter[str]:
        return Counter(word for text in self.documents for word in WORD.findall(text))

    @cached_property
    def num_chars(self) -> int:
        return sum(map(len, self.documents))

    @cached_property
    def num_bytes(self) -> int:
        return sum(len(text.encode()) for text in self.documents)

    def sample(self) -> list[str]:
        """Beginnings of documents, a few hundred thousand characters in all."""
        taken: list[str] = []
        room = NFD_SAMPLE_CHARS
        for text in self.documents:
            if room <= 0:
                break
            # The cut may leave a mark without its letter; NFC again, it is a text of its own.
            taken.append(unicodedata.normalize("NFC", text[: min(NFD_CUT_CHARS, room)]))
            room -= len(taken[-1])
        return taken


@dataclass(frozen=True)
class SampleText:
    """Text by language. origin: where it comes from. num_skipped: places that could not be read, skipped: the first."""

    languages: dict[str, LanguageText]
    origin: str
    num_skipped: int = 0
    skipped: list[str] = field(default_factory=list)

    @property
    def num_documents(self) -> int:
        return sum(len(text.documents) for text in self.languages.values())

    @property
    def num_bytes(self) -> int:
        return sum(text.num_bytes for text in self.languages.values())

    def divide(self, every: int) -> tuple[list[str], SampleText]:
        """Documents to learn from, and a text to measure on: every `every`-th document of each language."""
        learnt = [
            document
            for text in self.languages.values()
            for place, document in enumerate(text.documents)
            if place % every
        ]
        held_out = {name: LanguageText(text.documents[::every]) for name, text in self.languages.items()}
        return learnt, SampleText(held_out, self.origin)


def by_language(found: Iterable[tuple[str, str]]) -> dict[str, LanguageText]:
    """(text, language) pairs by language, in the order of `LANGUAGES`."""
    texts: dict[str, list[str]] = {}
    for text, language in found:
        texts.setdefault(language, []).append(text)
    return {name: LanguageText(texts[name]) for name in LANGUAGES if name in texts}


def read_text(paths: Sequence[Path], max_bytes: int, origin: str) -> SampleText:
    """A sample of the texts of files and folders; DataError where there are none."""
    skipped: list[str] = []
    languages = by_language(documents(paths, max_bytes, skipped.append))
    if not languages:
        reason = f" ({skipped[0]})" if skipped else ""
        raise DataError(f"no document was taken from {origin}{reason}: give more text, or a larger max_mb")
    return SampleText(languages, origin, len(skipped), skipped[:MAX_SKIPPED])
