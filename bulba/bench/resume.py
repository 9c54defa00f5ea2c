"""Proof of resume: a run that is killed with -9 again and again ends with the same bits as one that is not.

Both runs are real processes of train.py. Every logged loss, every validation figure and every final weight must be
equal; on a CPU nothing is allowed to differ, not in the last bit.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from bulba.checkpoint import list_checkpoints
from bulba.errors import BulbaError, CheckpointError
from bulba.files import sha256_file
from bulba.report.metrics import Row, read_metrics
from bulba.runs import new_folder

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
SETTINGS = (
    "experiment=smoke",
    "trainer.device=cpu",
    "trainer.val_every_steps=10",
    "callbacks.metrics.every_steps=1",
    "callbacks.checkpoints.every_steps=5",
)
COMPARED = ("train/loss", "train/lr", "train/grad_norm", "train/tokens", "val/loss", "val/bpb")


def verify_resume(kills: int = 10, steps: int = 100, seed: int = 0, runs_dir: str = "runs") -> None:
    """Compare a run killed `kills` times at random steps with an uninterrupted one; CheckpointError where they part."""
    folder = new_folder(Path(runs_dir), f"verify-resume-{seed}")
    whole, broken = folder / "whole", folder / "broken"
    settings = [*SETTINGS, f"trainer.max_steps={steps}"]
    finish(start([*settings, f"hydra.run.dir='{whole}'"], whole))

    # Behind the first checkpoint; each kill meets a process that has resumed from the one before.
    deaths = sorted(random.Random(seed).sample(range(6, steps), kills))
    process = start([*settings, f"hydra.run.dir='{broken}'"], broken)
    for number, step in enumerate(deaths, start=1):
        died_at = kill_at(process, broken, step)
        print(f"kill {number}: -9 at step {died_at}, resuming from step {newest_step(broken)}", flush=True)
        process = start([f"resume='{broken}'"], broken)
    finish(process)
    compare_runs(whole, broken)
    print(f"{kills} kills: {steps} steps of losses, validation figures and all final weights are bit-equal")


def start(words: list[str], run: Path) -> subprocess.Popen[bytes]:
    """A process of train.py, with its output in a log beside the run folder."""
    log = (run.parent / f"{run.name}.log").open("ab")
    return subprocess.Popen([sys.executable, str(TRAIN), *words], stdout=log, stderr=log)


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a run that must succeed."""
    if process.wait() != 0:
        raise BulbaError(f"train.py ended with {process.returncode}: read the .log files beside the run folders.")


def kill_at(process: subprocess.Popen[bytes], run: Path, step: int) -> int:
    """Kill -9 as soon as `step` is logged, or the first step of this process where the draw lies behind it."""
    target = max(step, newest_step(run) + 1)
    before = modified(run)
    while process.poll() is None and (modified(run) == before or logged_step(run) < target):
        time.sleep(0.02)
    if process.poll() not in (None, 0):
        finish(process)
    process.kill()
    process.wait()
    return logged_step(run)


def modified(run: Path) -> int:
    """When metrics.csv was last written; a resumed process writes it anew first."""
    path = run / "metrics.csv"
    return path.stat().st_mtime_ns if path.exists() else 0


def logged_step(run: Path) -> int:
    """The newest step in metrics.csv."""
    try:
        return max(read_metrics(run), default=0)
    except CheckpointError:
        return 0


def newest_step(run: Path) -> int:
    """The step that a resume will begin at."""
    return max((checkpoint.step for checkpoint in list_checkpoints(run)), default=0)


def compare_runs(whole: Path, broken: Path) -> None:
    """Every compared figure at every step, and the final weights."""
    expected, got = read_metrics(whole), read_metrics(broken)
    for step in sorted(expected.keys() | got.keys()):
        left, right = chosen(expected.get(step, {})), chosen(got.get(step, {}))
        if left != right:
            raise CheckpointError(f"at step {step} the uninterrupted run has {left} and the resumed one {right}.")
    if sha256_file(whole / "final.safetensors") != sha256_file(broken / "final.safetensors"):
        raise CheckpointError(f"the final weights of {whole} and {broken} differ.")


def chosen(row: Row) -> Row:
    return {name: row[name] for name in COMPARED if name in row}
