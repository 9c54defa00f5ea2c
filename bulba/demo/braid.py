"""Demo of braid attention: words of crossings that spell one braid act alike, others do not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bulba.attention.base import AttentionContext
from bulba.attention.braid import crossing_matrices
from bulba.attention.transport import running_products

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "braid: attention along the braid that the tokens weave"
STRANDS, MANY = 5, 8192
PAIRS = {
    "s1 s2 s1 = s2 s1 s2": ([1, 2, 1], [2, 1, 2]),
    "s1 s2 s1' = s2' s1 s2": ([1, 2, -1], [-2, 1, 2]),
    "s1 s3 = s3 s1": ([1, 3], [3, 1]),
    "s2 s2' = nothing": ([2, -2], []),
    "s1 s2 and s2 s1": ([1, 2], [2, 1]),
    "s1 and s1'": ([1], [-1]),
}


def show(figure: Figure) -> list[str]:
    """Two drawings of one braid, and how far apart the matrices of pairs of words are."""
    first, second, third = figure.subplots(1, 3, width_ratios=[1, 1, 1.6])
    weave(first, [1, 2, 1], 3)
    weave(second, [2, 1, 2], 3)
    first.set_title("s1 s2 s1")
    second.set_title("s2 s1 s2: the same braid")
    distances = {name: float((of_word(a) - of_word(b)).abs().max()) for name, (a, b) in PAIRS.items()}
    third.barh(list(distances), [max(x, 1e-17) for x in distances.values()], color=["tab:green"] * 4 + ["tab:red"] * 2)
    third.axvline(1e-12, color="black", linestyle=":", linewidth=1)
    third.set(
        xscale="log",
        xlim=(3e-18, 10),
        xlabel="largest difference of the matrices, float64",
        title="Equal braids, equal transport",
    )
    third.invert_yaxis()
    figure.suptitle("Braid attention: what counts is which braid was woven, not how it is spelled")
    equal, unequal = list(distances.values())[:4], list(distances.values())[4:]
    torch.manual_seed(0)
    steps = table(torch.float32)[torch.randint(2 * STRANDS - 1, (MANY,))]
    last = running_products(steps[None, None, ..., None], None)[0, 0, -1, :, :, 0]
    mixed = (of_word([1]) + of_word([2])) / 2
    return [
        f"Four relations of the braid group, Yang-Baxter first, hold for the matrices to {max(equal):.0e}.",
        f"Words of different braids stay apart: s1 s2 from s2 s1, and over from under, by at least {min(unequal):.2f}.",
        f"A braid of {MANY} crossings in fp32 keeps every length to {(last.norm(dim=0) - 1).abs().max():.0e}.",
        f"Half s1 and half s2 is no braid: it shrinks some vector to {torch.linalg.svdvals(mixed).min():.2f} of its "
        "length, which is why each token makes a hard choice.",
    ]


def table(dtype: torch.dtype) -> Tensor:
    """The matrices of none, s_1 .. and their inverses, half way to the largest angle."""
    return torch.tensor(crossing_matrices(STRANDS, math.pi / STRANDS), dtype=dtype)


def of_word(word: list[int]) -> Tensor:
    """The matrix of a word, its newest letter on the left."""
    matrices = table(torch.float64)
    product = matrices[0]
    for letter in word:
        product = matrices[letter if letter >= 0 else STRANDS - 1 - letter] @ product
    return product


def weave(axes: Axes, word: list[int], num_strands: int) -> list[int]:
    """Draw the strands of a word from left to right; which strand ends at each height."""
    curve = (1 - torch.linspace(0, math.pi, 30).cos()) / 2
    order = list(range(num_strands))
    for time, letter in enumerate(word):
        low = abs(letter) - 1  # the strands at this height and the next one cross
        rest = [height for height in range(num_strands) if letter == 0 or height not in (low, low + 1)]
        pieces = [(height, height) for height in rest]
        if letter:
            up, down = (low, low + 1), (low + 1, low)
            pieces += [down, up] if letter > 0 else [up, down]  # the one drawn last passes over
        for start, end in pieces:
            heights, places = start + (end - start) * curve, time + torch.linspace(0, 1, 30)
            axes.plot(places, heights, color="white", linewidth=9, solid_capstyle="butt")
            axes.plot(places, heights, color=f"C{order[start]}", linewidth=3, solid_capstyle="round")
        if letter:
            order[low], order[low + 1] = order[low + 1], order[low]
    axes.set(
        xticks=[], yticks=range(num_strands), yticklabels=[str(n + 1) for n in range(num_strands)], ylabel="strand"
    )
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
    return order


def look(mixer: Any, x_BTH: Tensor, context: AttentionContext, words: list[str], figure: Figure) -> list[str]:
    """The braid that each key head weaves over a sentence; the busiest one is drawn."""
    figures = mixer.figures(x_BTH, context)
    spelled, margins = figures["word_BGT"][0].tolist(), figures["margin_BGT"][0]
    counts = [sum(letter != 0 for letter in word) for word in spelled]
    busiest = counts.index(max(counts))
    axes = figure.subplots()
    order = weave(axes, spelled[busiest], mixer.num_strands)
    axes.set_xticks([t + 0.5 for t in range(len(words))], words, rotation=90)
    axes.set_title(f"The braid of key head {busiest}")
    lines = [f"key head {head}: {letters(word)}" for head, word in enumerate(spelled)]
    writhe = sum((letter > 0) - (letter < 0) for letter in spelled[busiest])
    return [
        *lines,
        f"Key head {busiest} crosses strands at {counts[busiest]} of {len(words)} tokens, {writhe:+d} over and under "
        f"taken together; the strands end in the order {' '.join(str(strand + 1) for strand in order)}.",
        f"The choice was closest by {margins.min():.3f} and won by {margins.mean():.2f} nats on average.",
    ]


def letters(word: list[int]) -> str:
    """As s1 s2' ..., a dot for no crossing."""
    return " ".join("." if not letter else f"s{abs(letter)}" + "'" * (letter < 0) for letter in word)
