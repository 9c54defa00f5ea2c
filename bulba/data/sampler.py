"""Batches of a token file in an order that is a pure function of (seed, number): the face of the compiled `Sampler`.

The order is over units. `chunked`: a unit is a row of seq_len contiguous tokens. `packed`: a row of whole documents,
filled best-fit (Ding et al. 2024, arXiv 2404.10830). `bucketed`: a micro-batch of rows of one of at most eight lengths.
`docs/format.md` specifies the rows, the order, and the plan file that packed and bucketed keep beside the token file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bulba import _rust
from bulba.data.tokens import TokenFile

IGNORE_TARGET = -100
"""Target of padding and, in chunked rows, of a token whose successor belongs to another document."""

Mode = Literal["chunked", "packed", "bucketed"]


@dataclass(frozen=True)
class Piece:
    """A run of tokens of one document in a unit: the inputs at [row, column : column + length].

    They are the tokens first_token .. first_token + length of the file.
    """

    row: int
    column: int
    length: int
    document: int
    first_token: int


class Sampler:
    """Units of `file` in a seeded order, or in their own order without a seed. Safe to share between threads.

    Args:
        seq_len: tokens in the longest rows.
        seed: order of a training run; None for the order of the file, where units behind the last one are all padding.
        weights: share of each source in the targets, up to a common factor, each source with epochs of its own; None
            for one shuffled pool, in which each source has the share of its size.
        rows_per_micro_batch: how many rows of seq_len a micro-batch has; `bucketed` fits its units to as many tokens.
        num_threads: at most this many share the work of a large batch.
        progress: called with (done, total) while the plan of packed or bucketed rows is made.

    Raises:
        DataError: fewer tokens than a row, weights that fit no source, or a plan that cannot be written.
    """

    def __init__(
        self,
        file: TokenFile,
        seq_len: int,
        *,
        mode: Mode = "chunked",
        seed: int | None = None,
        weights: Sequence[float] | None = None,
        rows_per_micro_batch: int = 1,
        num_threads: int = 1,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        self.file, self.seq_len, self.mode = file, seq_len, mode
        self._sampler = _rust.Sampler(
            file.compiled,
            seq_len,
            mode=mode,
            seed=seed,
            weights=weights,
            rows=rows_per_micro_batch,
            num_threads=num_threads,
            progress=progress,
        )
        self.units_per_micro_batch = 1 if mode == "bucketed" else rows_per_micro_batch

    @property
    def num_units(self) -> int:
        """Units in one pass through everything; chunked training leaves out what is left behind the last full row."""
        return self._sampler.num_units

    @property
    def num_targets(self) -> int:
        """Predicted tokens in one pass through everything."""
        return self._sampler.num_targets

    @property
    def padding_frac(self) -> float:
        """Share of the room in the units of one pass that holds no target."""
        return 1 - self._sampler.num_targets / self._sampler.num_slots

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(rows, length) of every kind of unit, ascending by length."""
        return self._sampler.shapes

    def shape(self, number: int) -> tuple[int, int]:
        """(rows, length) of unit `number` of the order."""
        return self._sampler.shape(number)

    def fill(
        self,
        first: int,
        count: int,
        inputs: NDArray[np.int64],
        targets: NDArray[np.int64],
        positions: NDArray[np.int32] | None = None,
        documents: NDArray[np.int32] | None = None,
    ) -> int:
        """Fills caller-owned arrays with the units first .. first + count, which must have one shape.

        Args:
            inputs: int64 [count * rows, length], C-contiguous, as all four. Padding is pad_id.
            targets: int64; the next token, or `IGNORE_TARGET`.
            positions: int32 or None; 0 at the start of each piece of a document.
            documents: int32 or None; 0, 1, 2, ... within each row, padding with a number of its own.

        Returns:
            How many targets are not `IGNORE_TARGET`.

        Raises:
            DataError: a wrong shape or dtype, or a token id outside the vocabulary.
        """
        return self._sampler.fill(first, count, inputs, targets, positions, documents)

    def count_targets(self, first: int, count: int) -> int:
        """What `fill` would return, without reading a token."""
        return self._sampler.count_targets(first, count)

    def pieces(self, number: int) -> list[Piece]:
        """Where the tokens of unit `number` come from, row by row."""
        return [Piece(*fields) for fields in self._sampler.pieces(number)]

    def verify(self) -> None:
        """Reads the whole plan, if there is one; DataError if it changed since it was written."""
        self._sampler.verify()
