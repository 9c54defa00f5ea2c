"""The figures of one tokenizer on a text.

Documents are counted whole, as a model reads them. A word is counted as it stands in a sentence, with the space before
it, every time it occurs: `tokens_per_word` is the fertility of Rust et al., "How Good is Your Tokenizer?", 2021, over
words of letters; digits, signs and line ends are in the characters per token alone.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bulba.bench.tokenizers.letters import CYRILLIC_ALPHABETS, KINDS, LETTER_KINDS, kind_of, letters_of, visible
from bulba.bench.tokenizers.text import LanguageText, SampleText
from bulba.bench.tokenizers.vocabularies import Ids, Vocabulary
from bulba.export.hard_strings import HARD_STRINGS

ALL = "all"
BATCH_CHARS = 1 << 21
CONTEXT_TOKENS = 1024
FREQUENT_WORDS = 2000  # of each language: those among which the most cut ones are shown
EXAMPLES = 12


@dataclass(frozen=True)
class LanguageFigures:
    """Counts of one language, or their sums over languages.

    tokens: of the documents. word_tokens: of the words alone. whole_words: words that are one token.
    fitting_documents: those of at most `CONTEXT_TOKENS` tokens. unknown_tokens: those that lose their text.
    nfc_tokens, nfd_tokens: of a sample in both forms, nfd_same of whose nfd_texts texts have the same ids in both.
    """

    documents: int
    words: int
    chars: int
    bytes: int
    tokens: int
    word_tokens: int
    whole_words: int
    fitting_documents: int
    unknown_tokens: int
    nfc_tokens: int
    nfd_tokens: int
    nfd_texts: int
    nfd_same: int

    @property
    def ratios(self) -> dict[str, float | None]:
        """What the counts say; None where there is nothing to divide by."""
        return {
            "chars_per_token": _ratio(self.chars, self.tokens),
            "bytes_per_token": _ratio(self.bytes, self.tokens),
            "tokens_per_word": _ratio(self.word_tokens, self.words),
            "whole_words_frac": _ratio(self.whole_words, self.words),
            "fitting_documents_frac": _ratio(self.fitting_documents, self.documents),
            "unknown_frac": _ratio(self.unknown_tokens, self.tokens),
            "nfd_cost": _ratio(self.nfd_tokens, self.nfc_tokens),
            "nfd_same_frac": _ratio(self.nfd_same, self.nfd_texts),
        }

    def as_dict(self) -> dict[str, Any]:
        return vars(self) | self.ratios


@dataclass(frozen=True)
class CutWord:
    """A frequent word that falls into many tokens."""

    word: str
    count: int
    pieces: list[str]


@dataclass(frozen=True)
class VocabularyFigures:
    """All figures of a tokenizer.

    languages: by language, and `ALL`. cut_words: by language, most tokens first. kinds: entries by `KINDS`, and
    longest: the longest of each with letters. learnt: entries of more than a byte, unused: those that the text never
    used, unused_examples: the first of them by id. missing_letters: letters that are no token, by alphabet. lost: hard
    strings that do not come back, and what came, of `hard_strings`.
    """

    name: str
    program: str
    vocab_size: int
    languages: dict[str, LanguageFigures]
    cut_words: dict[str, list[CutWord]]
    kinds: dict[str, int]
    longest: dict[str, list[str]]
    learnt: int
    unused: int
    unused_examples: list[str]
    missing_letters: dict[str, str]
    hard_strings: int
    lost: list[tuple[str, str]]

    def as_dict(self) -> dict[str, Any]:
        return vars(self) | {
            "languages": {name: figures.as_dict() for name, figures in self.languages.items()},
            "cut_words": {name: [vars(word) for word in words] for name, words in self.cut_words.items()},
        }


def measure(vocabulary: Vocabulary, text: SampleText) -> VocabularyFigures:
    """Everything about one tokenizer."""
    table = vocabulary.token_bytes()
    uses = np.zeros(len(table), np.int64)
    languages: dict[str, LanguageFigures] = {}
    cut_words: dict[str, list[CutWord]] = {}
    for name, one in text.languages.items():
        words = encode_words(vocabulary, one.words)
        languages[name] = count_tokens(vocabulary, one, words, uses)
        cut_words[name] = _cut_words(one.words, words, table)
    languages[ALL] = total(languages.values())
    kinds = list(map(kind_of, table))
    learnt = [index for index, token in enumerate(table) if len(token) > 1]
    unused = [index for index in learnt if not uses[index]]
    spelt = set(table)
    return VocabularyFigures(
        name=vocabulary.name,
        program=vocabulary.program,
        vocab_size=vocabulary.vocab_size,
        languages=languages,
        cut_words=cut_words,
        kinds=dict.fromkeys(KINDS, 0) | Counter(kinds),
        longest={kind: _longest(table, kinds, kind) for kind in LETTER_KINDS},
        learnt=len(learnt),
        unused=len(unused),
        unused_examples=[visible(table[index]) for index in unused[:EXAMPLES]],
        missing_letters={
            name: "".join(letter for letter in letters_of(name) if letter.encode() not in spelt)
            for name in CYRILLIC_ALPHABETS
        },
        hard_strings=len(HARD_STRINGS),
        lost=list(lost_strings(vocabulary, HARD_STRINGS)),
    )


def count_tokens(
    vocabulary: Vocabulary, text: LanguageText, words: dict[str, Ids], uses: NDArray[np.int64]
) -> LanguageFigures:
    """The counts of one language; adds to `uses` how often each id occurs in the documents."""
    sizes: list[int] = []
    unknown = 0
    for batch in _batches(text.documents):
        encoded = vocabulary.encode(batch)
        sizes += map(len, encoded)
        ids = np.concatenate(encoded)
        uses += np.bincount(ids, minlength=len(uses))
        unknown += int((ids == vocabulary.unknown_id).sum()) if vocabulary.unknown_id is not None else 0
    nfc = text.sample()
    as_nfc = vocabulary.encode(nfc)
    as_nfd = vocabulary.encode([unicodedata.normalize("NFD", one) for one in nfc])
    return LanguageFigures(
        documents=len(text.documents),
        words=text.words.total(),
        chars=text.num_chars,
        bytes=text.num_bytes,
        tokens=sum(sizes),
        word_tokens=sum(count * len(words[word]) for word, count in text.words.items()),
        whole_words=sum(count for word, count in text.words.items() if len(words[word]) == 1),
        fitting_documents=sum(size <= CONTEXT_TOKENS for size in sizes),
        unknown_tokens=unknown,
        nfc_tokens=sum(map(len, as_nfc)),
        nfd_tokens=sum(map(len, as_nfd)),
        nfd_texts=len(nfc),
        nfd_same=sum(map(np.array_equal, as_nfc, as_nfd)),
    )


def total(figures: Iterable[LanguageFigures]) -> LanguageFigures:
    """The sum of counts over languages."""
    rows = [vars(one) for one in figures]
    return LanguageFigures(**{name: sum(row[name] for row in rows) for name in rows[0]})


def lost_strings(vocabulary: Vocabulary, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Texts that do not come back from their ids, as they were or in NFC, with what came back."""
    for text, ids in zip(texts, vocabulary.encode(texts), strict=True):
        returned = vocabulary.decode(ids)
        if returned not in (text, unicodedata.normalize("NFC", text)):
            yield text, returned


def encode_words(vocabulary: Vocabulary, words: Counter[str]) -> dict[str, Ids]:
    """Ids of every different word."""
    encoded: dict[str, Ids] = {}
    for batch in _batches(list(words)):
        encoded |= zip(batch, vocabulary.encode_words(batch), strict=True)
    return encoded


def _cut_words(words: Counter[str], encoded: dict[str, Ids], table: list[bytes]) -> list[CutWord]:
    frequent = words.most_common(FREQUENT_WORDS)
    frequent.sort(key=lambda pair: (-len(encoded[pair[0]]), -pair[1], pair[0]))
    return [
        CutWord(word, count, [visible(table[index]) for index in encoded[word]])
        for word, count in frequent[:EXAMPLES]
        if len(encoded[word]) > 1
    ]


def _longest(table: list[bytes], kinds: list[str], kind: str) -> list[str]:
    """The longest of a kind by characters."""
    tokens = [token.decode() for token, its_kind in zip(table, kinds, strict=True) if its_kind == kind]
    return [visible(token.encode()) for token in sorted(tokens, key=len, reverse=True)[:EXAMPLES]]


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Texts in lists of about `BATCH_CHARS` characters, so that their ids need little memory."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
