"""The rules of the doctor on figures made up for each illness, and on real runs."""

from pathlib import Path

import pytest

from bulba.report.doctor import PLATEAU_READINGS, Doctor, diagnose
from bulba.report.records import read_metrics
from tests.conftest import run_program

HEALTHY = {"layers/min_grad_norm": 0.1, "layers/min_layer": 3, "layers/median_grad_norm": 0.2,
           "layers/max_grad_norm": 0.5, "layers/max_layer": 0, "perf/data_wait_frac": 0.01}  # fmt: skip


def kinds(rows: dict[int, dict[str, float]]) -> list[str]:
    return [finding.kind for finding in diagnose(rows)]


def falling(step: int) -> dict[str, float]:
    return {"train/loss": 8.0 * 0.97**step, "train/lr": 1e-3} | HEALTHY


def test_a_falling_loss_is_healthy() -> None:
    assert kinds({step: falling(step) for step in range(100)}) == []


def test_a_loss_that_stands_still_while_the_learning_rate_is_let_down_is_healthy() -> None:
    rows = {step: falling(min(step, 60)) | {"train/lr": 1e-3 * (0.4 if step >= 60 else 1)} for step in range(100)}
    assert kinds(rows) == []


@pytest.mark.parametrize("loss", [9.0, float("nan"), float("inf")])
def test_a_spike_names_its_step_and_a_lower_learning_rate(loss: float) -> None:
    rows = {step: falling(step) for step in range(10)}
    rows[10] = falling(10) | {"train/loss": loss}
    (finding,) = diagnose(rows)
    assert (finding.kind, finding.step, finding.override) == ("spike", 10, "optimizer.lr=0.00033")


def test_a_plateau_needs_a_window_of_readings() -> None:
    flat = {step: falling(0) for step in range(PLATEAU_READINGS)}
    assert kinds(flat) == ["plateau"]
    del flat[0]
    assert kinds(flat) == []


def test_a_loss_that_stands_still_after_it_fell_far_is_healthy() -> None:
    assert kinds({step: falling(min(step, 40)) for step in range(100)}) == []


def test_overfitting_is_a_rising_validation_under_a_falling_training_loss() -> None:
    validation = {20: 3.0, 40: 2.5, 60: 2.6, 80: 2.7}
    rows = {step: falling(step // 5) | {"val/loss": loss} for step, loss in validation.items()}
    (finding,) = diagnose(rows)
    assert (finding.kind, finding.step) == ("overfit", 80)
    assert "trainer.max_steps=40" in finding.override
    both_rise = {step: {"train/loss": loss, "train/lr": 1e-3, "val/loss": loss} for step, loss in validation.items()}
    assert kinds(both_rise) == []


def test_layers_and_waiting() -> None:
    assert kinds({1: falling(1) | {"layers/min_grad_norm": 0.0}}) == ["dead_layer"]
    assert kinds({1: falling(1) | {"layers/max_grad_norm": 50.0}}) == ["exploding_layer"]
    waits = {step: falling(step) | {"perf/data_wait_frac": 0.5} for step in range(5)}
    assert kinds(waits) == ["starved"]
    waits[1] = falling(1)
    assert kinds(waits) == []


def test_a_finding_is_told_once() -> None:
    doctor = Doctor()
    dead = falling(1) | {"layers/min_grad_norm": 0.0}
    assert len(doctor.see(1, dead)) == 1
    assert doctor.see(2, dead) == []


def test_no_alarm_on_a_healthy_run_and_the_command_says_so(small_run: Path) -> None:
    rows = read_metrics(small_run)
    assert any("layers/min_grad_norm" in row for row in rows.values())
    assert diagnose(rows) == []
    assert not (small_run / "doctor.json").exists()
    done = run_program("-m", "bulba", "doctor", f"run={small_run}")
    assert done.returncode == 0
    assert "nothing wrong in 20 readings" in done.stdout


def test_the_command_finds_in_the_file_what_is_wrong(tmp_path: Path) -> None:
    lines = [f"{step},{4.0 if step < 5 else 12.0},0.5" for step in range(1, 8)]
    (tmp_path / "metrics.csv").write_text("\n".join(["step,train/loss,train/lr", *lines, ""]), encoding="utf-8")
    done = run_program("-m", "bulba", "doctor", f"run={tmp_path}")
    assert "step 5: the training loss rose to 12 from 4; try optimizer.lr=0.17" in done.stdout
