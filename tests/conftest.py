"""One small finished run that many tests look at, and how tests start the programs as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Tests run side by side, and so do the programs that they start. torch reads this when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

ROOT = Path(__file__).parents[1]
# The models of the tests are tiny, and threads that wait for each other cost more than they bring.
torch.set_num_threads(1)
Program = Callable[..., "subprocess.CompletedProcess[str]"]

# Small enough for seconds, and every part of a real run: accumulation, validation, checkpoints, samples.
SMALL = (
    "experiment=smoke",
    "trainer.device=cpu",
    "model.num_layers=2",
    "model.max_seq_len=64",
    "data.batch_size=4",
    "data.micro_batch_size=2",
    "data.val_rows=4",
    "callbacks.metrics.every_steps=1",
    "callbacks.samples.every_steps=10",
    "callbacks.samples.max_new_tokens=8",
)


def run_program(*words: str, cwd: Path = ROOT, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS...` in the project, its output as text."""
    environment = os.environ | {"COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def small(cache_dir: Path) -> list[str]:
    """The settings of a small run, with a data cache of the test session's own."""
    return [*SMALL, f"data.cache_dir='{cache_dir}'"]


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, small: list[str]) -> Path:
    """The folder of a finished small run. Tests read it; those that change it copy it first."""
    run = tmp_path_factory.mktemp("runs") / "small"
    done = run_program("train.py", *small, f"hydra.run.dir='{run}'")
    assert done.returncode == 0, done.stderr
    (run.parent / "small.log").write_text(done.stdout, encoding="utf-8")
    return run


@pytest.fixture(scope="session")
def sdist() -> Path:
    """The converter of llama.cpp out of the source of llama-cpp-python: fetched once, then in the user's cache."""
    from bulba.errors import ExportError
    from bulba.export.sdist import fetch_sdist

    try:
        return fetch_sdist()
    except ExportError as error:
        pytest.skip(str(error))
