"""Proof of resume: a run that is killed with -9 again and again ends as one that is not.

Both runs are real processes of train.py. On a CPU nothing is allowed to differ, not in the last bit: every logged loss,
every validation figure, every final weight. Each run also notes a hash of every row that its steps really read; they
must be the rows that the order of the samples names.

With `ranks` above 1 the resumes take turns: one process, then so many, then one again. The rows must still be the same.
Figures are then sums in another order, so they may differ by `TOLERANCE`, and final weights are not compared.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
from omegaconf import OmegaConf
from torch import Tensor

from bulba.checkpoint_folder import list_checkpoints
from bulba.config.build import build
from bulba.data.datamodule import MicroBatches, Share, TextData
from bulba.errors import BulbaError, CheckpointError, ConfigError
from bulba.files import sha256_file
from bulba.report.records import Row, read_metrics
from bulba.runs import new_folder

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
SETTINGS = (
    "experiment=smoke",
    "trainer.device=cpu",
    "trainer.val_every_steps=10",
    "data.micro_batch_size=2",
    "callbacks.metrics.every_steps=1",
    "callbacks.checkpoints.every_steps=5",
    "+callbacks.read_rows._target_=bulba.bench.resume.ReadRows",
)
EXACT = ("train/lr", "train/tokens")
SUMMED = ("train/loss", "train/grad_norm", "val/loss", "val/bpb")
TOLERANCE = 1e-3
"""Largest relative difference of a figure where the number of ranks changes; the last digits grow apart by training."""


class ReadRows(L.Callback):
    """Notes what each step reads in rows_of_rank_N.csv: step, micro-batch over all ranks, row, hash of its inputs."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        number = trainer.global_rank + batch_idx % trainer.accumulate_grad_batches * trainer.world_size
        path = Path(trainer.default_root_dir) / f"rows_of_rank_{trainer.global_rank}.csv"
        with path.open("a", encoding="utf-8") as file:
            for row, digest in enumerate(row_hashes(batch["inputs"])):
                file.write(f"{trainer.global_step + 1},{number},{row},{digest}\n")


def row_hashes(inputs_BT: Tensor) -> list[str]:
    """A hash of the token ids of each row."""
    return [hashlib.sha256(row_T.cpu().numpy().tobytes()).hexdigest()[:16] for row_T in inputs_BT]


def verify_resume(kills: int = 20, steps: int = 100, seed: int = 0, ranks: int = 1, runs_dir: str = "runs") -> None:
    """Compare a run killed `kills` times at random steps with an uninterrupted one; CheckpointError where they part."""
    if kills < 1 or steps < kills + 6 or ranks < 1:
        raise ConfigError(f"kills={kills} ranks={ranks} must be at least 1, and steps={steps} at least kills + 6.")
    folder = new_folder(Path(runs_dir), f"verify-resume-{seed}")
    whole, broken = folder / "whole", folder / "broken"
    settings = [*SETTINGS, f"trainer.max_steps={steps}"]
    finish(start([*settings, f"hydra.run.dir='{whole}'"], whole))

    # Behind the first checkpoint; each kill meets a process that has resumed from the one before.
    draw = random.Random(seed)
    deaths = sorted(draw.sample(range(6, steps), kills))
    process = start([*settings, f"hydra.run.dir='{broken}'"], broken)
    for number, step in enumerate(deaths, start=1):
        died_at = kill_at(process, broken, step, draw.uniform(0, 0.2))
        num_ranks = ranks if number % 2 else 1
        print(
            f"kill {number}: -9 at step {died_at}, resuming from step {newest_step(broken)} on {num_ranks} rank(s)",
            flush=True,
        )
        process = start([f"resume='{broken}'", f"trainer.num_devices={num_ranks}"], broken)
    finish(process)
    largest = compare_runs(whole, broken, 0.0 if ranks == 1 else TOLERANCE)
    num_rows = compare_rows(whole, steps) + compare_rows(broken, steps)
    lost = sorted(path.name for path in (broken / "checkpoints").glob("*.damaged"))
    if lost:
        raise CheckpointError(f"{broken} was killed and {', '.join(lost)} had been reported as saved.")
    if ranks == 1:
        print(f"{kills} kills: {steps} steps of losses, validation figures and all final weights are bit-equal")
    else:
        print(f"{kills} kills, 1 and {ranks} ranks: {steps} steps, figures differ by {largest:.1e} of {TOLERANCE:.0e}")
    print(f"all {num_rows} rows read are those of the order")


def start(words: list[str], run: Path) -> subprocess.Popen[bytes]:
    """A process of train.py and its children, with their output in a log beside the run folder."""
    with (run.parent / f"{run.name}.log").open("ab") as log:
        return subprocess.Popen([sys.executable, str(TRAIN), *words], stdout=log, stderr=log, start_new_session=True)


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a run that must succeed."""
    if process.wait() != 0:
        raise BulbaError(f"train.py ended with {process.returncode}: read the .log files beside the run folders.")


def kill_at(process: subprocess.Popen[bytes], run: Path, step: int, delay_s: float) -> int:
    """Kill -9 `delay_s` after `step` is logged, or the first step of this process where the draw lies behind it."""
    target = max(step, newest_step(run) + 1)
    before = modified(run)
    while process.poll() is None and (modified(run) == before or logged_step(run) < target or not newest_step(run)):
        time.sleep(0.02)
    if process.poll() not in (None, 0):
        finish(process)
    time.sleep(delay_s)
    kill_group(process)
    return logged_step(run)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill -9 a process and the ranks it started."""
    if os.name == "posix":
        # Not yet waited for, so its number is still its own.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


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


def compare_runs(whole: Path, broken: Path, tolerance: float) -> float:
    """Every figure at every step; without a tolerance the final weights too. The largest relative difference."""
    expected, got = read_metrics(whole), read_metrics(broken)
    largest = 0.0
    for step in sorted(expected.keys() | got.keys()):
        left, right = expected.get(step, {}), got.get(step, {})
        if chosen(left, EXACT) != chosen(right, EXACT) or chosen(left, SUMMED).keys() != chosen(right, SUMMED).keys():
            raise CheckpointError(f"at step {step} the uninterrupted run has {left} and the resumed one {right}.")
        for name, figure in chosen(left, SUMMED).items():
            difference = abs(right[name] - figure) / abs(figure)
            largest = max(largest, difference)
            if difference > tolerance:
                raise CheckpointError(
                    f"at step {step} {name} is {figure} in the uninterrupted run and {right[name]} in the resumed one."
                )
    if not tolerance and sha256_file(whole / "final.safetensors") != sha256_file(broken / "final.safetensors"):
        raise CheckpointError(f"the final weights of {whole} and {broken} differ.")
    return largest


def chosen(row: Row, names: tuple[str, ...]) -> Row:
    return {name: row[name] for name in names if name in row}


def compare_rows(run: Path, steps: int) -> int:
    """Hold every row that any process of the run read against the order of the samples; the number of rows."""
    expected = rows_of_order(run, steps)
    read: set[tuple[int, int, int]] = set()
    num_rows = 0
    for path in sorted(run.glob("rows_of_rank_*.csv")):
        content = path.read_text(encoding="utf-8")
        # A line cut off by a kill is left out.
        for line in content[: content.rfind("\n") + 1].splitlines():
            step, micro_batch, row, digest = line.split(",")
            place = (int(step), int(micro_batch), int(row))
            if expected.get(place) != digest:
                raise CheckpointError(f"{path} has another row at step, micro-batch, row {place} than the order.")
            read.add(place)
            num_rows += 1
    missing = sorted(expected.keys() - read)
    if missing:
        raise CheckpointError(f"no process of {run} has read the row at step, micro-batch, row {missing[0]}.")
    return num_rows


def rows_of_order(run: Path, steps: int) -> dict[tuple[int, int, int], str]:
    """The hash of every row by (step, micro-batch, row), from the settings of the run alone."""
    config = OmegaConf.load(run / "config.yaml")
    data: TextData = build(config.data, path="data")
    data.prepare(build(config.tokenizer, path="tokenizer"))
    per_step = data.batch_size // data.micro_batch_size
    batches = iter(MicroBatches(data.train_sampler, per_step, Share(), start_step=lambda: 0))
    return {
        (index // per_step + 1, index % per_step, row): digest
        for index, batch in enumerate(islice(batches, steps * per_step))
        for row, digest in enumerate(row_hashes(batch["inputs"]))
    }
