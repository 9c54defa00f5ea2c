"""The live progress bar: loss, tokens per second, time left. Without a terminal, one plain line at each reading."""

from __future__ import annotations

from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from bulba.errors import ConfigError
from callbacks.lookup import find_callback
from callbacks.metrics import Metrics


class Progress(L.Callback):
    """Moves every `every_steps` steps; the figures come from the Metrics callback, so nothing waits for the device."""

    def __init__(self, every_steps: int) -> None:
        if every_steps < 1:
            raise ConfigError(f"callbacks.progress.every_steps={every_steps} must be at least 1.")
        self.every_steps = every_steps
        self.console = Console()
        self._printed_step = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._metrics = find_callback(trainer, Metrics)
        if self._metrics is None:
            raise ConfigError(
                "callbacks.progress shows what callbacks.metrics reads, and that one was removed: leave both in, or "
                "remove both."
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._printed_step = trainer.global_step
        self._bar = Bar(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
            disable=not (self.console.is_terminal and trainer.is_global_zero),
        )
        self._bar.start()
        self._task = self._bar.add_task("", total=trainer.max_steps, completed=trainer.global_step, figures="")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step % self.every_steps == 0 or step == trainer.max_steps:
            self._bar.update(self._task, completed=step, figures=self._line())

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self.console.print(f"step {trainer.global_step}: {self._line()}", highlight=False)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._bar.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if hasattr(self, "_bar"):
            self._bar.stop()

    def _line(self) -> str:
        assert self._metrics is not None
        figures, parts = self._metrics.figures, []
        for name, form in (
            ("train/loss", "loss {:.3f}"),
            ("val/bpb", "val {:.3f} bits/byte"),
            ("perf/tokens_per_s", "{:,.0f} tokens/s"),
        ):
            if name in figures:
                parts.append(form.format(figures[name]))
        return "  ".join(parts)
