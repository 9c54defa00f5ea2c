"""`python -m bulba utility`: the practical suite. Writes results.json, table.md and figure.png into one folder."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bulba.config.build import nearest, to_plain
from bulba.config.overrides import attention_names, check
from bulba.config.snapshot import provenance, write_json
from bulba.device import Device, choose_device, device_name
from bulba.errors import ConfigError
from bulba.files import atomic_file, write_text
from bulba.utility.picture import draw
from bulba.utility.suite import (
    GENERATED,
    TASKS,
    Job,
    Row,
    default_workers,
    jobs_of,
    run_job,
    run_side_by_side,
    text_settings,
)
from bulba.utility.table import headline, page, standings
from bulba.utility.task import SIZES, Task
from bulba.utility.text import Text

ALL = "all"
BASELINE = "standard"


def utility_command(
    attentions: list[str] | str = ALL,
    tasks: list[str] | str | None = None,
    seeds: int = 3,
    steps: int | None = None,
    out: str = "runs/utility",
    text: str = "",
    words: list[str] | None = None,
    device: Device = "cpu",
    workers: int | None = None,
) -> None:
    """Measure, write and print.

    attentions: files of conf/attention, or all. tasks: of `TASKS`; None is all generated ones, or `text` alone where a
    folder of texts is given. seeds: how many. steps: of training in every task, instead of each task's own. text: the
    folder of texts of the task `text`. words: more settings of train.py for it. workers: processes side by side; None
    is one for each core.
    """
    known = sorted(attention_names(), key=lambda name: (name != BASELINE, name))
    names = chosen(attentions, known, "attentions", everything=ALL)
    wanted = chosen(tasks or ([Text.name] if text else [task.name for task in GENERATED]), list(TASKS), "tasks")
    check_settings(wanted, seeds, steps, text, words, workers)
    where = choose_device(device)
    folder = Path(out)
    # As train.py reads them.
    nodes = {name: to_plain(check([f"attention={name}"]).attention) for name in names}
    together, alone = jobs_of(nodes, wanted, seeds, steps, where.type, text_settings(text, words or [], folder))
    workers = workers or default_workers(where.type, len(together))
    record: dict[str, Any] = {
        "provenance": provenance(),
        "settings": {
            "attentions": nodes,
            "tasks": {name: task_settings(TASKS[name]) for name in wanted},
            "sizes": SIZES,
            "seeds": list(range(1, seeds + 1)),
            "steps": steps,
            "device": device_name(where),
            "workers": workers,
            "text": text or None,
            "words": words or [],
        },
        "finished": False,
        "rows": [],
    }
    began = time.perf_counter()
    run_jobs(together, alone, workers, record, folder)
    record["rows"] = in_order(record["rows"], names, wanted)
    record |= {"finished": True, "seconds": round(time.perf_counter() - began, 1)}
    write_results(record, seeds, folder)
    Console().print(glance_table(record["rows"], names))
    print(f"written: {', '.join(str(folder / name) for name in ('results.json', 'table.md', 'figure.png'))}")


def run_jobs(together: Sequence[Job], alone: Sequence[Job], workers: int, record: dict[str, Any], folder: Path) -> None:
    """Add the rows of every job to the record, which is on the disk whenever a job has ended."""
    total = len(together) + len(alone)
    for done, rows in enumerate(every_job(together, alone, workers), start=1):
        record["rows"] += rows
        write_json(folder / "results.json", record)
        first = rows[0]
        print(f"{done} of {total}: {first['attention']}, seed {first['seed']}: {said(rows)}", flush=True)


def every_job(together: Sequence[Job], alone: Sequence[Job], workers: int) -> Iterable[list[Row]]:
    if together:
        yield from run_side_by_side(together, workers)
    yield from map(run_job, alone)


def said(rows: Sequence[Row]) -> str:
    """The headlines of a job in one line."""
    parts = []
    for row in rows:
        word = next((kind for kind in ("refused", "failed") if kind in row), None)
        parts.append(f"{row['task']} {word or format(row['figures'][TASKS[row['task']].headline], '.3g')}")
    return ", ".join(parts)


def write_results(record: dict[str, Any], seeds: int, folder: Path) -> None:
    """All three files, each replaced at once."""
    table = standings(record["rows"])
    record["estimates"] = {
        task: {name: asdict(one) for name, one in of_task.items()} for task, of_task in table.items()
    }
    write_json(folder / "results.json", record)
    write_text(folder / "table.md", page(record["rows"], seeds, facts(record)))
    picture = draw(table)
    with atomic_file(folder / "figure.png") as temporary:
        temporary.write_bytes(picture)


def facts(record: dict[str, Any]) -> list[str]:
    """On what, with what, how long."""
    settings, origin = record["settings"], record["provenance"]
    git = origin["git"] or {"commit": "unknown", "dirty": False}
    versions = ", ".join(f"{name} {origin['versions'][name]}" for name in ("python", "torch"))
    steps = f"{settings['steps']} steps in every task" if settings["steps"] else "the steps of each task's own"
    return [
        f"commit {git['commit'][:12]}{' with changes' if git['dirty'] else ''}, {versions}",
        f"{settings['device']}, {settings['workers']} processes side by side, {record['seconds']:,.0f} s in all",
        f"{steps}; all settings are in results.json",
        f"command: `{' '.join(origin['command'])}`",
    ]


def glance_table(rows: Sequence[Row], names: Sequence[str]) -> Table:
    """The headlines for the terminal, whose width has no room for intervals."""
    table = standings(rows)
    shown = Table("attention", *table, title="means over the seeds; intervals are in table.md", title_justify="left")
    for name in names:
        cells = [headline(TASKS[task], of_task[name]) if name in of_task else "-" for task, of_task in table.items()]
        shown.add_row(name, *(cell.partition(" [")[0] for cell in cells))
    return shown


def in_order(rows: Sequence[Row], names: Sequence[str], tasks: Sequence[str]) -> list[Row]:
    """By task, attention and seed, whichever process was faster."""
    return sorted(rows, key=lambda row: (tasks.index(row["task"]), names.index(row["attention"]), row["seed"]))


def task_settings(task: Task) -> dict[str, Any]:
    """What is fixed about a task, for the record."""
    names = ("question", "headline", "unit", "better", "solved", "chance")
    return {name: getattr(task, name) for name in names}


def chosen(given: Sequence[str] | str, known: list[str], name: str, everything: str | None = None) -> list[str]:
    """The names that are asked for, each once; ConfigError for one that does not exist."""
    if given == everything:
        return known
    asked = list(dict.fromkeys([given] if isinstance(given, str) else map(str, given)))
    for one in asked:
        if one not in known:
            raise ConfigError(f"{name}: {one} does not exist{nearest(one, known)}; choose from {', '.join(known)}.")
    if not asked:
        raise ConfigError(f"{name} is empty: choose from {', '.join(known)}.")
    return asked


def check_settings(
    tasks: Sequence[str], seeds: int, steps: int | None, text: str, words: list[str] | None, workers: int | None
) -> None:
    """Refuse what cannot be or would silently do nothing, before minutes are spent."""
    for name, value in (("seeds", seeds), ("steps", steps), ("workers", workers)):
        if value is not None and value < 1:
            raise ConfigError(f"{name}={value} must be at least 1.")
    if Text.name in tasks and not text:
        raise ConfigError("the task text reads real text: name its folder with text=FOLDER.")
    if text and Text.name not in tasks:
        raise ConfigError(f"text={text} would do nothing: add text to tasks, or leave it out.")
    if words and Text.name not in tasks:
        raise ConfigError("words are settings of train.py for the task text, which is not asked for: leave them out.")
    if not importlib.util.find_spec("matplotlib"):
        raise ConfigError("the figure needs matplotlib, which is not installed: uv pip install 'bulba[report]'.")
