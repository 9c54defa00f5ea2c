"""A step that goes wrong: it is found to the step, never saved, recorded, left out where asked, and can be replayed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from bulba.checkpoint import load_state, load_weights
from bulba.checkpoint_folder import list_checkpoints
from bulba.config.build import build
from bulba.config.snapshot import read_json
from bulba.data.ledger import show_step
from bulba.errors import ConfigError, DataError, TrainingError
from bulba.report.records import read_metrics
from bulba.run.replay import replay_command, replay_step
from callbacks.guard import Guard
from tests.run.in_process import change_losses, train_here

SHORT = (
    "trainer.max_steps=12",
    "trainer.val_every_steps=12",
    "callbacks.checkpoints.every_steps=4",
    "callbacks.samples.every_steps=null",
    "callbacks.guard.every_steps=5",
)
BAD_STEP = 6


def prepared_data(run: Path) -> Any:
    config = OmegaConf.load(run / "config.yaml")
    data = build(config.data, path="data")
    data.prepare(build(config.tokenizer, path="tokenizer"))
    return config, data


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_stop_names_the_first_bad_step_and_saves_nothing_since(
    value: float, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_losses(monkeypatch, lambda step: value if step == BAD_STEP else 1)
    with pytest.raises(
        TrainingError, match=rf"step {BAD_STEP}: the loss is {value:.4g} .*replay run=.* step={BAD_STEP}`"
    ):
        train_here(tmp_path / "run", *small, *SHORT)
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path / "run")] == [4]
    incident = read_json(tmp_path / "run" / "incidents" / f"step_{BAD_STEP:08d}.json")
    assert (incident["step"], incident["taken"], incident["loss"]) == (BAD_STEP, "stop", str(value))
    assert (incident["noticed_at_step"], incident["checkpoint_steps"]) == (8, [4])
    _, data = prepared_data(tmp_path / "run")
    entries = show_step(data, BAD_STEP - 1)
    assert [piece["document"] for piece in incident["pieces"]] == [entry.document for entry in entries]
    assert {piece["file"] for piece in incident["pieces"]} == {entry.file for entry in entries}


def test_skip_and_rollback_leave_the_step_out_and_end_with_the_same_bits(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change_losses(monkeypatch, lambda step: math.nan if step == BAD_STEP else 1)
    for policy in ("skip", "rollback"):
        run = tmp_path / policy
        summary = train_here(run, *small, *SHORT, f"callbacks.guard.policy={policy}")
        assert summary["result"]["step"] == 12
        assert math.isfinite(summary["result"]["val/bpb"])
        assert read_json(run / "incidents" / f"step_{BAD_STEP:08d}.json")["taken"] == policy
        assert "train/loss" not in read_metrics(run)[BAD_STEP] or math.isnan(read_metrics(run)[BAD_STEP]["train/loss"])
        # The optimizer made one step less; the schedule and the data did not.
        state = load_state(list_checkpoints(run)[-1].folder)
        assert {int(one["step"]) for one in state["optimizer_states"][0]["state"].values()} == {11}
        assert state["global_step"] == 12
        assert state["callbacks"]["Guard"]["left_out"] == [BAD_STEP]
    assert "going back to the newest checkpoint" in capsys.readouterr().out
    skipped, rolled_back = (tmp_path / policy / "final.safetensors" for policy in ("skip", "rollback"))
    assert skipped.read_bytes() == rolled_back.read_bytes()
    for step, row in read_metrics(tmp_path / "skip").items():
        if step != BAD_STEP:
            assert read_metrics(tmp_path / "rollback")[step]["train/loss"] == row["train/loss"]


def test_rollbacks_and_skips_have_an_end(small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_losses(monkeypatch, lambda step: math.nan if step >= BAD_STEP else 1)
    with pytest.raises(TrainingError, match="step 7: .* training stopped"):
        train_here(tmp_path / "a", *small, *SHORT, "callbacks.guard.policy=rollback", "callbacks.guard.max_rollbacks=1")
    with pytest.raises(TrainingError, match="step 9: .* training stopped"):
        train_here(
            tmp_path / "b", *small, *SHORT, "callbacks.guard.policy=skip", "callbacks.guard.max_skips_in_a_row=3"
        )
    # What was left out before it changed nothing, so step 8 is a whole checkpoint.
    newest = list_checkpoints(tmp_path / "b")[-1]
    assert newest.step == 8
    assert all(tensor.isfinite().all() for tensor in load_weights(newest.folder).values())


def test_a_spike_is_recorded_and_training_goes_on(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change_losses(monkeypatch, lambda step: 3 if step == BAD_STEP else 1)
    train_here(tmp_path / "run", *small, *SHORT, "callbacks.guard.window=4")
    assert [path.name for path in (tmp_path / "run" / "incidents").iterdir()] == [f"step_{BAD_STEP:08d}.json"]
    incident = read_json(tmp_path / "run" / "incidents" / f"step_{BAD_STEP:08d}.json")
    assert (incident["kind"], incident["taken"]) == ("spike", "record")
    assert incident["loss"] == pytest.approx(read_metrics(tmp_path / "run")[BAD_STEP]["train/loss"])
    assert incident["loss"] > 2 * incident["median_loss"]
    assert f"warning: step {BAD_STEP}: the loss is" in capsys.readouterr().out


def test_an_incident_that_cannot_be_recorded_stops_a_rollback_and_no_more(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change_losses(monkeypatch, lambda step: math.nan if step == BAD_STEP else 1)
    for policy in ("skip", "rollback"):
        (tmp_path / policy).mkdir()
        (tmp_path / policy / "incidents").touch()
    train_here(tmp_path / "skip", *small, *SHORT, "callbacks.guard.policy=skip")
    with pytest.raises(TrainingError, match=f"step {BAD_STEP}: .* training stopped"):
        train_here(tmp_path / "rollback", *small, *SHORT, "callbacks.guard.policy=rollback")
    assert capsys.readouterr().out.count(f"the incident of step {BAD_STEP} could not be recorded") == 2


@pytest.mark.parametrize(("step", "weights_step"), [(1, 0), (11, 10), (15, 10)])
def test_a_replayed_step_has_the_loss_that_was_logged(small_run: Path, step: int, weights_step: int) -> None:
    config, data = prepared_data(small_run)
    done = replay_step(small_run, config, data, step, torch.device("cpu"))
    assert done.weights_step == weights_step
    logged = read_metrics(small_run)[step]
    assert (done.loss == logged["train/loss"]) == (weights_step == step - 1)
    if weights_step == step - 1:
        assert done.grad_norm == pytest.approx(logged["train/grad_norm"], rel=1e-5)
    assert sum(nats for nats, _ in done.rows.values()) / sum(count for _, count in done.rows.values()) == pytest.approx(
        done.loss, rel=1e-6
    )
    with pytest.raises(DataError, match="step=0 must be at least 1"):
        replay_step(small_run, config, data, 0, torch.device("cpu"))


@pytest.mark.parametrize("mode", ["eager", "compile"])
def test_a_replayed_step_draws_the_dropout_of_the_run(small: list[str], tmp_path: Path, mode: str) -> None:
    train_here(tmp_path, *small, *SHORT, "model.dropout=0.3", f"mode={mode}")
    config, data = prepared_data(tmp_path)
    logged = read_metrics(tmp_path)[9]
    done = replay_step(tmp_path, config, data, 9, torch.device("cpu"))
    assert done.weights_step == 8
    assert done.loss == pytest.approx(logged["train/loss"], rel=1e-6)
    assert done.grad_norm == pytest.approx(logged["train/grad_norm"], rel=1e-5)
    other_draws = replay_step(
        tmp_path, OmegaConf.merge(config, {"seed": config.seed + 1}), data, 9, torch.device("cpu")
    )
    assert abs(other_draws.loss - logged["train/loss"]) > 1e-3


def test_replay_prints_every_row_with_its_documents(small_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replay_command(run=str(small_run), step=13, device="cpu")
    printed = capsys.readouterr().out
    _, data = prepared_data(small_run)
    for entry in show_step(data, 12):
        assert f"micro-batch {entry.micro_batch}, row {entry.row}: loss " in printed
        assert f"{entry.file}, document {entry.document}: " in printed
    assert "with the weights of step 10" in printed


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"spike_factor": 1.0}, "callbacks.guard.spike_factor=1.0 must be above 1"),
        ({"window": 0}, "callbacks.guard.window=0 must be at least 1"),
        ({"every_steps": 0}, "callbacks.guard.every_steps=0 must be at least 1"),
    ],
)
def test_a_guard_that_could_not_guard_is_refused(changed: dict[str, Any], sentence: str) -> None:
    options: dict[str, Any] = {
        "policy": "stop", "spike_policy": "record", "spike_factor": 2.0, "window": 8,
        "max_rollbacks": 1, "max_skips_in_a_row": 1, "every_steps": 5,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=sentence):
        Guard(**options | changed)
