"""Micro-batches for training and validation, from the memory-mapped token files.

Which micro-batches an optimizer step reads is a pure function of (seed, step): step s reads the micro-batches
s * n .. s * n + n of the sampler's order, with n = batch_size / micro_batch_size, and the ranks take them in turn. So a
resume needs one integer, and the number of devices does not change the sequence.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import lightning as L
import torch
from torch import Tensor

from bulba.config.build import build
from bulba.data.cleaning import Cleaning
from bulba.data.dedup import Dedup
from bulba.data.prefetch import Prefetch
from bulba.data.prepare import PreparedData, Progress, Source, TokenizerSpec, prepare, read_part
from bulba.data.sampler import Mode, Sampler
from bulba.data.tokenizer import Tokenizer
from bulba.data.tokens import TokenFile
from bulba.errors import ConfigError
from bulba.packing import document_offsets, of_any_length

Batch = dict[str, Tensor]
# Micro-batches made ahead: enough to bridge a slow read, and a few megabytes.
PREFETCHED = 4


@dataclass(frozen=True)
class Share:
    """Which part of every step this process reads: `rank` of `world_size`."""

    rank: int = 0
    world_size: int = 1


class MicroBatches:
    """An endless stream of micro-batches from `start_step` on, in the order of the steps, made ahead by one thread.

    Each is {inputs, targets: int64 [rows, T]; positions, documents: int32 [rows, T]; offsets: int32 [documents + 1], of
    bulba/packing.py; step_tokens: int64 []}, where step_tokens counts the predicted tokens of the whole optimizer step
    over all ranks, the divisor of its loss. Bucketed micro-batches differ in rows and T.

    micro_batches_per_step: over all ranks; a multiple of their number.
    wait_seconds: how long the training loop has waited for micro-batches since the newest iterator began.
    """

    def __init__(
        self,
        sampler: Sampler,
        micro_batches_per_step: int,
        share: Share,
        start_step: Callable[[], int],
        pin_memory: bool = False,
    ) -> None:
        # Lightning takes whatever has an attribute "sampler" for a DataLoader of torch.
        self._sampler, self.micro_batches_per_step, self.share = sampler, micro_batches_per_step, share
        self.start_step, self.pin_memory = start_step, pin_memory
        self._prefetch: Prefetch[Batch] | None = None

    @property
    def wait_seconds(self) -> float:
        return self._prefetch.wait_seconds if self._prefetch else 0.0

    def __iter__(self) -> Iterator[Batch]:
        self._prefetch = Prefetch(self._make(self.start_step()), PREFETCHED)
        try:
            yield from self._prefetch
        finally:
            self._prefetch.close()

    def _make(self, step: int) -> Iterator[Batch]:
        sampler, units = self._sampler, self._sampler.units_per_micro_batch
        while True:
            first = step * self.micro_batches_per_step
            step_tokens = sampler.count_targets(first * units, self.micro_batches_per_step * units)
            for number in range(self.share.rank, self.micro_batches_per_step, self.share.world_size):
                batch = read_units(sampler, (first + number) * units, units, self.pin_memory)
                batch["step_tokens"] = torch.empty((), dtype=torch.int64, pin_memory=self.pin_memory).fill_(step_tokens)
                yield batch
            step += 1


class FixedBatches:
    """The first `count` units of a sampler, the same at every pass: micro-batches of `size`, dealt out to the ranks."""

    def __init__(self, sampler: Sampler, count: int, size: int, share: Share, pin_memory: bool = False) -> None:
        self._sampler, self.count, self.size, self.pin_memory = sampler, count, size, pin_memory
        self._starts = range(0, count, size)[share.rank :: share.world_size]

    def __iter__(self) -> Iterator[Batch]:
        for start in self._starts:
            yield read_units(self._sampler, start, min(self.size, self.count - start), self.pin_memory)

    def __len__(self) -> int:
        return len(self._starts)


def read_units(sampler: Sampler, first: int, count: int, pin_memory: bool = False) -> Batch:
    """The units first .. first + count of `sampler`, which have one shape, as fresh tensors.

    Pinned tensors come from torch's caching host allocator: it takes the memory of one back only when the copies from
    it that run on any stream are done, so a batch may be dropped right after a non_blocking copy.
    """
    rows, length = sampler.shape(first)
    dtypes = {"inputs": torch.int64, "targets": torch.int64, "positions": torch.int32, "documents": torch.int32}
    batch = {
        name: torch.empty((count * rows, length), dtype=dtype, pin_memory=pin_memory) for name, dtype in dtypes.items()
    }
    sampler.fill(first, count, **{name: tensor.numpy() for name, tensor in batch.items()})
    offsets = document_offsets(batch["documents"])
    batch["offsets"] = offsets.pin_memory() if pin_memory else offsets
    return batch


def weights_of(sources: Sequence[Source]) -> list[float] | None:
    """The weights of the sources; None where none has one, so that each has its natural share."""
    weights = [source.weight for source in sources if source.weight is not None]
    if not weights:
        return None
    if len(weights) < len(sources):
        bare = next(str(source.path) for source in sources if source.weight is None)
        raise ConfigError(f"data.sources gives some sources a weight and {bare} none: give every source one, or none.")
    return weights


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
        mode: Mode = "chunked",
        cleaning: dict[str, Any] | None = None,
        dedup: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if mode not in get_args(Mode):
            raise ConfigError(f"data.mode={mode} must be chunked, packed or bucketed.")
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
        self.mode = mode
        # The configs of runs from before these existed have none.
        self.cleaning: Cleaning = build(cleaning, path="data.cleaning") if cleaning else Cleaning()
        self.dedup: Dedup = build(dedup, path="data.dedup") if dedup else Dedup()

    @abstractmethod
    def sources(self) -> list[Source]:
        """The files and folders to read, with their weights."""

    def prompts(self) -> dict[str, list[str]]:
        """Openings for the samples, by language; none means that samples start from nothing."""
        return {"": [""]}

    def prepare(self, tokenizer: TokenizerSpec, progress: Progress | None = None) -> PreparedData:
        """Read, clean, tokenize and write the texts, or find that done already."""
        sources = self.sources()
        weights = weights_of(sources)
        self.prepared = prepare(
            sources,
            tokenizer,
            cache_dir=self.cache_dir,
            val_frac=self.val_frac,
            seed=self.seed,
            on_bad=self.on_bad,
            cleaning=self.cleaning,
            dedup=self.dedup,
            progress=progress,
        )
        self.tokenizer = Tokenizer.load(self.prepared.tokenizer_path)
        fingerprint = self.prepared.tokenizer_fingerprint
        self.train_file = TokenFile(self.prepared.train_path, tokenizer_fingerprint=fingerprint)
        self.val_file = TokenFile(self.prepared.val_path, tokenizer_fingerprint=fingerprint)
        self.train_sampler = Sampler(
            self.train_file,
            self.seq_len,
            mode=self.mode,
            seed=self.seed,
            weights=weights,
            rows_per_micro_batch=self.micro_batch_size,
        )
        # Validation is the same whatever the training: rows of contiguous tokens in the order of the file.
        self.val_sampler = Sampler(self.val_file, self.seq_len)
        return self.prepared

    def read_part(self, part: int, num_parts: int) -> dict[str, int]:
        """Read one of `num_parts` parts of the input files ahead of `prepare`, as another process or machine may."""
        return read_part(self.sources(), self.cache_dir, part, num_parts, on_bad=self.on_bad, cleaning=self.cleaning)

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

    @property
    def pin_memory(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Everything but step_tokens, which the host reads and would have to wait for."""
        batch = {
            name: tensor if name == "step_tokens" else tensor.to(device, non_blocking=True)
            for name, tensor in batch.items()
        }
        of_any_length(batch["offsets"])
        return batch

    def train_dataloader(self) -> MicroBatches:
        return MicroBatches(
            self.train_sampler,
            self.batch_size // self.micro_batch_size,
            self.share,
            start_step=lambda: self.trainer.global_step if self.trainer else 0,
            pin_memory=self.pin_memory,
        )

    def val_dataloader(self) -> FixedBatches:
        """The first `val_rows` rows of the validation file, always the same; ranks take turns."""
        total = self.val_sampler.num_units
        count = total if self.val_rows is None else min(total, self.val_rows)
        return FixedBatches(self.val_sampler, count, self.micro_batch_size, self.share, self.pin_memory)
