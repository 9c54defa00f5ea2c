"""The report as one picture: tokenizers by language, sizes with their cost, and what the entries are.

The colours are those of Okabe and Ito, "Color Universal Design", which colour-blind people tell apart; every tokenizer
has a mark of its own too. The font, DejaVu Sans, comes with matplotlib and has all Cyrillic letters.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from bulba.bench.tokenizers.measure import VocabularyFigures
from bulba.bench.tokenizers.sizes import Preset, SizeFigures
from bulba.bench.tokenizers.tables import NAMES, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
MARKS = ("D", "o", "s", "^", "v", "P", "X")  # one fewer than the colours, so that a ninth tokenizer is no first
LINES = ("-", "--", "-.", ":")
LINE_COLOURS = "viridis"  # dark to light, told apart by anybody; other colours than the tokenizers have
# What a bar is made of: its label, the kinds of entries, its colour and that of the figure on it.
BAR_PARTS = (
    ("Cyrillic", ("Cyrillic",), "#0072B2", "white"),
    ("Latin", ("Latin",), "#E69F00", "black"),
    ("other scripts, mixed", ("other scripts", "mixed Cyrillic"), "#CC79A7", "black"),
    ("digits, signs, spaces", ("digits", "signs and spaces"), "#009E73", "white"),
    ("part bytes, special", ("part bytes", "special"), "#BBBBBB", "black"),
)
MAX_NAME = 28
LEGEND_CHARS = 130  # that stand side by side above the charts


def draw(report: Report) -> bytes:
    """A PNG. Raises ModuleNotFoundError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    learnt = [one for one in report.sizes if not one.error]
    with_sizes = len(learnt) > 1
    count, languages = len(report.vocabularies), len(report.text.languages)
    names = [f"{_short(one.name)} ({one.vocab_size:,})" for one in report.vocabularies]
    columns = max(1, min(count, LEGEND_CHARS // (max(map(len, names)) + 5)))
    heights = [0.8 + (0.15 * count + 0.2) * languages, *([3.4] if with_sizes else []), 1.1 + 0.33 * count]
    layout = ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.1)
    figure = Figure(figsize=(11, sum(heights) + 0.3 * (2 + count // columns)), dpi=150, layout=layout)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    left, right = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    handles = _dots(left, report, "chars_per_token", "Characters per token (more is better)")
    _dots(right, report, "tokens_per_word", "Tokens per word (fewer is better)")
    right.set_yticklabels([])
    figure.legend(handles, names, loc="outside upper center", ncols=columns, frameon=False)
    if with_sizes:
        _size_lines(figure.add_subplot(grid[1, 0]), learnt, list(report.text.languages))
        _share_lines(figure.add_subplot(grid[1, 1]), learnt, report.presets)
    bars = _bars(figure.add_subplot(grid[-1, :]), report.vocabularies)
    figure.legend(handles=bars, loc="outside lower center", ncols=len(BAR_PARTS), frameon=False, fontsize=9)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _dots(axes: Axes, report: Report, ratio: str, title: str) -> list[Any]:
    """A band a language, a mark a tokenizer, one below the other so that none hides another."""
    names = list(report.text.languages)
    count = len(report.vocabularies)
    handles = []
    for place, one in enumerate(report.vocabularies):
        values = [one.languages[name].ratios[ratio] for name in names]
        heights = [row + 0.75 * ((place + 0.5) / count - 0.5) for row in range(len(names))]
        handles += axes.plot(
            [float("nan") if value is None else value for value in values],
            heights,
            linestyle="none",
            marker=MARKS[place % len(MARKS)],
            color=COLOURS[place % len(COLOURS)],
            markersize=8 if place == 0 else 6.5,
        )
    for row in range(0, len(names), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f4f4f4", zorder=0)
    axes.set_yticks(range(len(names)), [NAMES[name] for name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1.03 * axes.get_xlim()[1])
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    _clean(axes, title)
    return handles


def _size_lines(axes: Axes, sizes: list[SizeFigures], names: list[str]) -> None:
    curves = {NAMES[name]: [one.languages[name].ratios["chars_per_token"] for one in sizes] for name in names}
    curves = {name: values for name, values in curves.items() if None not in values}
    _lines(axes, sizes, curves, "Our tokenizer by size: characters per token")


def _share_lines(axes: Axes, sizes: list[SizeFigures], presets: list[Preset]) -> None:
    curves = {preset.name: [100 * preset.embedding_frac(one.rows) for one in sizes] for preset in presets}
    _lines(axes, sizes, curves, "Its cost: % of all weights in the embedding")
    axes.set_ylim(0, 100)


def _lines(axes: Axes, sizes: list[SizeFigures], curves: dict[str, list[Any]], title: str) -> None:
    """Curves over the vocabulary size, each with its name at its end."""
    import matplotlib

    entries = [one.vocab_size for one in sizes]
    low, high = min(min(values) for values in curves.values()), max(max(values) for values in curves.values())
    labels = _apart({name: values[-1] for name, values in curves.items()}, 0.07 * (high - low))
    colours = matplotlib.colormaps[LINE_COLOURS]
    axes.set_xscale("log", base=2)
    for place, (name, values) in enumerate(curves.items()):
        colour = colours(0.75 * place / max(len(curves) - 1, 1))
        line, mark = LINES[place % len(LINES)], MARKS[place % len(MARKS)]
        axes.plot(entries, values, color=colour, linestyle=line, marker=mark, markersize=5)
        axes.text(1.03, labels[name], name, transform=axes.get_yaxis_transform(), color=colour, va="center")
    axes.set_xticks(entries, [f"{size:,}" for size in entries])
    axes.minorticks_off()
    axes.grid(color="#eeeeee")
    axes.set_xlabel("entries")
    _clean(axes, title)


def _apart(heights: dict[str, float], gap: float) -> dict[str, float]:
    """Places for labels near their heights, none nearer to another than `gap`."""
    names = sorted(heights, key=lambda name: heights[name])
    placed = [heights[name] for name in names]
    for place in range(1, len(placed)):
        overlap = placed[place - 1] + gap - placed[place]
        if overlap > 0:
            # Shared between the two: pushed only upwards, labels would leave their lines.
            placed[:place] = [height - overlap / 2 for height in placed[:place]]
            placed[place] += overlap / 2
    return dict(zip(names, placed, strict=True))


def _bars(axes: Axes, vocabularies: list[VocabularyFigures]) -> list[Any]:
    """What share of the entries is of which kind."""
    starts = [0.0] * len(vocabularies)
    handles = []
    for label, kinds, colour, text_colour in BAR_PARTS:
        widths = [100 * sum(one.kinds[kind] for kind in kinds) / one.vocab_size for one in vocabularies]
        places = range(len(vocabularies))
        handles.append(axes.barh(places, widths, left=starts, label=label, color=colour, edgecolor="white"))
        for place, (start, width) in enumerate(zip(starts, widths, strict=True)):
            if width >= 4:
                label_place = (start + width / 2, place)
                axes.text(*label_place, f"{width:.0f}", ha="center", va="center", fontsize=9, color=text_colour)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    axes.set_yticks(range(len(vocabularies)), [_short(one.name) for one in vocabularies])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    _clean(axes, "What the entries are, % of the vocabulary")
    return handles


def _clean(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
