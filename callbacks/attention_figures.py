"""What the mathematics of each attention says of its tokens as it learns: margins, angles, entropies, by layer.

attention/LAYER/NAME is the mean of a figure (`figures` of the mixer) over rows, tokens, heads and channels, those left
out where it is infinite; attention/LAYER/margin_min is the least margin. Whole numbers have no mean: they name the key,
the digit or the crossing that was chosen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from torch import Tensor

from bulba.attention.base import AttentionContext, Mixer
from bulba.errors import ConfigError
from bulba.model.gpt import GPT
from bulba.stage.pretrain import Pretrain, model_inputs
from callbacks.metrics import not_counted

SHAPE = re.compile(r"_[A-Z][A-Za-z]*$")
"""The letters of its dimensions behind the name of a figure."""
Readings = dict[str, Tensor]


class AttentionFigures(L.Callback):
    """Logs attention/* every `every_steps` optimizer steps and at the last one; null: never.

    num_rows: of the step's last micro-batch, which the model reads again after the step, without dropout. Training goes
    on as it would have without: modes and random states are put back. Every process reads rows of its own, and what is
    logged is of the first one's.
    Raises ConfigError as training starts where no layer has figures.
    """

    def __init__(self, every_steps: int | None, num_rows: int) -> None:
        for name, number in (("every_steps", every_steps), ("num_rows", num_rows)):
            if number is not None and number < 1:
                hint = ", or null for never" if name == "every_steps" else ""
                raise ConfigError(f"callbacks.attention_figures.{name}={number} must be at least 1{hint}.")
        self.every_steps, self.num_rows = every_steps, num_rows
        self._last_step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_step = trainer.global_step
        if self.every_steps is None:
            return
        assert isinstance(pl_module, Pretrain)
        # Some have figures with some options alone, so they are asked.
        if not self._read(trainer, pl_module, torch.zeros(1, 2, dtype=torch.int64, device=pl_module.device)):
            kinds = ", ".join(dict.fromkeys(type(mixer).__name__ for mixer in pl_module.model.mixers()))
            raise ConfigError(
                f"callbacks.attention_figures would log nothing, because {kinds} has no figures: set "
                "callbacks.attention_figures.every_steps=null, or choose another attention."
            )

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == self._last_step or self.every_steps is None:
            return
        self._last_step = step
        if step % self.every_steps and step != trainer.max_steps:
            return
        assert isinstance(pl_module, Pretrain)
        tokens_BT, positions_BT, documents_BT, _ = model_inputs(batch)
        found = self._read(
            trainer, pl_module, *(tensor[: self.num_rows] for tensor in (tokens_BT, positions_BT, documents_BT))
        )
        values = torch.stack(list(found.values())).tolist()
        for logger in trainer.loggers:
            logger.log_metrics(dict(zip(found, values, strict=True)), step=step)

    def _read(self, trainer: L.Trainer, stage: Pretrain, *inputs: Tensor) -> Readings:
        """What every layer says of these rows, computed as a training step computes."""
        with (
            not_counted(trainer, stage.device),
            undisturbed(stage.model, stage.device),
            trainer.precision_plugin.forward_context(),
        ):
            return read_layers(stage.model, *inputs)


@contextmanager
def undisturbed(model: GPT, device: torch.device) -> Iterator[None]:
    """Without gradients and dropout; the training mode and the random states are put back."""
    was_training = model.training
    with torch.no_grad(), torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
        model.eval()
        try:
            yield
        finally:
            model.train(was_training)


def read_layers(model: GPT, *inputs: Tensor) -> Readings:
    """One pass of the model over these rows; attention/LAYER/NAME of every layer that has figures.

    Each layer is asked just before it runs, where its weights are whole even if processes share them out.
    """
    found: Readings = {}
    hooks = []
    for number, layer in enumerate(model.mixers()):

        def ask(mixer: Mixer, given: tuple[Tensor, AttentionContext], number: int = number) -> None:
            named = readings(mixer.figures(*given[:2]))
            found.update({f"attention/{number}/{name}": value for name, value in named.items()})

        hooks.append(layer.register_forward_pre_hook(ask))
    try:
        model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def readings(figures: dict[str, Tensor]) -> Readings:
    """Figures of a layer by their names without shapes, each as one number; nothing waits for the device."""
    found = {}
    for shaped, values in figures.items():
        if not values.is_floating_point() or not values.numel():  # no blocks behind the window, say
            continue
        name, values = SHAPE.sub("", shaped), values.float()
        finite = ~values.isinf()
        found[name] = values.where(finite, 0).sum() / finite.sum()
        if name == "margin":
            found["margin_min"] = values.amin()
    return found
