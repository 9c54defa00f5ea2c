"""Checkpoints every few steps and whenever training ends, also by Ctrl-C or SIGTERM; the newest and the best stay.

They are written in the background (bulba/checkpoint_io.py). A step counts as saved only when its folder stands under
its name, flushed: what is reported as saved survives a kill -9 and a loss of power. A write that fails is said, the
older checkpoints stay, and training goes on; only a last step that cannot be saved makes the run fail.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch

from bulba.checkpoint_folder import checkpoint_folder, list_checkpoints
from bulba.checkpoint_io import FolderCheckpointIO
from bulba.errors import ConfigError, TrainingError
from bulba.files import remove_leftovers
from callbacks.guard import Guard
from callbacks.lookup import find_callback
from callbacks.metrics import not_counted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Checkpoints(L.Callback):
    """Saves every `every_steps` optimizer steps and at the end; keeps the `keep_last` newest and the best by val/bpb.

    The first Ctrl-C or SIGTERM ends the current step, saves, and stops; the second one stops at once.

    saved_step: the newest step that is on the disk, 0 for none.
    """

    def __init__(self, every_steps: int, keep_last: int) -> None:
        for name, value in (("every_steps", every_steps), ("keep_last", keep_last)):
            if value < 1:
                raise ConfigError(f"callbacks.checkpoints.{name}={value} must be at least 1.")
        self.every_steps, self.keep_last = every_steps, keep_last
        self.interrupted_by: int | None = None
        self.best: dict[str, Any] = {"step": None, "val/bpb": float("inf")}
        self.saved_step = 0
        self._last_step = self._asked_step = 0
        self._failure: str | None = None
        self._due = False
        self._generators: dict[str, Any] = {}
        self._previous_handlers: dict[int, Any] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            remove_leftovers(Path(trainer.default_root_dir) / "checkpoints")
            checkpoint_io(trainer).after_write = lambda folder: self._on_written(folder, Path(trainer.default_root_dir))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        while self._previous_handlers:
            signal.signal(*self._previous_handlers.popitem())

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_step = self._asked_step = self.saved_step = trainer.global_step
        # Only now: Lightning's own handler, installed before, would stop a step in the middle.
        for number in SIGNALS:
            self._previous_handlers[number] = signal.signal(number, self._on_signal)
        if self._generators:
            set_generators(self._generators)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._say_failure(trainer)
        step = trainer.global_step
        if step == self._last_step:
            return
        self._last_step = step
        if self.interrupted_by is not None:
            trainer.should_stop = True
        self._due = step % self.every_steps == 0 or trainer.should_stop
        # A step that is also validated is saved after that, so that its checkpoint knows whether it is the best.
        val_interval = int(trainer.val_check_batch or 0)
        if self._due and (batch_idx + 1) % val_interval:
            self.save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        figure = trainer.callback_metrics.get("val/bpb")
        if figure is not None and float(figure) < self.best["val/bpb"]:
            self.best = {"step": trainer.global_step, "val/bpb": float(figure)}
        if self._due:
            self.save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.save(trainer)
        self.wait(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        # Lightning leaves teardown out here.
        self.teardown(trainer, pl_module, "fit")
        self.wait(trainer)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Count the micro-batches behind the step as this run has them: their size or the ranks may have changed."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        done = checkpoint["global_step"] * trainer.accumulate_grad_batches
        for counts in (progress["total"], progress["current"]):
            counts |= {name: done - (counts["ready"] - count) for name, count in counts.items()}

    def save(self, trainer: L.Trainer) -> None:
        """Begin to save the present step, unless that was done; waits for the save before."""
        step = trainer.global_step
        if step == self._asked_step:
            return
        with not_counted(trainer, trainer.lightning_module.device):
            guard = find_callback(trainer, Guard)
            if guard:
                guard.read(trainer)
            checkpoint_io(trainer).wait()
            self._say_failure(trainer)
            self._asked_step, self._failure = step, None
            trainer.save_checkpoint(checkpoint_folder(Path(trainer.default_root_dir), step))

    def wait(self, trainer: L.Trainer) -> None:
        """Wait until the newest save is on the disk, or has failed."""
        checkpoint_io(trainer).wait()
        self._say_failure(trainer)

    def check_saved(self) -> None:
        """TrainingError where the newest step that was to be saved is not on the disk."""
        if self._failure is not None:
            raise TrainingError(f"the last checkpoint is missing: {self._failure}")

    def _on_written(self, folder: Path, run: Path) -> None:
        """Count the checkpoint that is now on the disk, and remove those that are neither new nor best."""
        self.saved_step = list_checkpoints(run)[-1].step
        for old in list_checkpoints(run)[: -self.keep_last]:
            if old.step != self.best["step"]:
                # Renamed first: killed in the middle, this leaves no half of a checkpoint under its name.
                gone = old.folder.replace(old.folder.with_name(f".unfinished-{old.folder.name}"))
                shutil.rmtree(gone, ignore_errors=True)

    def _say_failure(self, trainer: L.Trainer) -> None:
        error = checkpoint_io(trainer).take_error()
        if error is not None:
            newest = f"the newest one saved is step {self.saved_step}" if self.saved_step else "none is saved yet"
            self._failure = f"step {self._asked_step} was not saved, and {newest}: {error}"
            print(f"warning: {self._failure}", flush=True)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "generators": get_generators()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self._generators = state_dict["best"], state_dict["generators"]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted_by is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.interrupted_by = number


def checkpoint_io(trainer: L.Trainer) -> FolderCheckpointIO:
    """What writes the checkpoints of this trainer."""
    found = trainer.strategy.checkpoint_io
    assert isinstance(found, FolderCheckpointIO)
    return found


def get_generators() -> dict[str, Any]:
    """States of torch's random generators, CPU and GPUs."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": gpus}


def set_generators(states: dict[str, Any]) -> None:
    """Put back what `get_generators` gave; a GPU state is left out where there is no such GPU now."""
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_available():
        for index, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, index)
