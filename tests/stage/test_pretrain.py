"""One optimizer step through Lightning: however it is cut into micro-batches it is the same step, and fp16 may skip."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor

from bulba.checkpoint_io import FolderCheckpointIO
from bulba.data.datamodule import Batch, MicroBatches, Share
from bulba.data.sampler import Mode, Sampler
from bulba.data.tokens import TokenFile
from bulba.stage.losses import chunk_loss
from bulba.stage.pretrain import Pretrain
from tests.data.test_sampler import write
from tests.model.tiny import TINY, tiny_gpt

ADAMW = {
    "_target_": "bulba.optimizer.adamw.build_adamw",
    "lr": 1e-2, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1,
}  # fmt: skip
CONSTANT = {"_target_": "bulba.scheduler.none.ConstantSchedule", "warmup_steps": 0}


class SmallVocabulary:
    """Micro-batches of a token file with its ids folded into the vocabulary of the tiny model."""

    def __init__(self, batches: MicroBatches) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            inputs, targets = batch["inputs"] % TINY["vocab_size"], batch["targets"]
            yield batch | {"inputs": inputs, "targets": torch.where(targets < 0, targets, targets % TINY["vocab_size"])}


class Endless:
    """The same micro-batches again and again."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Batch]:
        return itertools.cycle(self.batches)


class Step(L.Callback):
    """What the optimizer is given in each step."""

    def __init__(self) -> None:
        self.gradients: list[list[Tensor]] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.gradients.append([parameter.grad.clone() for parameter in pl_module.model.parameters()])


def make_stage(num_micro_batches: int, **changes: Any) -> Pretrain:
    model = tiny_gpt(init_std=0.05, **changes).train()
    token_bytes = torch.ones(TINY["vocab_size"], dtype=torch.int64)
    return Pretrain(model, model, chunk_loss, ADAMW, CONSTANT, token_bytes, num_micro_batches, seed=1)


def make_trainer(folder: Path, num_micro_batches: int, max_steps: int, **options: Any) -> L.Trainer:
    plugins = [FolderCheckpointIO(), *options.pop("plugins", [])]
    return L.Trainer(
        accelerator="cpu", max_steps=max_steps, accumulate_grad_batches=num_micro_batches, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, plugins=plugins,
        gradient_clip_val=1.0, default_root_dir=folder, use_distributed_sampler=False, **options,
    )  # fmt: skip


def one_step(folder: Path, batches: Any, num_micro_batches: int) -> tuple[list[Tensor], float]:
    """The gradients (not clipped) and the loss of one optimizer step."""
    stage, seen = make_stage(num_micro_batches), Step()
    trainer = make_trainer(folder, num_micro_batches, 1, callbacks=[seen])
    trainer.fit(stage, batches)
    return seen.gradients[0], stage.take_train_loss()


def in_one_go(sampler: Sampler, step: int, num_micro_batches: int) -> tuple[list[Tensor], float]:
    """The mean loss over all targets of a step and its gradients, by plain cross-entropy in float64."""
    model = tiny_gpt(init_std=0.05).double()
    total, count = torch.zeros((), dtype=torch.float64), 0
    batches = SmallVocabulary(MicroBatches(sampler, num_micro_batches, Share(), lambda: step))
    for batch in itertools.islice(batches, num_micro_batches):
        logits = model.logits(model(batch["inputs"], batch["positions"], batch["documents"]))
        total += F.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten(), reduction="sum")
        count += int((batch["targets"] >= 0).sum())
    return list(torch.autograd.grad(total / count, list(model.parameters()))), float(total.detach()) / count


@pytest.mark.filterwarnings("ignore")
def test_dropout_is_a_function_of_seed_and_step(file: TokenFile, tmp_path: Path) -> None:
    """So a step draws the same whatever was drawn before it, and as a resumed run would."""

    def losses(seed: int, max_steps: int) -> list[float]:
        torch.manual_seed(seed)
        sampler = Sampler(file, 24, mode="packed", seed=0, rows_per_micro_batch=2)
        stage = make_stage(2, dropout=0.3)
        stage.configure_optimizers = lambda: torch.optim.SGD(stage.parameters(), lr=0.0)  # type: ignore[method-assign]
        seen: list[float] = []
        record = L.pytorch.callbacks.LambdaCallback(
            on_train_batch_end=lambda trainer, module, outputs, batch, index: seen.append(float(outputs["loss"]))
        )
        # Every step reads the same rows.
        batches = SmallVocabulary(MicroBatches(sampler, 2, Share(), lambda: 5))
        step = list(itertools.islice(iter(batches), 2))
        make_trainer(tmp_path, 2, max_steps, callbacks=[record]).fit(stage, Endless(step))
        return seen

    first, second = losses(1, 3), losses(2, 2)
    assert first[:4] == second
    assert len(set(first)) == 6  # micro-batches 0 and 1 of three steps, all drawn differently


def assert_same_step(got: tuple[list[Tensor], float], expected: tuple[list[Tensor], float]) -> None:
    assert got[1] == pytest.approx(expected[1], rel=1e-6)
    largest = max(float(gradient.abs().max()) for gradient in expected[0])
    for one, other in zip(got[0], expected[0], strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-4, atol=1e-6 * largest)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> TokenFile:
    rng = random.Random(1)
    lengths = [int(rng.paretovariate(0.9) * 3) % 60 + 2 for _ in range(300)]
    return write(tmp_path_factory.mktemp("tokens") / "train.bin", [lengths])


@pytest.mark.filterwarnings("ignore")
@settings(deadline=None, max_examples=6)
@given(mode=st.sampled_from(["chunked", "packed"]), seed=st.integers(0, 2**64 - 1), step=st.integers(0, 10**6))
def test_1_x_32_and_4_x_8_and_32_x_1_rows_are_the_same_step(
    file: TokenFile, tmp_path_factory: pytest.TempPathFactory, mode: Mode, seed: int, step: int
) -> None:
    expected = in_one_go(Sampler(file, 24, mode=mode, seed=seed, rows_per_micro_batch=32), step, 1)
    for rows in (32, 8, 1):
        sampler = Sampler(file, 24, mode=mode, seed=seed, rows_per_micro_batch=rows)
        batches = SmallVocabulary(MicroBatches(sampler, 32 // rows, Share(), lambda: step))
        got = one_step(tmp_path_factory.getbasetemp(), batches, 32 // rows)
        assert_same_step(got, expected)


@pytest.mark.filterwarnings("ignore")
@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 2**64 - 1), step=st.integers(0, 10**6))
def test_micro_batches_of_several_lengths_weigh_by_their_tokens(
    file: TokenFile, tmp_path_factory: pytest.TempPathFactory, seed: int, step: int
) -> None:
    sampler = Sampler(file, 48, mode="bucketed", seed=seed, rows_per_micro_batch=4)
    batches = SmallVocabulary(MicroBatches(sampler, 6, Share(), lambda: step))
    got = one_step(tmp_path_factory.getbasetemp(), batches, 6)
    assert_same_step(got, in_one_go(sampler, step, 6))


class Scaled(L.Callback):
    """What happened to the weights in each step, and the scale of the loss after it."""

    def __init__(self) -> None:
        self.moved: list[bool] = []
        self.scales: list[float] = []
        self.before: list[Tensor] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.before = [parameter.detach().clone() for parameter in pl_module.parameters()]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.moved.append(not all(map(torch.equal, pl_module.parameters(), self.before)))
        self.scales.append(trainer.precision_plugin.scaler.get_scale())


def fit_fp16(folder: Path, file: TokenFile, max_steps: int, scale: float, resume: Path | None = None) -> Any:
    """Train in fp16 on the CPU, where the scaler works as on a card: (trainer, stage, what was seen)."""
    sampler = Sampler(file, 24, seed=1, rows_per_micro_batch=4)
    stage, seen = make_stage(1), Scaled()
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    trainer = make_trainer(folder, 1, max_steps, callbacks=[seen], plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    batches = SmallVocabulary(MicroBatches(sampler, 1, Share(), lambda: trainer.global_step))
    trainer.fit(stage, batches, ckpt_path=None if resume is None else str(resume))
    return trainer, stage, seen


@pytest.mark.filterwarnings("ignore")
def test_fp16_survives_overflows_and_counts_the_skipped_steps(file: TokenFile, tmp_path: Path) -> None:
    # A scale at which the gradients of the first steps are beyond the largest half-precision number.
    trainer, stage, seen = fit_fp16(tmp_path, file, 30, scale=2.0**24)
    skipped = seen.moved.count(False)
    assert not seen.moved[0]
    assert 0 < skipped < 20
    assert seen.scales[-1] == 2.0 ** (24 - skipped)
    assert (trainer.global_step, int(stage.skipped_steps)) == (30, skipped)
    loss = stage.take_train_loss()
    assert 2 < loss < math.log(TINY["vocab_size"]) + 0.5
    assert all(parameter.isfinite().all() for parameter in stage.parameters())
    assert math.isnan(stage.take_train_loss())


@pytest.mark.filterwarnings("ignore")
def test_fp16_loss_figure_leaves_skipped_steps_out(file: TokenFile, tmp_path: Path) -> None:
    _, stage, seen = fit_fp16(tmp_path, file, 3, scale=2.0**60)
    assert seen.moved == [False] * 3
    assert stage.train_tokens > 0
    assert math.isnan(stage.take_train_loss())


@pytest.mark.filterwarnings("ignore")
def test_fp16_resumed_among_its_overflows_goes_on_with_the_same_bits(file: TokenFile, tmp_path: Path) -> None:
    _, whole, whole_seen = fit_fp16(tmp_path, file, 24, scale=2.0**24)
    trainer, _, begun = fit_fp16(tmp_path, file, 2, scale=2.0**24)
    assert begun.moved[-1] is False
    trainer.save_checkpoint(tmp_path / "step_00000002")
    trainer.strategy.checkpoint_io.wait()
    # Another scale to begin with: the one of the checkpoint must win.
    _, resumed, seen = fit_fp16(tmp_path, file, 24, scale=4.0, resume=tmp_path / "step_00000002")
    assert begun.scales + seen.scales == whole_seen.scales
    assert int(resumed.skipped_steps) == int(whole.skipped_steps)
    assert all(map(torch.equal, resumed.parameters(), whole.parameters()))
