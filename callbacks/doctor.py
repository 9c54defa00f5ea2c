"""Looks at a training as it runs and says once what goes wrong and which setting to try (bulba/report/doctor.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from bulba.config.snapshot import write_json
from bulba.errors import ConfigError
from bulba.model.sharding import whole
from bulba.report.doctor import Doctor as Rules
from bulba.report.records import read_metrics
from bulba.stage.pretrain import Pretrain
from callbacks.lookup import find_callback
from callbacks.metrics import Metrics


class Doctor(L.Callback):
    """Reads what the Metrics callback read, and the norm of every layer's gradient each `layers_every_steps` steps.

    The norms stay on the device until the next reading. Findings go to doctor.json in the run folder.
    stop_on_overfit: end the training (saved, and open to a resume) once the validation loss rises while the training
    loss falls.
    """

    def __init__(self, layers_every_steps: int, stop_on_overfit: bool) -> None:
        if layers_every_steps < 1:
            raise ConfigError(f"callbacks.doctor.layers_every_steps={layers_every_steps} must be at least 1.")
        self.layers_every_steps, self.stop_on_overfit = layers_every_steps, stop_on_overfit
        self.rules = Rules()
        self._norms: Tensor | None = None
        self._read_step = -1

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        metrics = find_callback(trainer, Metrics)
        if metrics is None:
            raise ConfigError(
                "callbacks.doctor judges what callbacks.metrics reads, and that one was removed: leave both in, or "
                "remove both."
            )
        self._metrics = metrics

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._read_step = trainer.global_step
        folder = Path(trainer.default_root_dir)
        if trainer.global_step and (folder / "metrics.csv").exists():
            # What was found before the resume is in doctor.json already, and is not said again.
            for step, row in sorted(read_metrics(folder).items()):
                self.rules.see(step, row)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if (trainer.global_step + 1) % self.layers_every_steps:
            return
        layers = [[p.grad for p in layer.parameters() if p.grad is not None] for layer in layers_of(pl_module)]
        if all(layers):
            self._norms = torch.stack([whole(get_total_norm(gradients)) for gradients in layers])

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._metrics.read_step != self._read_step:
            self._read_step = self._metrics.read_step
            figures = dict(self._metrics.readings)
            if self._norms is not None:
                layers = layer_figures(self._norms)
                self._norms = None
                self._metrics.log_figures(trainer, layers)
                figures |= layers
            self._see(trainer, figures)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Pretrain)
        self._see(trainer, pl_module.val_figures)

    def _see(self, trainer: L.Trainer, figures: dict[str, float]) -> None:
        found = self.rules.see(trainer.global_step, figures)
        if not found:
            return
        if self.stop_on_overfit and any(finding.kind == "overfit" for finding in found):
            trainer.should_stop = True
        if trainer.is_global_zero:
            for finding in found:
                print(finding, flush=True)
            write_json(Path(trainer.default_root_dir) / "doctor.json", [vars(one) for one in self.rules.findings])


def layers_of(stage: L.LightningModule) -> list[nn.Module]:
    """The blocks of the model that a stage trains."""
    return list(cast("Any", stage).model.layers)


def layer_figures(norms: Tensor) -> dict[str, float]:
    """The smallest, the median and the largest gradient norm of a layer, and which layers have them."""
    values = norms.float().tolist()
    ordered = sorted(values)
    return {
        "layers/min_grad_norm": ordered[0],
        "layers/min_layer": values.index(ordered[0]),
        "layers/median_grad_norm": ordered[(len(ordered) - 1) // 2],
        "layers/max_grad_norm": ordered[-1],
        "layers/max_layer": values.index(ordered[-1]),
    }
