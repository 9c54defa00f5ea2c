"""metrics.csv: what is logged reads back to the same bits, and a resume drops what came after its checkpoint."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulba.errors import CheckpointError
from bulba.report.metrics import CsvLogger
from bulba.report.records import read_metrics

FIGURES = st.dictionaries(
    st.sampled_from(["train/loss", "val/bpb", "perf/tokens_per_s"]), st.floats(allow_nan=False), min_size=1
)


@given(rows=st.lists(st.tuples(st.integers(0, 5), FIGURES), max_size=12))
def test_figures_read_back_to_the_same_bits(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    run = tmp_path_factory.mktemp("run")
    logger = CsvLogger(run)
    expected: dict[int, dict[str, float]] = {}
    for step, figures in rows:
        logger.log_metrics(figures, step=step)
        expected.setdefault(step, {}).update(figures)
    assert read_metrics(run) == expected


def test_a_resume_keeps_earlier_rows_and_drops_later_ones(tmp_path: Path) -> None:
    first = CsvLogger(tmp_path)
    for step in (10, 20, 30):
        first.log_metrics({"train/loss": step / 7}, step=step)
    CsvLogger(tmp_path, resume_step=20).log_metrics({"val/bpb": 1.5}, step=25)
    assert read_metrics(tmp_path) == {
        10: {"train/loss": 10 / 7},
        20: {"train/loss": 20 / 7},
        25: {"val/bpb": 1.5},
    }


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    CsvLogger(tmp_path).log_metrics({"train/loss": 1.25}, step=1)
    with (tmp_path / "metrics.csv").open("a", encoding="utf-8") as file:
        file.write("2,3.14")
    assert read_metrics(tmp_path) == {1: {"train/loss": 1.25}}


def test_a_folder_without_metrics_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no metrics\.csv"):
        read_metrics(tmp_path)
