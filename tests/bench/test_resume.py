"""The proof of resume finds what it looks for, and holds for processes that are really killed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bulba.bench.resume import compare_rows, compare_runs, verify_resume
from bulba.errors import CheckpointError, ConfigError
from tests.run.in_process import train_here


def test_rows_and_figures_that_differ_are_found(small: list[str], tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    train_here(
        run, *small, "trainer.max_steps=3", "trainer.val_every_steps=3", "scheduler.warmup_steps=1",
        "callbacks.samples.every_steps=null",
        "+callbacks.read_rows._target_=bulba.bench.resume.ReadRows",
    )  # fmt: skip
    assert compare_rows(run, 3) == 3 * 4
    assert compare_runs(run, run, 0.0) == 0.0
    shutil.copytree(run, other)
    rows = (run / "rows_of_rank_0.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    # Two steps change places, as a resume at the wrong step would have it.
    (other / "rows_of_rank_0.csv").write_text("".join(f"2{line[1:]}" for line in rows[:4]), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"another row at step, micro-batch, row \(2, 0, 0\)"):
        compare_rows(other, 3)
    (other / "rows_of_rank_0.csv").write_text("".join(rows[:-1]), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"no process of .* has read the row .* \(3, 1, 1\)"):
        compare_rows(other, 3)
    metrics = (run / "metrics.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (other / "metrics.csv").write_text("".join(metrics[:-1]), encoding="utf-8")
    with pytest.raises(CheckpointError, match="at step 3 the uninterrupted run has"):
        compare_runs(run, other, 0.0)
    shutil.copy(run / "metrics.csv", other / "metrics.csv")
    content = bytearray((run / "final.safetensors").read_bytes())
    content[-1] ^= 1
    (other / "final.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="the final weights of .* differ"):
        compare_runs(run, other, 0.0)


def test_more_kills_than_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="kills=9 ranks=1 must be at least 1, and steps=10 at least kills"):
        verify_resume(kills=9, steps=10)


@pytest.mark.slow
def test_a_killed_run_goes_on_with_another_number_of_ranks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify_resume(kills=2, steps=14, ranks=2, runs_dir=str(tmp_path))
    printed = capsys.readouterr().out
    assert "on 2 rank(s)" in printed
    assert "2 kills, 1 and 2 ranks: 14 steps" in printed
