"""What was measured as a page: all attentions at a glance, then each task with its figures and what they took."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bulba.utility.estimate import Estimate, estimate
from bulba.utility.suite import TASKS, Row
from bulba.utility.task import Task

HEAD = """# What the attentions are good for

Every figure is a mean over {seeds}{interval}.
All attentions had the same rows, steps and learning rate, and nothing was tuned for one of them; they differ in
weights, FLOPs and seconds, which stand beside. Intervals hold one by one, not all together: of 20, about one misses by
chance.

{facts}
"""


@dataclass(frozen=True)
class Standing:
    """One attention in one task. reason: why there are no figures, else None. costs: means over the seeds."""

    estimates: Mapping[str, Estimate]
    solved_seeds: int | None
    seeds: int
    costs: Mapping[str, float]
    reason: str | None = None


def standing(task: Task, rows: Sequence[Row]) -> Standing:
    """What the rows of one attention in one task come to; figures that only some seeds have are not averaged."""
    bad = [row for row in rows if "figures" not in row]
    if bad:
        kind = "refused" if "refused" in bad[0] else "failed"
        where = "" if len(bad) == len(rows) else f" at {len(bad)} of {len(rows)} seeds"
        return Standing({}, None, len(rows), {}, f"{kind}{where}: {bad[0][kind]}")
    names = [name for name in rows[0]["figures"] if all(name in row["figures"] for row in rows)]
    estimates = {name: estimate([row["figures"][name] for row in rows], task.limits_of(name)) for name in names}
    costs = [row["cost"] for row in rows if row["cost"]]
    means = {name: sum(cost[name] for cost in costs) / len(costs) for name in costs[0]} if costs else {}
    marks = [row["solved"] for row in rows]
    solved = None if None in marks else sum(marks)
    return Standing(estimates, solved, len(rows), means)


def standings(rows: Sequence[Row]) -> dict[str, dict[str, Standing]]:
    """By task and attention, in the order of the rows."""
    grouped: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        grouped.setdefault(row["task"], {}).setdefault(row["attention"], []).append(row)
    return {
        name: {attention: standing(TASKS[name], own) for attention, own in of_task.items()}
        for name, of_task in grouped.items()
    }


def page(rows: Sequence[Row], seeds: int, facts: Sequence[str]) -> str:
    """table.md. facts: on what and with which settings, one line each."""
    table = standings(rows)
    interval = ", with its 95 % interval (Student) in brackets" if seeds > 1 else ", which has no interval"
    head = HEAD.format(
        seeds=f"{seeds} seeds" if seeds > 1 else "one seed",
        interval=interval,
        facts="\n".join(f"- {fact}" for fact in facts),
    )
    parts = [head, glance(table), *(section(TASKS[name], of_task) for name, of_task in table.items())]
    return "\n".join(parts)


def glance(table: Mapping[str, Mapping[str, Standing]]) -> str:
    """The headline of every task; what a refusal says stands in the section of its task."""
    attentions = list(dict.fromkeys(name for of_task in table.values() for name in of_task))
    head = ["attention", *(f"{name} ({TASKS[name].better} is better)" for name in table)]
    lines = []
    for attention in attentions:
        cells = [attention]
        for name, of_task in table.items():
            one = of_task.get(attention)
            cells.append("-" if one is None else headline(TASKS[name], one))
        lines.append(cells)
    return markdown([head, *lines])


def headline(task: Task, one: Standing) -> str:
    return one.reason.partition(":")[0] if one.reason else with_interval(one.estimates[task.headline])


def section(task: Task, of_task: Mapping[str, Standing]) -> str:
    """One task: its question, who solved it, figures and costs."""
    costly = any(one.costs for one in of_task.values())
    head = ["attention", *task.shown.values(), *(["solved"] if task.solved is not None else [])]
    head += ["weights", "MFLOPs a row", "tokens", "seconds"] if costly else []
    lines = []
    for attention, one in of_task.items():
        if one.reason:
            lines.append([attention, plain(one.reason), *[""] * (len(head) - 2)])
            continue
        cells = [attention, *(figure(one, name) for name in task.shown)]
        if task.solved is not None:
            cells.append(f"{one.solved_seeds} of {one.seeds}")
        lines.append(cells + (cost_cells(one.costs) if costly else []))
    return f"## {task.name}\n\n{task.question}\n\n{verdict(task, of_task)}\n\n{markdown([head, *lines])}"


def figure(one: Standing, name: str) -> str:
    return with_interval(one.estimates[name]) if name in one.estimates else "none"


def cost_cells(costs: Mapping[str, float]) -> list[str]:
    if not costs:
        return [""] * 4
    return [
        f"{costs['params']:,.0f}",
        f"{costs['row_flops'] / 1e6:,.2f}",
        f"{costs['tokens']:,.0f}",
        f"{costs['seconds']:,.1f}",
    ]


def verdict(task: Task, of_task: Mapping[str, Standing]) -> str:
    """Who solved the task; a task that nobody solved compares nothing, and says so."""
    measured = {name: one for name, one in of_task.items() if one.reason is None}
    marked = {name: one for name, one in measured.items() if one.solved_seeds is not None}
    if not marked:
        return f"{task.better} is better, in {task.unit}.".capitalize() if measured else "Nobody could take part."
    solvers = [f"{name} ({one.solved_seeds} of {one.seeds})" for name, one in marked.items() if one.solved_seeds]
    bar = "" if task.solved is None else f", from {task.solved:g} on"
    guessing = "" if task.chance is None else f" Guessing gives {task.chance:.3g}."
    if not solvers:
        return f"Solved by none{bar}: the figures say how far each came in these steps, not who can.{guessing}"
    return f"Solved{bar}, at how many seeds: {', '.join(solvers)}.{guessing}"


def with_interval(one: Estimate) -> str:
    if one.low is None or one.high is None:
        return number(one.mean)
    return f"{number(one.mean)} [{number(one.low)}, {number(one.high)}]"


def number(value: float) -> str:
    """Three digits or so, thousands with commas."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def plain(text: str) -> str:
    """On one line of a table."""
    return re.sub(r"\s+", " ", text).replace("|", "/")


def markdown(lines: Sequence[Sequence[Any]]) -> str:
    """A table, its head first."""
    head, *rest = ([str(cell) for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *rest])
