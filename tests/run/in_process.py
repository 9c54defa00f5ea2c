"""Runs inside the test's own process, so that a test can reach into a training that is otherwise real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import open_dict

from bulba.config.overrides import check, expand
from bulba.run.train import train
from bulba.stage.pretrain import Pretrain


def train_here(run: Path, *words: str) -> dict[str, Any]:
    """What `train.py WORDS` does, with `run` as the run folder."""
    config = check(expand(list(words)))
    with open_dict(config):
        del config["hydra"]
    run.mkdir(parents=True, exist_ok=True)
    return train(config, run)


def change_losses(monkeypatch: pytest.MonkeyPatch, factor_of: Callable[[int], float]) -> None:
    """Multiply the loss of every micro-batch of step N (as metrics.csv counts) by factor_of(N), and so its gradient."""
    original = Pretrain.training_step

    def training_step(self: Pretrain, batch: Any, batch_idx: int) -> Any:
        before, factor = self.step_nats.clone(), factor_of(self.trainer.global_step + 1)
        self.step_nats.zero_()
        loss = original(self, batch, batch_idx)
        self.step_nats.mul_(factor).add_(before)
        return loss * factor

    monkeypatch.setattr(Pretrain, "training_step", training_step)
