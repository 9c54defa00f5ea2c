"""The suite itself: every task for every attention and seed, and what came of it as plain rows.

The tasks of one attention at one seed share a process, because some read a model that another has trained; such jobs
run side by side, a core each. Whatever an attention cannot do is a row that says so in its own words.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bulba.errors import BulbaError, TrainingError
from bulba.utility.forgetting import Forgetting
from bulba.utility.gradients import Gradients
from bulba.utility.length import Length
from bulba.utility.match import Match
from bulba.utility.memory import Memory
from bulba.utility.noise import Noise
from bulba.utility.recall import Recall
from bulba.utility.task import Lab, Task, TextSettings
from bulba.utility.text import Text

GENERATED: tuple[Task, ...] = (Recall(), Noise(), Match(), Length(), Forgetting(), Gradients(), Memory())
TASKS: dict[str, Task] = {task.name: task for task in (*GENERATED, Text())}
Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """The tasks of one attention at one seed."""

    attention: str
    node: Mapping[str, Any]
    seed: int
    tasks: tuple[str, ...]
    steps: int | None
    device: str
    text: TextSettings | None = None


def run_job(job: Job) -> list[Row]:
    """One row for each task: its figures and their cost, or why there are none."""
    lab = Lab(job.attention, job.node, job.seed, job.steps, torch.device(job.device), job.text)
    return [run_task(TASKS[name], lab) for name in job.tasks]


def run_task(task: Task, lab: Lab) -> Row:
    """refused: the attention cannot take part. failed: it began and could not end."""
    row: Row = {"attention": lab.name, "task": task.name, "seed": lab.seed}
    try:
        outcome = task.measure(lab)
    except TrainingError as error:
        return row | {"failed": str(error)}
    except BulbaError as error:
        return row | {"refused": str(error)}
    cost = None if outcome.cost is None else asdict(outcome.cost)
    return row | {"figures": outcome.figures, "cost": cost, "solved": task.is_solved(outcome.figures)}


def run_side_by_side(jobs: Sequence[Job], workers: int) -> Iterator[list[Row]]:
    """The rows of each job as it ends; in this process where there is one worker."""
    if workers == 1:
        yield from map(run_job, jobs)
        return
    # A forked process inherits locks of torch's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for done in as_completed([pool.submit(run_job, job) for job in jobs]):
                yield done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def jobs_of(
    nodes: Mapping[str, Mapping[str, Any]],
    tasks: Sequence[str],
    seeds: int,
    steps: int | None,
    device: str,
    text: TextSettings | None,
) -> tuple[list[Job], list[Job]]:
    """Jobs that may run side by side, and those whose speed is measured, which may not.

    What no random number enters is measured at the first seed alone.
    """
    together, alone = [], []
    for seed in range(1, seeds + 1):
        for attention, node in nodes.items():
            names = [name for name in tasks if name != Text.name and (TASKS[name].seeded or seed == 1)]
            if names:
                together.append(Job(attention, node, seed, tuple(names), steps, device))
            if Text.name in tasks:
                alone.append(Job(attention, node, seed, (Text.name,), steps, device, text))
    return together, alone


def default_workers(device: str, num_jobs: int) -> int:
    """A core each; one on an accelerator, which they would have to share."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, num_jobs)) if device == "cpu" else 1


def text_settings(folder: str, words: Sequence[str], out: Path) -> TextSettings | None:
    return TextSettings(folder, tuple(words), out / "runs") if folder else None
