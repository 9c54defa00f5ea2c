"""Run folders: where a run keeps everything, and how `run=last` finds one.

runs/2026-11-20_12-00-00_murashka/
    config.yaml    the resolved config; `train.py --config-path RUN` repeats the run
    run.json       where it came from: command, commit, versions, seed, fingerprints
    tokenizer/     tokenizer.json and what transformers needs beside it
    checkpoints/   step_00000400/ ...
    metrics.csv    every logged figure by step
    samples.md     what it wrote along the way
    summary.json   the end result for programs
    run.md         the end result for people
"""

from __future__ import annotations

from pathlib import Path

from bulba.errors import CheckpointError


def new_folder(runs_dir: Path, name: str) -> Path:
    """Make a folder that nobody else has: `name`, or `name-2`, `name-3`, ..."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        folder = runs_dir / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError(f"a thousand folders are called {name}")


def list_runs(runs_dir: Path) -> list[Path]:
    """Every run in `runs_dir` and in the folders of its sweeps, oldest first."""
    runs = [path.parent for pattern in ("*/run.json", "*/*/run.json") for path in runs_dir.glob(pattern)]
    return sorted(runs, key=lambda run: (run / "run.json").stat().st_mtime_ns)


def find_run(name: str | Path, runs_dir: Path = Path("runs")) -> Path:
    """The run folder that `name` means: `last`, a path, or the name of a folder in `runs_dir`."""
    runs = list_runs(runs_dir)
    if str(name) == "last":
        if not runs:
            raise CheckpointError(f"there is no run in {runs_dir}/ yet: train one with `uv run train.py`.")
        return runs[-1]
    for path in (Path(name), runs_dir / name):
        if path.is_dir():
            return path
    known = ", ".join(run.name for run in runs[-3:]) or "none yet"
    raise CheckpointError(f"{name} is not a run folder; the newest runs in {runs_dir}/ are: {known}.")
