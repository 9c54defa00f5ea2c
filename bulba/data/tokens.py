"""Token files: the Python face of the compiled `TokenFile`. `docs/format.md` specifies the file."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bulba import _rust


@dataclass(frozen=True)
class Document:
    """Where a document of a token file lies and where it came from: tokens start .. stop of the file.

    source: its place in `TokenFile.sources`. file: name of the input file within its source. language: be, ru, uk, en,
    code or other.
    """

    start: int
    stop: int
    source: int
    source_name: str
    file: str
    language: str


class TokenFile:
    """A read-only token file, mapped into memory. Safe to share between threads; pickles as its path.

    Args:
        path: a file written by `bulba.data.prepare`.
        tokenizer_fingerprint: SHA-256 (hex) of the tokenizer.json that must have made it; None takes any.

    Raises:
        DataError: the file is missing, foreign, truncated, of another version or byte order, has a damaged header, or
            was made with another tokenizer.
    """

    def __init__(self, path: str | Path, tokenizer_fingerprint: str | None = None) -> None:
        self.path = Path(path)
        self.compiled = _rust.TokenFile(self.path, tokenizer_fingerprint)

    def __reduce__(self) -> tuple[type["TokenFile"], tuple[Path, str]]:
        return TokenFile, (self.path, self.tokenizer_fingerprint)

    def __repr__(self) -> str:
        return f"TokenFile({str(self.path)!r}, {self.num_tokens} tokens, {self.num_documents} documents)"

    @property
    def num_tokens(self) -> int:
        return self.compiled.num_tokens

    @property
    def num_documents(self) -> int:
        return self.compiled.num_documents

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of the text behind the tokens: the denominator of bits per byte."""
        return self.compiled.text_bytes

    @property
    def vocab_size(self) -> int:
        return self.compiled.vocab_size

    @property
    def bos_id(self) -> int | None:
        return self.compiled.bos_id

    @property
    def eos_id(self) -> int | None:
        return self.compiled.eos_id

    @property
    def pad_id(self) -> int | None:
        return self.compiled.pad_id

    @property
    def tokenizer_fingerprint(self) -> str:
        """SHA-256 (hex) of the bytes of the tokenizer.json that made the file."""
        return self.compiled.tokenizer_fingerprint

    @cached_property
    def sources(self) -> list[tuple[str, list[str]]]:
        """Name of each source and the names of its input files."""
        return self.compiled.sources

    @property
    def source_spans(self) -> list[range]:
        """The documents of each source, which lie together."""
        spans = self.compiled.spans
        return [range(first, last) for first, last in pairwise(spans)]

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        """Tokens start .. start + count as int64 [count]."""
        ids = np.empty(count, dtype=np.int64)
        self.compiled.read(start, ids)
        return ids

    def document(self, index: int) -> NDArray[np.int64]:
        """The ids of one document with its bos and eos, int64 [length]."""
        start, stop, *_ = self.compiled.document(index)
        return self.read(start, stop - start)

    def document_source(self, index: int) -> int:
        """Which source (its place in the list given to `prepare`) the document came from."""
        return self.compiled.document(index)[2]

    def describe(self, index: int) -> Document:
        """Place, source, input file and language of one document."""
        start, stop, source, origin, language = self.compiled.document(index)
        source_name, file = self.compiled.origin(origin)
        return Document(start, stop, source, source_name, file, _rust.TokenFile.LANGUAGES[language])

    def verify(self) -> None:
        """Reads the whole file and compares its checksums.

        Raises:
            DataError: the file has changed since it was written; the message names the damaged block of 16 MiB.
        """
        self.compiled.verify()
