"""Ultrametric attention at work: a tree in place of all pairs, the triangle law of trees, and the time it saves."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bulba.attention.base import AttentionContext
from bulba.attention.bucket_sums import tree_sums
from bulba.attention.ultrametric import UltrametricAttention, longest_common_prefix, reference_sums
from bulba.packing import document_mask

TITLE = "Ultrametric attention: who shares a longer branch of the tree weighs more"
LENGTHS = (256, 512, 1024, 2048, 4096)
REFERENCE_LENGTHS = LENGTHS[:4]
BASE, LEVELS, ALPHA = 4, 4, 8.0


def show(figure: Any) -> list[str]:
    """Draw a tree, the sides of random triangles and the time of both ways to the same sums."""
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.1])
    draw = torch.Generator().manual_seed(0)
    draw_tree(left, torch.randint(3, (9, 3), generator=draw), [f"key {number}" for number in range(9)])
    left.set_title("keys by their digits in base 3", fontsize=10)
    broken, euclidean = draw_triangles(middle, draw)
    error, tree_growth, pairs_growth = draw_times(right, draw)
    figure.suptitle(TITLE)
    return [
        "In a tree the two longest sides of a triangle are equal: of all triangles between 60 random addresses, "
        f"{broken} break that law; of those between 60 points of a plane, {euclidean:.0%} do.",
        f"The tree and the matrix of all pairs give the same weighted sums within {error:.0e} of their size.",
        f"From {REFERENCE_LENGTHS[0]} to {REFERENCE_LENGTHS[-1]} tokens, a step with all pairs took "
        f"{pairs_growth:.0f} times as long, and one by the tree {tree_growth:.0f} times (the tokens: "
        f"{REFERENCE_LENGTHS[-1] // REFERENCE_LENGTHS[0]} times).",
    ]


def look(
    mixer: UltrametricAttention, x_BTH: Tensor, context: AttentionContext, words: list[str], figure: Any
) -> list[str]:
    """The tree that the first key head of a trained layer makes of a sentence, and how deep each word finds keys."""
    figures = mixer.figures(x_BTH, context)
    digits_TL, lcp_TS = figures["key_digits_BGTL"][0, 0], figures["lcp_BNTS"][0, 0]
    left, right = figure.subplots(1, 2)
    draw_tree(left, digits_TL, words)
    left.set_title("words by the digits of their keys, head 0", fontsize=10)
    shown = right.imshow(lcp_TS, cmap="viridis", vmin=-1, vmax=mixer.num_digits)
    right.set_xticks(range(len(words)), words, rotation=90, fontsize=7)
    right.set_yticks(range(len(words)), words, fontsize=7)
    right.set(xlabel="key", ylabel="query")
    right.set_title("shared digits of query and key (-1: not read)", fontsize=10)
    figure.colorbar(shown, ax=right, shrink=0.7)
    deepest, places = lcp_TS.max(-1).values, lcp_TS.argmax(-1)
    best = int(deepest.argmax())
    alpha = figures["alpha_N"]
    return [
        f"{len(words)} words stand at {len(digits_TL.unique(dim=0))} of {mixer.base**mixer.num_digits} leaves.",
        f"Queries share {deepest.float().mean():.1f} of {mixer.num_digits} digits with their nearest key; "
        f"{words[best]!r} shares {int(deepest[best])} with {words[int(places[best])]!r}.",
        f"One more shared digit multiplies the weight of a key by {alpha.min():.2f} to {alpha.max():.2f}, by head.",
    ]


def draw_tree(axes: Any, digits_TL: Tensor, names: list[str]) -> None:
    """The branches that are taken, from the root on the left to the names of each leaf on the right."""
    addresses = [tuple(address) for address in digits_TL.tolist()]
    leaves = sorted(set(addresses))
    num_levels = len(leaves[0])
    heights = {leaf: float(len(leaves) - number) for number, leaf in enumerate(leaves)}
    for level in reversed(range(num_levels)):
        for prefix in {leaf[:level] for leaf in leaves}:
            below = [height for node, height in heights.items() if len(node) == level + 1 and node[:level] == prefix]
            heights[prefix] = sum(below) / len(below)
            for height in below:
                axes.plot([level, level + 0.5, level + 1], [heights[prefix], height, height], color="tab:green", lw=1.2)
    for leaf in leaves:
        here = ", ".join(name for name, address in zip(names, addresses, strict=True) if address == leaf)
        label = f"{''.join(map(str, leaf))}  {here if len(here) < 40 else here[:39] + '…'}"
        axes.text(num_levels + 0.1, heights[leaf], label, va="center", fontsize=8)
    axes.set_xlim(-0.2, 2.2 * num_levels + 0.5)
    axes.set_xticks(range(num_levels + 1))
    axes.set_yticks([])
    axes.set_xlabel("shared digits")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def draw_triangles(axes: Any, draw: torch.Generator) -> tuple[int, float]:
    """The longest side against the second longest; how many triangles of a tree, and of a plane, are not isosceles."""
    leaves = torch.randint(BASE, (60, LEVELS), generator=draw)
    tree = 2.0 ** -longest_common_prefix(leaves[:, None], leaves)
    points = torch.rand(60, 2, generator=draw)
    plane = torch.cdist(points, points)
    corners = torch.combinations(torch.arange(60), 3)
    found = []
    for distance, color, label in ((plane, "lightgray", "points of a plane"), (tree, "tab:green", "leaves of a tree")):
        sides = torch.stack([distance[corners[:, a], corners[:, b]] for a, b in ((0, 1), (1, 2), (0, 2))], -1)
        sides = sides.sort(-1).values
        axes.scatter(sides[::9, 1], sides[::9, 2], s=6 if distance is plane else 40, color=color, label=label)
        found.append(sides[:, 2] > sides[:, 1])
    axes.set(xlabel="second longest side", ylabel="longest side")
    axes.legend(fontsize=8, loc="upper left")
    axes.set_title("in a tree the two longest sides\nof a triangle are equal", fontsize=10)
    return int(found[1].sum()), float(found[0].float().mean())


def draw_times(axes: Any, draw: torch.Generator) -> tuple[float, float, float]:
    """Forward and backward by both ways; the largest relative difference, and how much longer the longest took."""
    weights = torch.tensor([ALPHA**0, *(ALPHA**level - ALPHA ** (level - 1) for level in range(1, LEVELS + 1))])[None]
    tree, pairs, error = [], [], 0.0
    for length in LENGTHS:
        q, k = (torch.randn(1, 1, length, LEVELS, BASE, generator=draw).softmax(-1).requires_grad_() for _ in range(2))
        v = torch.randn(1, 1, length, 33, generator=draw)
        mask = document_mask(torch.zeros(1, length, dtype=torch.int32))
        sums, seconds = timed(partial(tree_sums, q, k, v, weights, None))
        tree.append(seconds)
        if length in REFERENCE_LENGTHS:
            expected, seconds = timed(partial(reference_sums, q, k, v, weights, mask))
            pairs.append(seconds)
            error = max(error, float((sums - expected).norm() / expected.norm()))
    axes.loglog(REFERENCE_LENGTHS, [1e3 * seconds for seconds in pairs], "o-", color="gray", label="all pairs")
    axes.loglog(LENGTHS, [1e3 * seconds for seconds in tree], "o-", color="tab:green", label="tree")
    axes.set_xticks(LENGTHS, [str(length) for length in LENGTHS])
    axes.minorticks_off()
    axes.set(xlabel="tokens", ylabel="ms of CPU, forward and backward")
    axes.legend(fontsize=8)
    axes.set_title("the same sums, two ways", fontsize=10)
    return error, tree[len(REFERENCE_LENGTHS) - 1] / tree[0], pairs[-1] / pairs[0]


def timed(run: Any) -> tuple[Tensor, float]:
    """The sums, and the fastest of three steps."""
    found = []
    for _ in range(3):
        began = time.process_time()
        sums = run()
        sums.sum().backward()
        found.append(time.process_time() - began)
    return sums.detach(), min(found)
