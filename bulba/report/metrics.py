"""metrics.csv: every logged figure of a run, a row for each time that something was logged.

This file is the record of a run; other loggers are fed beside it. Numbers are written so that they read back to the
same bits.
"""

from __future__ import annotations

import io
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers.logger import Logger

from bulba.files import write_text
from bulba.report.records import Row, read_metrics


class CsvLogger(Logger):
    """Appends to metrics.csv of the run folder `run`; rows already there up to `resume_step` stay, later ones go."""

    def __init__(self, run: Path, resume_step: int = 0) -> None:
        super().__init__()
        self.path = run / "metrics.csv"
        rows = read_metrics(run) if self.path.exists() else {}
        self._rewrite({step: row for step, row in rows.items() if step <= resume_step})

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The settings stand in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        assert step is not None
        if not set(metrics) <= set(self.columns):
            self._rewrite(read_metrics(self.path.parent), new_columns=list(metrics))
        with self.path.open("a", encoding="utf-8", newline="") as file:
            _write_row(file, self.columns, step, metrics)

    def _rewrite(self, rows: Mapping[int, Row], new_columns: Iterable[str] = ()) -> None:
        """Write the whole file anew, as a figure gets its column or later rows go."""
        names = [name for row in rows.values() for name in row]
        self.columns = list(dict.fromkeys([*names, *new_columns]))
        text = io.StringIO()
        text.write(",".join(["step", *self.columns]) + "\n")
        for step, row in rows.items():
            _write_row(text, self.columns, step, row)
        write_text(self.path, text.getvalue())


def _write_row(file: TextIO, columns: list[str], step: int, figures: Mapping[str, float]) -> None:
    cells = (repr(float(figures[name])) if name in figures else "" for name in columns)
    file.write(",".join([str(step), *cells]) + "\n")
