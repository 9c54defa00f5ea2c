"""Every schedule of conf/scheduler against its closed form, at its ends, and when it cannot be."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from bulba.config.build import build
from bulba.errors import ConfigError
from bulba.scheduler.base import Schedule

CONF = Path(__file__).parents[2] / "conf" / "scheduler"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))


def build_from(name: str, changes: dict[str, Any], total_steps: int) -> Schedule:
    node: Any = OmegaConf.merge(OmegaConf.load(CONF / f"{name}.yaml"), changes)
    return build(node, path="scheduler", total_steps=total_steps)


def make(name: str, total_steps: int, **changes: Any) -> Any:
    return build_from(name, changes, total_steps)


def floor_of(schedule: Schedule) -> float:
    return getattr(schedule, "min_lr_frac", 1.0)


@st.composite
def lengths(draw: st.DrawFn) -> tuple[int, int]:
    total_steps = draw(st.integers(2, 1000))
    return total_steps, draw(st.integers(0, total_steps // 2))


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)
@given(lengths=lengths())
def test_rises_in_equal_steps_to_the_peak_then_never_rises_and_ends_at_the_floor(name: str, lengths: Any) -> None:
    total_steps, warmup_steps = lengths
    schedule = make(name, total_steps, warmup_steps=warmup_steps, **({"decay_frac": 0.5} if name == "wsd" else {}))
    factors = [schedule(step) for step in range(total_steps)]
    for step in range(warmup_steps):
        assert factors[step] == pytest.approx((step + 1) / (warmup_steps + 1))
    decayed = factors[warmup_steps:]
    if name != "wsd" or schedule.decay_steps + warmup_steps < total_steps:
        assert decayed[0] == 1
    assert all(later <= earlier for earlier, later in itertools.pairwise(decayed))
    if len(decayed) > 1:
        assert factors[-1] == pytest.approx(floor_of(schedule), abs=1e-12)
    assert schedule(total_steps) == schedule(10 * total_steps) == factors[-1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", [0.2, 0.8, 1, 1, 1]),
        ("linear", [0.2, 0.8, 1, 0.2 + 0.8 * 0.5, 0.2]),
        ("cosine", [0.2, 0.8, 1, 0.2 + 0.8 * 0.5, 0.2]),
        ("wsd", [0.2, 0.8, 1, 1, 0.2]),
    ],
)
def test_closed_form_at_five_steps(name: str, expected: Any) -> None:
    floor = {} if name == "none" else {"min_lr_frac": 0.2}
    schedule = make(name, 105, warmup_steps=4, **floor)
    assert [schedule(step) for step in (0, 3, 4, 54, 104)] == pytest.approx(expected)


def test_cosine_a_quarter_of_the_way_down() -> None:
    assert make("cosine", 101, warmup_steps=0, min_lr_frac=0.1)(25) == pytest.approx(
        0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2
    )


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("linear", [1, 0.75, 0.5, 0.25, 0]), ("1-sqrt", [1, 0.5, 1 - math.sqrt(0.5), 1 - math.sqrt(0.75), 0])],
)
def test_wsd_decays_over_its_last_steps_only(shape: Any, expected: Any) -> None:
    schedule = make("wsd", 20, warmup_steps=3, decay_frac=0.2, decay_shape=shape, min_lr_frac=0.0)
    assert [schedule(step) for step in range(15, 20)] == pytest.approx(expected)
    with_floor = make("wsd", 20, warmup_steps=3, decay_frac=0.2, decay_shape=shape, min_lr_frac=0.1)
    assert with_floor(17) == pytest.approx(0.1 + 0.9 * expected[2])


@settings(deadline=None)
@given(total_steps=st.integers(20, 3000), more=st.integers(1, 5000), frac=st.floats(0.05, 0.8))
def test_wsd_branches_off_its_stable_part_when_the_run_gets_longer(total_steps: int, more: int, frac: float) -> None:
    short, long = (make("wsd", steps, warmup_steps=2, decay_frac=frac) for steps in (total_steps, total_steps + more))
    first_decayed = total_steps - short.decay_steps
    assert first_decayed > 2
    assert [short(step) for step in range(first_decayed)] == [long(step) for step in range(first_decayed)]
    assert short(first_decayed) < 1


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_gets_the_learning_rates_of_the_uninterrupted_one(name: str) -> None:
    def rates(optimizer: Optimizer, scheduler: Any, steps: int) -> list[float]:
        seen = []
        for _ in range(steps):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return seen

    def start() -> tuple[Optimizer, LambdaLR]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
        schedule = make(name, 40, warmup_steps=10)
        return optimizer, LambdaLR(optimizer, lambda step: schedule(step))

    whole = rates(*start(), 40)
    optimizer, scheduler = start()
    first = rates(optimizer, scheduler, 15)
    state = optimizer.state_dict(), scheduler.state_dict()
    optimizer, scheduler = start()
    optimizer.load_state_dict(state[0])
    scheduler.load_state_dict(state[1])
    assert first + rates(optimizer, scheduler, 25) == whole
    assert whole[10] == 0.5


@pytest.mark.parametrize(
    ("name", "total_steps", "changes", "message"),
    [
        (
            "none",
            10,
            {"warmup_steps": 10},
            r"warmup_steps=10 does not end within the run of 10 steps: set fewer",
        ),
        ("cosine", 10, {"warmup_steps": -1}, r"scheduler\.warmup_steps=-1 is negative: set 0 or more"),
        ("linear", 10, {"warmup_steps": 2.5}, r"scheduler\.warmup_steps=2\.5 must be a whole number"),
        ("cosine", 200, {"min_lr_frac": 1.0}, r"scheduler\.min_lr_frac=1\.0 is out of range.*scheduler=none"),
        ("linear", 200, {"min_lr_frac": -0.1}, r"scheduler\.min_lr_frac=-0\.1 is out of range"),
        ("wsd", 200, {"decay_frac": 0.0}, r"scheduler\.decay_frac=0\.0 is out of range.*scheduler=none"),
        ("wsd", 200, {"decay_frac": 1.5}, r"scheduler\.decay_frac=1\.5 is out of range"),
        (
            "wsd",
            200,
            {"decay_frac": 0.001},
            r"scheduler\.decay_frac=0\.001 of 200 steps is less than one step",
        ),
        (
            "wsd",
            120,
            {"warmup_steps": 100, "decay_frac": 0.5},
            r"warmup_steps=100 and the 60 steps of scheduler\.decay_frac=0\.5 do not",
        ),
        (
            "wsd",
            200,
            {"decay_shape": "cosine"},
            r"scheduler\.decay_shape='cosine' must be one of linear, 1-sqrt",
        ),
        ("none", 200, {"min_lr_frac": 0.1}, r"scheduler\.min_lr_frac is not an option of ConstantSchedule"),
        ("none", 200, {"total_steps": 9}, r"scheduler\.total_steps is not an option of ConstantSchedule"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(
    name: str, total_steps: int, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_from(name, changes, total_steps)
