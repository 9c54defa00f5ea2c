"""A logger that dies takes nothing with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch.loggers.logger import Logger

from bulba.checkpoint_folder import list_checkpoints
from bulba.report.guarded import GuardedLogger
from tests.run.in_process import change_losses, train_here


def test_metrics_and_samples_that_cannot_be_written_do_not_stop_training(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run" / "metrics.csv"
    (tmp_path / "run" / "samples.md").mkdir(parents=True)

    def take_the_file_away(step: int) -> float:
        if step == 3 and path.is_file():
            path.unlink()
            path.mkdir()
        return 1

    change_losses(monkeypatch, take_the_file_away)
    summary = train_here(
        tmp_path / "run",
        *small,
        "trainer.max_steps=6",
        "trainer.val_every_steps=6",
        "callbacks.samples.every_steps=4",
    )
    assert summary["status"] == "finished"
    assert summary["result"]["val/bpb"] is not None
    assert list_checkpoints(tmp_path / "run")[-1].step == 6
    printed = capsys.readouterr().out
    assert printed.count("warning: logger.csv failed and is switched off for the rest of the run") == 1
    assert "IsADirectoryError" in printed
    assert printed.count("warning: the samples could not be kept in samples.md") == 2


class Dying(Logger):
    """A tracker whose quota is spent after two rows."""

    name, version = "dying", 0

    def __init__(self) -> None:
        self.rows = self.asked = 0

    def log_hyperparams(self, *args: object) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.asked += 1
        if self.rows == 2:
            raise ConnectionError("quota\nspent")
        self.rows += 1

    def finalize(self, status: str) -> None:
        raise AssertionError("asked again after it failed")


def test_a_dead_logger_is_told_once_and_never_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    dying = Dying()
    logger = GuardedLogger("tracker", dying)
    assert (logger.name, logger.save_dir) == ("dying", None)
    for step in range(5):
        logger.log_metrics({"train/loss": 1.0}, step=step)
    logger.finalize("success")
    assert (dying.rows, dying.asked) == (2, 3)
    said = capsys.readouterr().out
    assert said.count("warning: ") == 1
    assert "logger.tracker failed" in said
    assert "ConnectionError: quota spent" in said
