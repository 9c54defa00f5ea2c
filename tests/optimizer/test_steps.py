"""The optimizers equal torch's own, work with LambdaLR and Lightning, and restore exactly."""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.fabric.plugins.precision.amp import _optimizer_handles_unscaling
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from bulba.checkpoint import load_state, save_checkpoint
from bulba.config.build import build
from bulba.errors import ConfigError
from bulba.optimizer.groups import describe_groups

CONF = Path(__file__).parents[2] / "conf" / "optimizer"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))


class Tiny(nn.Module):
    """One weight of each role."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(9, 6)
        self.up_proj = nn.Linear(6, 10)
        self.down_proj = nn.Linear(10, 6)
        self.norm = nn.RMSNorm(6)
        self.lm_head = nn.Linear(6, 9, bias=False)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        hidden = self.embed_tokens(tokens_BT)
        return self.lm_head(self.norm(hidden + self.down_proj(torch.relu(self.up_proj(hidden)))))

    def loss(self, tokens_BT: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self(tokens_BT[:, :-1]).flatten(0, 1), tokens_BT[:, 1:].flatten())


@pytest.fixture
def tiny() -> Any:
    torch.manual_seed(0)
    return Tiny()


def make(name: str, model: Any, **changes: Any) -> Any:
    # The peak of some optimizers follows the width of the model.
    config: Any = OmegaConf.create({"model": {"hidden_size": 128}, "optimizer": OmegaConf.load(CONF / f"{name}.yaml")})
    node = OmegaConf.merge(config, {"optimizer": changes}).optimizer
    return build(node, path="optimizer", named_parameters=list(model.named_parameters()))


def batch(step: int) -> Tensor:
    return torch.randint(9, (4, 8), generator=torch.Generator().manual_seed(step))


def train(model: Any, optimizers: list[Optimizer], steps: Any, scheduler: Any = None) -> list[list[Tensor]]:
    """Steps `model` over the batches `steps`; returns its weights after each step."""
    history = []
    for step in steps:
        for optimizer in optimizers:
            optimizer.zero_grad()
        model.loss(batch(step)).backward()
        for optimizer in optimizers:
            optimizer.step()
        if scheduler is not None:
            scheduler.step()
        history.append([parameter.detach().clone() for parameter in model.parameters()])
    return history


def assert_same_weights(history: Any, other: Any, **tolerance: Any) -> None:
    for weights, others in zip(history, other, strict=True):
        for weight, expected in zip(weights, others, strict=True):
            torch.testing.assert_close(weight, expected, **tolerance)


def constant(factor: float, step: int) -> float:
    return factor


def torch_groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    matrices = [model.up_proj.weight, model.down_proj.weight, model.lm_head.weight]
    rest = [model.embed_tokens.weight, model.up_proj.bias, model.down_proj.bias, model.norm.weight]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def test_adamw_equals_the_formula_in_float64(tiny: Any) -> None:
    tiny.double()
    optimizer = make("adamw", tiny, lr=0.01, weight_decay=0.1)
    weight = tiny.up_proj.weight
    mine, mean, square = weight.detach().clone(), torch.zeros_like(weight), torch.zeros_like(weight)
    for step in range(1, 5):
        optimizer.zero_grad()
        tiny.loss(batch(step)).backward()
        mean, square = 0.9 * mean + 0.1 * weight.grad, 0.95 * square + 0.05 * weight.grad**2
        update = mean / (1 - 0.9**step) / ((square / (1 - 0.95**step)).sqrt() + 1e-8)
        mine = mine - 0.01 * (0.1 * mine + update)
        optimizer.step()
        torch.testing.assert_close(weight.detach(), mine, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_equals_torch_step_by_step(name: str, tiny: Any) -> None:
    twin = copy.deepcopy(tiny)
    ours = make(name, tiny, lr=0.01, weight_decay=0.1)
    groups = torch_groups(twin, 0.1)
    if name == "adamw":
        theirs: Optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-8, foreach=False)
    else:
        theirs = torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True, foreach=False)
    assert describe_groups(ours)[0]["kernel"] == "fused"
    assert_same_weights(train(tiny, [ours], range(6)), train(twin, [theirs], range(6)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("adjust_lr", ["original", "match_rms_adamw"])
def test_muon_equals_torch_muon_and_adamw_step_by_step(adjust_lr: str, tiny: Any) -> None:
    twin = copy.deepcopy(tiny)
    ours = make("muon", tiny, lr=0.02, adamw_lr=0.003, adjust_lr=adjust_lr, weight_decay=0.1)
    hidden = [twin.up_proj.weight, twin.down_proj.weight]
    rest = [twin.embed_tokens.weight, twin.up_proj.bias, twin.down_proj.bias, twin.norm.weight]
    muon = torch.optim.Muon(hidden, lr=0.02, momentum=0.95, weight_decay=0.1, adjust_lr_fn=adjust_lr)
    head = {"params": [twin.lm_head.weight], "weight_decay": 0.1}
    adamw = torch.optim.AdamW([head, {"params": rest, "weight_decay": 0.0}], lr=0.003, betas=(0.9, 0.95), fused=True)
    assert_same_weights(train(tiny, [ours], range(6)), train(twin, [muon, adamw], range(6)), rtol=0, atol=0)


def test_a_muon_update_is_close_to_orthogonal_whatever_the_size_of_the_gradient(tiny: Any) -> None:
    updates = []
    for scale in (1.0, 1e6):
        model = copy.deepcopy(tiny)
        optimizer = make("muon", model, lr=1.0, adjust_lr="original", weight_decay=0.0)
        before = model.up_proj.weight.detach().clone()
        (model.loss(batch(0)) * scale).backward()
        optimizer.step()
        updates.append((before - model.up_proj.weight.detach()) / math.sqrt(10 / 6))
    singular = torch.linalg.svdvals(updates[0])
    assert singular.min() > 0.5
    assert singular.max() < 1.4
    torch.testing.assert_close(updates[0], updates[1], rtol=0.05, atol=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_every_group_follows_the_schedule_from_its_own_peak(name: str, tiny: Any) -> None:
    optimizer = make(name, tiny, lr=0.5, **({"adamw_lr": 0.002} if name == "muon" else {}))
    peaks = [group["lr"] for group in optimizer.param_groups]
    assert peaks[0] == 0.5
    assert (peaks[-1] == 0.002) == (name == "muon")
    scheduler = LambdaLR(optimizer, lambda step: 1 / (step + 1))
    for step in range(4):
        assert [group["lr"] for group in optimizer.param_groups] == [peak / (step + 1) for peak in peaks]
        train(tiny, [optimizer], [step], scheduler)
    assert [group["peak_lr"] for group in describe_groups(optimizer)] == peaks


@pytest.mark.parametrize("name", NAMES)
def test_a_smaller_factor_makes_every_weight_move_less(name: str, tiny: Any) -> None:
    moved = []
    for factor in (1.0, 0.25):
        model = copy.deepcopy(tiny)
        optimizer = make(name, model, weight_decay=0.0)
        LambdaLR(optimizer, partial(constant, factor))
        train(model, [optimizer], [0])
        pairs = zip(model.parameters(), tiny.parameters(), strict=True)
        moved.append([(new - old).norm().item() for new, old in pairs])
    for full, quarter in zip(*moved, strict=True):
        assert quarter == pytest.approx(full / 4, rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_restored_from_a_checkpoint_it_goes_on_bit_for_bit(name: str, tiny: Any, tmp_path: Path) -> None:
    optimizer = make(name, tiny)
    scheduler = LambdaLR(optimizer, lambda step: 1 / (step + 1))
    train(tiny, [optimizer], range(3), scheduler)
    state = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    save_checkpoint(tmp_path / "step", {}, {}, state)
    restored = Tiny()
    restored.load_state_dict(tiny.state_dict())
    new_optimizer = make(name, restored)
    new_scheduler = LambdaLR(new_optimizer, lambda step: 1 / (step + 1))
    loaded = load_state(tmp_path / "step")
    new_optimizer.load_state_dict(loaded["optimizer"])
    new_scheduler.load_state_dict(loaded["scheduler"])
    assert describe_groups(new_optimizer) == describe_groups(optimizer)
    expected = train(tiny, [optimizer], range(3, 7), scheduler)
    assert_same_weights(train(restored, [new_optimizer], range(3, 7), new_scheduler), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_copied_optimizer_steps_its_own_copy_of_the_weights(name: str, tiny: Any) -> None:
    optimizer = make(name, tiny)
    train(tiny, [optimizer], range(2))
    other, other_optimizer = copy.deepcopy((tiny, optimizer))
    expected = train(tiny, [optimizer], range(2, 4))
    assert_same_weights(train(other, [other_optimizer], range(2, 4)), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_step_calls_the_closure_once_with_gradients_and_returns_its_loss(name: str, tiny: Any) -> None:
    optimizer = make(name, tiny)
    calls = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = tiny.loss(batch(0))
        loss.backward()
        calls.append(loss.item())
        return loss

    with torch.no_grad():
        loss = optimizer.step(closure)
    assert calls == [loss.item()]
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in tiny.parameters())


class TinyModule(L.LightningModule):
    def __init__(self, model: Any, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def training_step(self, tokens_BT: Tensor, batch_idx: int) -> Tensor:
        return self.model.loss(tokens_BT)

    def configure_optimizers(self) -> Any:
        optimizer = make(self.name, self.model)
        scheduler = LambdaLR(optimizer, lambda step: 1 / (step + 1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@pytest.mark.parametrize("name", NAMES)
def test_under_lightning_the_steps_are_those_of_a_plain_loop(name: str, tiny: Any, tmp_path: Path) -> None:
    twin = copy.deepcopy(tiny)
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=5,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    rows: Any = DataLoader([batch(step) for step in range(5)], batch_size=None)  # type: ignore[arg-type]
    trainer.fit(TinyModule(tiny, name), rows)
    optimizer = make(name, twin)
    train(twin, [optimizer], range(5), LambdaLR(optimizer, lambda step: 1 / (step + 1)))
    assert trainer.global_step == 5
    assert_same_weights([list(tiny.parameters())], [list(twin.parameters())], rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_fp16_gradients_are_unscaled_before_they_are_clipped(name: str, tiny: Any) -> None:
    """Lightning leaves unscaling to an optimizer that says it does it, and then clips scaled gradients."""
    optimizer = make(name, tiny)
    assert not _optimizer_handles_unscaling(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    scaler.scale(tiny.loss(batch(0))).backward()
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(tiny.parameters(), 0.1)
    assert norm < 10
    scaler.step(optimizer)
    scaler.update()
    after_one = tiny.up_proj.weight.detach().clone()
    tiny.up_proj.weight.grad.fill_(math.inf)
    scaler.step(optimizer)
    assert torch.equal(tiny.up_proj.weight, after_one)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns(name: str, tiny: Any) -> None:
    optimizer = make(name, tiny, lr=0.02)
    start = tiny.loss(batch(0)).item()
    for _ in range(60):
        train(tiny, [optimizer], [0])
    assert tiny.loss(batch(0)).item() < 0.65 * start


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("adamw", {"lr": 0.0}, r"optimizer\.lr=0\.0 is out of range: set a number above 0"),
        ("adamw", {"lr": math.nan}, r"optimizer\.lr=nan is out of range"),
        ("adamw", {"eps": 0}, r"optimizer\.eps=0 is out of range"),
        (
            "adamw",
            {"beta2": 1.0},
            r"optimizer\.beta2=1\.0 is out of range: set 0 or a number",
        ),
        ("adamw", {"weight_decay": -0.1}, r"optimizer\.weight_decay=-0\.1 is out of range: set 0 or"),
        ("adamw", {"momentum": 0.9}, r"optimizer\.momentum is not an option of build_adamw"),
        ("adamw", {"lr": "fast"}, r"optimizer\.lr='fast' must be a number"),
        ("sgd", {"momentum": 1}, r"optimizer\.momentum=1 is out of range"),
        ("sgd", {"momentum": 0.0}, r"optimizer\.nesterov=true would do nothing without momentum: set"),
        ("muon", {"momentum": 0.0}, r"optimizer\.nesterov=true would do nothing without momentum"),
        ("muon", {"ns_steps": 0}, r"optimizer\.ns_steps=0 is out of range: set 1 to 99"),
        ("muon", {"ns_steps": 100}, r"optimizer\.ns_steps=100 is out of range"),
        ("muon", {"adamw_lr": -1.0}, r"optimizer\.adamw_lr=-1\.0 is out of range"),
        (
            "muon",
            {"adjust_lr": "adamw"},
            r"optimizer\.adjust_lr='adamw' must be one of original, match",
        ),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(
    name: str, changes: dict[str, Any], message: str, tiny: Any
) -> None:
    with pytest.raises(ConfigError, match=message):
        make(name, tiny, **changes)


def test_muon_takes_one_peak_for_both_parts_unless_told_otherwise(tiny: Any) -> None:
    assert {group["lr"] for group in make("muon", tiny, lr=0.123).param_groups} == {0.123}
