"""What was measured as one picture: a panel for each task, a line for each attention, a dot for each seed."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bulba.utility.suite import TASKS
from bulba.utility.table import Standing
from bulba.utility.task import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 4
INK, SEED_COLOUR, FAINT = "#0072B2", "#E69F00", "#8C8C8C"


def draw(table: Mapping[str, Mapping[str, Standing]]) -> bytes:
    """A PNG. Raises ModuleNotFoundError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D

    attentions = list(dict.fromkeys(name for of_task in table.values() for name in of_task))
    columns = min(COLUMNS, len(table))
    rows = math.ceil(len(table) / columns)
    size = (1.5 + 3.1 * columns, 0.9 + rows * (1.3 + 0.27 * len(attentions)))
    figure = Figure(figsize=size, dpi=150, layout=ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.1))
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for place, (name, of_task) in enumerate(table.items()):
        panel(panels[place], TASKS[name], of_task, attentions)
        if place % columns:
            panels[place].set_yticklabels([])
    for axes in list(panels)[len(table) :]:
        axes.set_axis_off()
    legend = [
        Line2D([], [], color=INK, marker="D", markersize=5, label="mean and 95 % interval"),
        Line2D([], [], color=SEED_COLOUR, marker="o", markersize=4, linestyle="none", label="a seed"),
        Line2D([], [], color=FAINT, linestyle=":", label="guessing"),
        Line2D([], [], color=FAINT, linestyle="--", label="solved from here on, or ideal"),
    ]
    figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def panel(axes: Axes, task: Task, of_task: Mapping[str, Standing], attentions: list[str]) -> None:
    """The headline of one task, attentions from top to bottom."""
    for place, attention in enumerate(attentions):
        one = of_task.get(attention)
        if one is None:
            continue
        if one.reason:
            word = one.reason.partition(":")[0]
            axes.text(0.02, place, word, transform=axes.get_yaxis_transform(), va="center", color=FAINT, fontsize=8)
            continue
        shown = one.estimates[task.headline]
        if shown.low is not None and shown.high is not None:
            axes.plot([shown.low, shown.high], [place, place], color=INK, linewidth=2, solid_capstyle="butt")
        axes.plot(shown.mean, place, color=INK, marker="D", markersize=5)
        if len(shown.values) > 1:
            heights = [place + 0.22] * len(shown.values)
            axes.plot(shown.values, heights, linestyle="none", marker="o", markersize=3, color=SEED_COLOUR)
    ideal = 0.0 if task.better == "nearer to 0" else None
    for line, style in ((task.chance, ":"), (task.solved, "--"), (ideal, "--")):
        if line is not None:
            axes.axvline(line, color=FAINT, linestyle=style, linewidth=1, zorder=0)
    low, high = task.limits_of(task.headline)
    if high == 1:
        axes.set_xlim(min(-0.03, axes.get_xlim()[0]) if low < 0 else -0.03, 1.03)
    elif low == 0:
        axes.set_xlim(0, 1.05 * axes.get_xlim()[1])
    axes.set_yticks(range(len(attentions)), attentions)
    axes.set_ylim(len(attentions) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_title(task.name, loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel(f"{task.unit} ({task.better} is better)", fontsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
