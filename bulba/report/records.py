"""Reading metrics.csv of a run, for programs that have no Lightning."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from bulba.errors import CheckpointError

Row = dict[str, float]


def read_metrics(run: Path) -> dict[int, Row]:
    """The figures of a run's metrics.csv by step; absent figures are absent, a half-written last line is left out."""
    path = run / "metrics.csv"
    if not path.is_file():
        raise CheckpointError(f"{run} has no metrics.csv: it is not a run folder, or the run logged nothing yet.")
    text = path.read_text(encoding="utf-8")
    rows: dict[int, Row] = {}
    for record in csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])):
        figures = {name: float(value) for name, value in record.items() if value and name != "step"}
        rows.setdefault(int(record["step"]), {}).update(figures)
    return rows
