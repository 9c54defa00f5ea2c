"""A table of runs: what differs in their configs, and how they came out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from bulba.errors import CheckpointError
from bulba.report.summary import read_summary
from bulba.runs import list_runs

TARGET = "._target_"
FIGURES = {
    "val/bpb": "{:.4f}",
    "val/loss": "{:.4f}",
    "train/loss": "{:.4f}",
    "tokens_per_s": "{:,.0f}",
    "train_tokens": "{:,}",
    "host_memory_bytes": "{:,.0f}",
    "device_memory_bytes": "{:,.0f}",
}
TITLES = {
    "val/bpb": "val bits/byte",
    "val/loss": "val loss",
    "train/loss": "train loss",
    "tokens_per_s": "tokens/s",
    "train_tokens": "tokens",
    "host_memory_bytes": "host MB",
    "device_memory_bytes": "device MB",
}


def compare(runs: list[Path]) -> Table:
    """Rows of runs, best bits per byte first; columns for the settings that are not the same in all of them."""
    runs = [run for given in runs for run in expand(given)]
    settings = {run: flatten(read_config(run)) for run in runs}
    summaries = {run: read_summary(run)["result"] for run in runs}
    differing = differences(list(settings.values()))
    shown = [name for name in FIGURES if any(summaries[run].get(name) is not None for run in runs)]
    table = Table(title=f"{len(runs)} run{'s' if len(runs) > 1 else ''}")
    table.add_column("run", overflow="fold")
    for name in differing:
        table.add_column(name.removesuffix(TARGET))
    for name in shown:
        table.add_column(TITLES[name], justify="right")
    for run in sorted(runs, key=lambda run: _rank(summaries[run])):
        changed = [_setting(name, settings[run].get(name, "-")) for name in differing]
        figures = [_cell(name, summaries[run].get(name)) for name in shown]
        table.add_row(_short(run), *changed, *figures)
    return table


def expand(path: Path) -> list[Path]:
    """The runs that a path means: a run itself, or every run of a sweep's folder."""
    if (path / "run.json").is_file():
        return [path]
    runs = list_runs(path) if path.is_dir() else []
    if not runs:
        raise CheckpointError(f"{path} is not a run and holds none: give run folders or the folder of a sweep.")
    return runs


def read_config(run: Path) -> dict[str, Any]:
    """The settings of a run without those of Hydra itself."""
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    return {name: value for name, value in config.items() if name not in ("hydra", "defaults", "resume")}


def flatten(node: Any, path: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}; lists stay values."""
    if not isinstance(node, dict):
        return {path: node}
    return {
        name: value
        for key, child in node.items()
        for name, value in flatten(child, f"{path}.{key}" if path else str(key)).items()
    }


def differences(settings: list[dict[str, Any]]) -> list[str]:
    """Names of the settings that are not the same in all; a copy of another one (data.seed of seed) is left out.

    Where runs chose different files of a group (another `_target_`), the options that only one choice has say nothing.
    """
    names = list(dict.fromkeys(name for one in settings for name in one))
    groups = {name.removesuffix(TARGET) for name in names if name.endswith(TARGET)}
    chosen_apart = tuple(f"{group}." for group in groups if len({one.get(group + TARGET) for one in settings}) > 1)
    names = [name for name in names if not name.startswith(chosen_apart) or all(name in one for one in settings)]
    columns = {name: tuple(repr(one.get(name, "-")) for one in settings) for name in names}
    chosen: dict[tuple[str, ...], str] = {}
    for name in sorted(names, key=lambda name: (name.count("."), names.index(name))):
        if len(set(columns[name])) > 1:
            chosen.setdefault(columns[name], name)
    return [name for name in names if name in chosen.values()]


def _setting(name: str, value: Any) -> str:
    """A value as text; a `_target_` by its file, which has the name of the choice."""
    return str(value).split(".")[-2] if name.endswith(TARGET) and "." in str(value) else str(value)


def _rank(result: dict[str, Any]) -> float:
    figure = result.get("val/bpb")
    return float("inf") if figure is None else figure


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return FIGURES[name].format(value / 1e6 if name.endswith("_bytes") else value)


def _short(run: Path) -> str:
    """`sweep/0` for a run of a sweep, else the folder's name."""
    return f"{run.parent.name}/{run.name}" if run.name.isdigit() else run.name
