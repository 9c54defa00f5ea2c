"""Five illnesses and a healthy training: real short trainings of a tiny model, each with one thing wrong."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bulba.checkpoint_io import FolderCheckpointIO
from bulba.config.build import build
from bulba.config.overrides import check
from bulba.errors import ConfigError
from bulba.model.gpt import GPT
from bulba.packing import document_offsets
from bulba.report.doctor import diagnose
from bulba.report.metrics import CsvLogger
from bulba.report.records import read_metrics
from bulba.stage.losses import chunk_loss
from bulba.stage.pretrain import Pretrain
from callbacks.doctor import Doctor
from callbacks.metrics import Metrics
from tests.model.tiny import TINY

ROWS, LENGTH = 4, 16
MODEL: dict[str, Any] = TINY | {"num_layers": 4, "init_std": 0.02}
ADAMW = {"_target_": "bulba.optimizer.adamw.build_adamw", "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.0}
CONSTANT = {"_target_": "bulba.scheduler.none.ConstantSchedule", "warmup_steps": 1}


def batch(tokens_BT: Tensor) -> dict[str, Tensor]:
    rows, length = tokens_BT.shape[0], tokens_BT.shape[1] - 1
    places = torch.arange(length, dtype=torch.int32).expand(rows, length)
    documents = torch.zeros_like(places)
    return {
        "inputs": tokens_BT[:, :-1], "targets": tokens_BT[:, 1:], "positions": places, "documents": documents,
        "offsets": document_offsets(documents), "step_tokens": torch.tensor(rows * length),
    }  # fmt: skip


def counting(seed: int) -> dict[str, Tensor]:
    """Rows that count upwards from a random start: easily learnt."""
    start_B1 = torch.randint(MODEL["vocab_size"], (ROWS, 1), generator=torch.Generator().manual_seed(seed))
    return batch((start_B1 + torch.arange(LENGTH + 1)) % MODEL["vocab_size"])


def noise(seed: int) -> dict[str, Tensor]:
    """Rows that can only be learnt by heart."""
    generator = torch.Generator().manual_seed(seed)
    return batch(torch.randint(MODEL["vocab_size"], (ROWS, LENGTH + 1), generator=generator))


class Stream:
    """`count` batches of `make`, each after `delay_s`. Most are made ahead: on a busy machine making one is a wait."""

    def __init__(self, make: Callable[[int], dict[str, Tensor]], delay_s: float = 0.0, count: int = 10**6) -> None:
        self.make, self.delay_s, self.count = make, delay_s, count
        self.ready = [make(number) for number in range(min(count, 50))]

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for number in range(self.count):
            time.sleep(self.delay_s)
            yield self.ready[number] if number < len(self.ready) else self.make(number)


def train(
    run: Path, stream: Stream, *, lr: float = 3e-3, steps: int = 40, harm: Callable[[GPT], None] | None = None,
    val: Callable[[int], dict[str, Tensor]] = counting, stop_on_overfit: bool = False,
) -> list[str]:  # fmt: skip
    """Train and return the kinds of what the doctor found; the file of the run tells the same."""
    torch.manual_seed(0)
    model = GPT(**MODEL)
    with torch.no_grad():
        if harm:
            harm(model)
    token_bytes = torch.ones(MODEL["vocab_size"], dtype=torch.int64)
    stage = Pretrain(model, model, chunk_loss, ADAMW | {"lr": lr}, CONSTANT, token_bytes, num_micro_batches=1, seed=1)
    doctor = Doctor(layers_every_steps=1, stop_on_overfit=stop_on_overfit)
    config = check([f"trainer.max_steps={steps}", "trainer.val_every_steps=10", "trainer.device=cpu"])
    trainer = build(
        config.trainer, path="trainer", run=run, num_micro_batches=1,
        checkpoint_io=FolderCheckpointIO(), loggers=[CsvLogger(run)],
        callbacks=[Metrics(every_steps=1), doctor],
    )  # fmt: skip
    trainer.fit(stage, train_dataloaders=stream, val_dataloaders=Stream(lambda _: val(-1), count=1))
    found = [finding.kind for finding in doctor.rules.findings]
    assert {finding.kind for finding in diagnose(read_metrics(run))} == set(found)
    if found:
        assert [one["kind"] for one in json.loads((run / "doctor.json").read_text(encoding="utf-8"))] == found
    return found


def test_a_healthy_training_is_left_alone(tmp_path: Path) -> None:
    assert train(tmp_path, Stream(counting)) == []
    assert not (tmp_path / "doctor.json").exists()


def test_a_learning_rate_far_too_high_spikes(tmp_path: Path) -> None:
    assert "spike" in train(tmp_path, Stream(counting), lr=10.0)


def test_a_learning_rate_far_too_low_stands_still(tmp_path: Path) -> None:
    assert train(tmp_path, Stream(counting), lr=1e-9) == ["plateau"]


def test_a_tiny_corpus_is_learnt_by_heart_and_the_run_can_end_there(tmp_path: Path) -> None:
    found = train(tmp_path, Stream(lambda _: noise(0)), steps=400, val=noise, stop_on_overfit=True)
    assert "overfit" in found
    assert max(read_metrics(tmp_path)) < 400


def test_a_layer_of_zeros_is_dead(tmp_path: Path) -> None:
    def zero(model: GPT) -> None:
        for parameter in model.layers[2].parameters():
            parameter.zero_()

    assert "dead_layer" in train(tmp_path, Stream(counting), steps=5, harm=zero)


def test_a_layer_scaled_up_explodes(tmp_path: Path) -> None:
    def scale(model: GPT) -> None:
        for name, parameter in model.layers[1].named_parameters():
            parameter.mul_(1000.0 if "down_proj" in name else 1.0)

    assert "exploding_layer" in train(tmp_path, Stream(counting), steps=5, harm=scale)


def test_slow_data_starves_the_training(tmp_path: Path) -> None:
    assert train(tmp_path, Stream(counting, delay_s=0.3), steps=7) == ["starved"]


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"callbacks\.doctor\.layers_every_steps=0 must be at least 1"):
        Doctor(layers_every_steps=0, stop_on_overfit=False)


def test_without_the_metrics_it_says_what_is_missing(tmp_path: Path) -> None:
    import lightning as L

    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"callbacks\.doctor judges what callbacks\.metrics reads"):
        Doctor(layers_every_steps=1, stop_on_overfit=False).setup(trainer, L.LightningModule(), "fit")
