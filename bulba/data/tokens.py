"""Token files and the samples in them: the Python face of the compiled `TokenFile`.

`docs/format.md` specifies the file. Row r of length T reads tokens[r*T : r*T + T + 1]: T inputs and, one
further, T targets. With a seed, sample s lies in epoch s // rows and a keyed permutation of that epoch
gives its row, so the order is a pure function of (seed, s) and a resume needs one integer. Without a seed,
sample s is row s.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bulba import _rust

IGNORE_TARGET = -100
"""Target of a token whose successor belongs to another document, and of padding."""


class TokenFile:
    """A read-only token file, mapped into memory. Safe to share between threads; pickles as its path.

    Args:
        path: a file written by `bulba.data.prepare`.
        tokenizer_fingerprint: SHA-256 (hex) of the tokenizer.json that must have made it; None takes any.

    Raises:
        DataError: the file is missing, foreign, truncated, of another version, has a damaged header, or was
            made with another tokenizer.
    """

    def __init__(self, path: str | Path, tokenizer_fingerprint: str | None = None) -> None:
        self.path = Path(path)
        self._file = _rust.TokenFile(self.path, tokenizer_fingerprint)

    def __reduce__(self) -> tuple[type["TokenFile"], tuple[Path, str]]:
        return TokenFile, (self.path, self.tokenizer_fingerprint)

    def __repr__(self) -> str:
        return f"TokenFile({str(self.path)!r}, {self.num_tokens} tokens, {self.num_documents} documents)"

    @property
    def num_tokens(self) -> int:
        return self._file.num_tokens

    @property
    def num_documents(self) -> int:
        return self._file.num_documents

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of the text behind the tokens: the denominator of bits per byte."""
        return self._file.text_bytes

    @property
    def vocab_size(self) -> int:
        return self._file.vocab_size

    @property
    def bos_id(self) -> int | None:
        return self._file.bos_id

    @property
    def eos_id(self) -> int | None:
        return self._file.eos_id

    @property
    def pad_id(self) -> int | None:
        return self._file.pad_id

    @property
    def tokenizer_fingerprint(self) -> str:
        """SHA-256 (hex) of the bytes of the tokenizer.json that made the file."""
        return self._file.tokenizer_fingerprint

    def num_rows(self, seq_len: int, partial: bool = False) -> int:
        """Rows of `seq_len` targets.

        The full ones, which are the samples of one training epoch; with `partial` also the last one, padded,
        which are the samples of one evaluation (`seed=None`).

        Raises:
            DataError: the file holds less than one row.
        """
        return self._file.eval_rows(seq_len) if partial else self._file.rows(seq_len)

    def check_rows(self, seq_len: int) -> None:
        """Raises DataError if the file holds less than one full row."""
        self.num_rows(seq_len)

    def fill(
        self,
        first_sample: int,
        count: int,
        seed: int | None,
        inputs: NDArray[np.int64],
        targets: NDArray[np.int64],
        positions: NDArray[np.int32],
        documents: NDArray[np.int32],
    ) -> int:
        """Fills caller-owned arrays with samples first_sample .. first_sample + count.

        Args:
            seed: order of a training run; None for natural order, where samples beyond the last row are
                all padding.
            inputs: int64 [count, seq_len], C-contiguous, as all four. Padding is pad_id.
            targets: int64; the next token, or `IGNORE_TARGET` where that one begins another document.
            positions: int32; 0 at each start of a document and at the start of the row.
            documents: int32; 0, 1, 2, ... within each row, padding with a number of its own.

        Returns:
            How many targets are not `IGNORE_TARGET`.

        Raises:
            DataError: a wrong shape or dtype, fewer tokens than a row, or a token id outside the vocabulary.
        """
        return self._file.fill(first_sample, count, seed, inputs, targets, positions, documents)

    def count_targets(self, first_sample: int, count: int, seq_len: int, seed: int | None) -> int:
        """What `fill` would return, without reading a token."""
        return self._file.count_targets(first_sample, count, seq_len, seed)

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        """Tokens start .. start + count as int64 [count]."""
        ids = np.empty(count, dtype=np.int64)
        self._file.read(start, ids)
        return ids

    def document(self, index: int) -> NDArray[np.int64]:
        """The ids of one document with its bos and eos, int64 [length]."""
        start, stop, _ = self._file.document(index)
        return self.read(start, stop - start)

    def document_source(self, index: int) -> int:
        """Which source (its place in the list given to `prepare`) the document came from."""
        return self._file.document(index)[2]

    def verify(self) -> None:
        """Reads the whole file and compares its checksums.

        Raises:
            DataError: a region of the file has changed since it was written.
        """
        self._file.verify()
