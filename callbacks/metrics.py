"""Reads the figures of training off the device every few steps and hands them to the loggers.

perf/tokens_per_s counts predicted tokens over wall time since the last reading, validation, samples and checkpoints
left out. perf/data_wait_frac is the share of that time in which the step waited for its batch. perf/tflops_per_s are
the model's FLOPs (bulba/stage/flops.py) over the same time and all devices, perf/mfu their share of the peak.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch

from bulba.device import host_memory_bytes
from bulba.errors import ConfigError
from bulba.peak import Peak, peak_of
from bulba.stage.pretrain import Pretrain
from callbacks.lookup import find_callback

# Lightning's words for a precision, and ours.
PRECISIONS = {"32-true": "fp32", "bf16-mixed": "bf16", "16-mixed": "fp16"}


class Stopwatch:
    """Time that can be paused."""

    def __init__(self) -> None:
        self.seconds, self._since = 0.0, None  # type: float, float | None

    def start(self) -> None:
        self._since = time.perf_counter()

    def pause(self) -> None:
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
            self._since = None

    def take(self) -> float:
        """Seconds since the last take; goes on running."""
        self.pause()
        seconds, self.seconds = self.seconds, 0.0
        self.start()
        return seconds


class Metrics(L.Callback):
    """Logs train/*, perf/* every `every_steps` optimizer steps and at the last one, and val/* after each validation.

    figures: the newest value of everything logged here; the progress bar and the summary read it.
    """

    def __init__(self, every_steps: int) -> None:
        if every_steps < 1:
            raise ConfigError(f"callbacks.metrics.every_steps={every_steps} must be at least 1.")
        self.every_steps = every_steps
        self.figures: dict[str, float] = {}
        self.readings: dict[str, float] = {}  # train/* and perf/* of read_step
        self.read_step = -1
        self.total_tokens, self.total_flops, self.total_seconds = 0, 0, 0.0
        self.peak: Peak | None = None  # of one device; known once training starts
        self._row_flops: dict[int, int] = {}  # by the length of a row
        self._flops = 0  # of this device since the last reading
        self._watch, self._wait = Stopwatch(), Stopwatch()
        self._last_step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_step = trainer.global_step
        self.peak = peak_of(pl_module.device, PRECISIONS[trainer.precision])
        self.start()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._wait.pause()
        assert isinstance(pl_module, Pretrain)
        num_rows, seq_len = batch["inputs"].shape
        if seq_len not in self._row_flops:
            self.pause(pl_module.device)
            self._row_flops[seq_len] = pl_module.row_flops(seq_len)
            self._watch.start()
        self._flops += num_rows * self._row_flops[seq_len]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step != self._last_step:
            self._last_step = step
            if step % self.every_steps == 0 or step == trainer.max_steps:
                assert isinstance(pl_module, Pretrain)
                self._read(trainer, pl_module)
        self._wait.start()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.pause(pl_module.device)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Pretrain)
        self.log_figures(trainer, pl_module.val_figures)
        self.start()

    def start(self) -> None:
        """Go on counting time, from the end of a step."""
        self._watch.start()
        self._wait.start()

    def pause(self, device: torch.device) -> None:
        """Stop counting time once the device has done what was asked of it."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self._watch.pause()
        self._wait.pause()

    def speed(self, num_devices: int) -> dict[str, Any]:
        """FLOPs of the whole run, their rate, its share of the peak, and where the peak is from."""
        if self.peak is None or not self.total_seconds:
            return {}
        per_second = self.total_flops / self.total_seconds
        return {
            "train_flops": self.total_flops,
            "tflops_per_s": per_second / 1e12,
            "mfu": per_second / (self.peak.flops_per_s * num_devices),
            "peak_tflops_per_s": self.peak.flops_per_s / 1e12,
            "peak_source": self.peak.source,
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "total_tokens": self.total_tokens,
            "total_flops": self.total_flops,
            "total_seconds": self.total_seconds,
            "figures": self.figures,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.total_tokens, self.total_seconds = state_dict["total_tokens"], state_dict["total_seconds"]
        self.total_flops = state_dict.get("total_flops", 0)  # older checkpoints have none
        self.figures = state_dict["figures"]

    def _read(self, trainer: L.Trainer, stage: Pretrain) -> None:
        tokens = stage.train_tokens
        loss = stage.take_train_loss()
        seconds, waited = self._watch.take(), self._wait.take()
        self.total_tokens += tokens
        self.total_seconds += seconds
        flops, self._flops = self._flops * trainer.world_size, 0
        self.total_flops += flops
        assert stage.grad_norm is not None
        assert self.peak is not None
        figures = {
            "train/loss": loss,
            "train/lr": stage.learning_rate,
            "train/grad_norm": float(stage.grad_norm),
            "train/tokens": self.total_tokens,
            "perf/tokens_per_s": tokens / seconds,
            "perf/tflops_per_s": flops / seconds / 1e12,
            "perf/mfu": flops / seconds / (self.peak.flops_per_s * trainer.world_size),
            "perf/data_wait_frac": waited / seconds,
            "perf/host_memory_bytes": host_memory_bytes(),
        }
        if stage.scales_loss:
            figures["train/skipped_steps"] = int(stage.skipped_steps)
        if stage.compiled:
            figures["perf/recompiles"] = sum(part.recompiles for part in stage.compiled)
        if stage.device.type == "cuda":
            figures["perf/device_memory_bytes"] = torch.cuda.max_memory_allocated(stage.device)
        self.readings, self.read_step = figures, trainer.global_step
        self.log_figures(trainer, figures)

    def log_figures(self, trainer: L.Trainer, figures: dict[str, float]) -> None:
        """Hand figures of this step to the loggers."""
        self.figures |= figures
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step)


@contextmanager
def not_counted(trainer: L.Trainer, device: torch.device) -> Iterator[None]:
    """Keep what happens inside out of perf/*: writing samples, saving checkpoints."""
    metrics = find_callback(trainer, Metrics)
    if metrics:
        metrics.pause(device)
    try:
        yield
    finally:
        if metrics:
            metrics.start()
