"""Rows of tokens for training and validation, from the memory-mapped token files.

Which rows an optimizer step reads is a pure function of (seed, step): step s reads samples s * batch_size and on, and
the Rust sampler permutes samples with a key. So a resume needs one integer, and neither the number of devices nor the
micro-batch size changes the sequence.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning as L
import numpy as np
import torch
from torch import Tensor

from bulba.data.prepare import PreparedData, Source, TokenizerSpec, prepare
from bulba.data.tokenizer import Tokenizer
from bulba.data.tokens import TokenFile
from bulba.errors import ConfigError

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Share:
    """Which part of every step this process reads: `rank` of `world_size`."""

    rank: int = 0
    world_size: int = 1


class MicroBatches:
    """An endless stream of micro-batches from `start_step` on, in the order of the steps.

    Each is {inputs, targets: int64 [rows, T]; positions, documents: int32 [rows, T]; step_tokens: int64 []}, where
    step_tokens counts the predicted tokens of the whole optimizer step over all ranks, the divisor of its loss.
    """

    def __init__(
        self,
        file: TokenFile,
        seq_len: int,
        batch_size: int,
        micro_batch_size: int,
        seed: int,
        share: Share,
        start_step: Callable[[], int],
    ) -> None:
        self.file, self.seq_len, self.seed, self.share = file, seq_len, seed, share
        self.batch_size, self.micro_batch_size = batch_size, micro_batch_size
        self.start_step = start_step

    def __iter__(self) -> Iterator[Batch]:
        step = self.start_step()
        rows_per_pass = self.micro_batch_size * self.share.world_size
        while True:
            first = step * self.batch_size
            step_tokens = self.file.count_targets(first, self.batch_size, self.seq_len, self.seed)
            for offset in range(0, self.batch_size, rows_per_pass):
                sample = first + offset + self.share.rank * self.micro_batch_size
                batch = read_rows(self.file, sample, self.micro_batch_size, self.seq_len, self.seed)
                yield batch | {"step_tokens": torch.tensor(step_tokens)}
            step += 1


class FixedBatches:
    """The same batches at every pass, read once."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


def read_rows(file: TokenFile, first: int, count: int, seq_len: int, seed: int | None) -> Batch:
    """`count` rows of `file` from sample `first` on, as fresh tensors; `seed` None reads in the file's order."""
    inputs, targets = np.empty((2, count, seq_len), np.int64)
    positions, documents = np.empty((2, count, seq_len), np.int32)
    file.fill(first, count, seed, inputs, targets, positions, documents)
    arrays = {"inputs": inputs, "targets": targets, "positions": positions, "documents": documents}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


class TextData(L.LightningDataModule):
    """Texts to rows: prepares (or finds) the token files of its `sources()`, then serves them.

    The sizes are documented in conf/data/_base.yaml. Raises ConfigError for sizes that do not fit each other and
    DataError for texts that cannot be used.
    """

    def __init__(
        self,
        *,
        seq_len: int,
        batch_size: int,
        micro_batch_size: int,
        val_frac: float,
        val_rows: int | None,
        on_bad: Literal["skip", "fail"],
        seed: int,
        cache_dir: str,
    ) -> None:
        super().__init__()
        if not 0 < val_frac < 1:
            raise ConfigError(f"data.val_frac={val_frac} must lie between 0 and 1, such as 0.02.")
        for name, value in (
            ("seq_len", seq_len),
            ("batch_size", batch_size),
            ("micro_batch_size", micro_batch_size),
        ):
            if value < 1:
                raise ConfigError(f"data.{name}={value} must be at least 1.")
        if val_rows is not None and val_rows < 1:
            raise ConfigError(f"data.val_rows={val_rows} must be at least 1, or null for all.")
        self.seq_len, self.batch_size, self.micro_batch_size = seq_len, batch_size, micro_batch_size
        self.val_frac, self.val_rows, self.on_bad, self.seed = val_frac, val_rows, on_bad, seed
        self.cache_dir = Path(cache_dir)

    @abstractmethod
    def sources(self) -> list[Source]:
        """The files and folders to read, with their weights."""

    def prompts(self) -> dict[str, list[str]]:
        """Openings for the samples, by language; none means that samples start from nothing."""
        return {"": [""]}

    def prepare(self, tokenizer: TokenizerSpec) -> PreparedData:
        """Read, tokenize and pack the texts, or find that done already."""
        self.prepared = prepare(
            self.sources(),
            tokenizer,
            cache_dir=self.cache_dir,
            val_frac=self.val_frac,
            seed=self.seed,
            on_bad=self.on_bad,
        )
        self.tokenizer = Tokenizer.load(self.prepared.tokenizer_path)
        fingerprint = self.prepared.tokenizer_fingerprint
        self.train_file = TokenFile(self.prepared.train_path, tokenizer_fingerprint=fingerprint)
        self.val_file = TokenFile(self.prepared.val_path, tokenizer_fingerprint=fingerprint)
        self.train_file.check_rows(self.seq_len)
        return self.prepared

    def accumulation(self, num_devices: int) -> int:
        """Micro-batches per optimizer step and device; ConfigError where they do not divide the batch."""
        rows = self.micro_batch_size * num_devices
        if self.batch_size % rows:
            raise ConfigError(
                f"data.batch_size={self.batch_size} is not divisible by data.micro_batch_size="
                f"{self.micro_batch_size} x {num_devices} device(s) = {rows}: make it a multiple of {rows}."
            )
        return self.batch_size // rows

    @property
    def share(self) -> Share:
        return Share(self.trainer.global_rank, self.trainer.world_size) if self.trainer else Share()

    def train_dataloader(self) -> MicroBatches:
        return MicroBatches(
            self.train_file,
            self.seq_len,
            self.batch_size,
            self.micro_batch_size,
            self.seed,
            self.share,
            start_step=lambda: self.trainer.global_step if self.trainer else 0,
        )

    def val_dataloader(self) -> FixedBatches:
        """The first `val_rows` rows of the validation file, always the same; ranks take turns."""
        total = self.val_file.num_rows(self.seq_len, partial=True)
        count = total if self.val_rows is None else min(total, self.val_rows)
        starts = range(0, count, self.micro_batch_size)[self.share.rank :: self.share.world_size]
        return FixedBatches(
            [
                read_rows(self.val_file, start, min(self.micro_batch_size, count - start), self.seq_len, seed=None)
                for start in starts
            ]
        )
