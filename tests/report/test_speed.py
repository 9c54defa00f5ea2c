"""The FLOPs that a run reports are those of its model times the rows that it trained on."""

import json
from pathlib import Path

import pytest

from bulba.checkpoint import load_model
from bulba.checkpoint_folder import list_checkpoints
from bulba.report.records import read_metrics
from bulba.stage.flops import row_flops


def test_the_run_counts_the_flops_of_every_row(small_run: Path) -> None:
    result = json.loads((small_run / "summary.json").read_text(encoding="utf-8"))["result"]
    model = load_model(list_checkpoints(small_run)[-1].folder)
    # 20 steps of 4 rows of 64 tokens
    assert result["train_flops"] == 20 * 4 * row_flops(model, 64)
    assert result["tflops_per_s"] == pytest.approx(result["train_flops"] / result["train_seconds"] / 1e12)
    assert result["mfu"] == pytest.approx(result["tflops_per_s"] / result["peak_tflops_per_s"])
    assert result["peak_source"] == "measured"
    assert "(measured on it)" in (small_run / "run.md").read_text(encoding="utf-8")


def test_every_reading_has_its_share_of_the_peak(small_run: Path) -> None:
    result = json.loads((small_run / "summary.json").read_text(encoding="utf-8"))["result"]
    peak = result["peak_tflops_per_s"]
    rows = read_metrics(small_run).values()
    assert all(row["perf/mfu"] == pytest.approx(row["perf/tflops_per_s"] / peak) for row in rows)
