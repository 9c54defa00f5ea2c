"""Quaternions at work: rotors turn and never stretch, a common factor changes no score, a quarter of the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bulba.attention.base import AttentionContext
from bulba.attention.hypercomplex import HypercomplexMixer, HyperLinear, conjugated_by, product

TITLE = "Quaternion attention: a quarter of the weights, and values that only turn"
STEPS = 2_000


def show(figure: Any) -> list[str]:
    """Draw the three facts of the first line above with random numbers, and say what came out."""
    torch.manual_seed(0)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.1])
    stretch = draw_rotor(left)
    change, moved = draw_scores(middle)
    weights, entries, error = draw_dense(right)
    figure.suptitle(TITLE)
    return [
        f"A value turned {STEPS:,} times by a random unit quaternion, r v r*, changed its length by {stretch:.0e}.",
        f"Multiplying all queries and keys by one unit quaternion moved them by {moved:.2f} of their length, but the "
        f"scores between them by {change:.0e} only.",
        f"A quaternion-linear map of 4 quaternions to 4 has {weights} weights; written out as an ordinary matrix it "
        f"has {entries} entries, and its output is the same within {error:.0e}.",
    ]


def draw_rotor(axes: Any) -> float:
    """The path of an imaginary quaternion under one rotor, seen along the axis; how much a long walk stretched it."""
    rotor = torch.tensor([torch.pi / 24]).double()
    rotor = torch.cat([rotor.cos(), 0 * rotor, 0 * rotor, rotor.sin()])
    value = torch.tensor([0.0, 0.9, 0.1, 0.4]).double()
    path = [value]
    for _ in range(24):
        path.append(conjugated_by(rotor, path[-1][None])[0])
    points = torch.stack(path)
    axes.plot(points[:, 1], points[:, 2], "o-", color="tab:blue")
    axes.annotate("v", points[0, 1:3].tolist(), xytext=(8, -3), textcoords="offset points")
    axes.annotate("r v r*", points[1, 1:3].tolist(), xytext=(8, -3), textcoords="offset points")
    axes.set(aspect="equal", xlim=(-1.2, 1.45), xlabel="i part", ylabel="j part")
    axes.set_title("24 rotors of 15 degrees\nclose a circle", fontsize=10)
    walked, rotors = value, torch.nn.functional.normalize(torch.randn(STEPS, 4).double(), dim=-1)
    for one in rotors:
        walked = conjugated_by(one, walked[None])[0]
    return abs(walked.norm() / value.norm() - 1).item()


def draw_scores(axes: Any) -> tuple[float, float]:
    """Scores before and after a common unit factor; their largest change and how far the queries moved."""
    q, k = torch.randn(2, 16, 8, 4).double()
    unit = torch.nn.functional.normalize(torch.tensor([0, 2, -1, 1]).double(), dim=-1)  # real part 0: far from 1
    turned_q, turned_k = product(unit, q), product(unit, k)
    before, after, one_sided = (
        (left.flatten(1) @ right.flatten(1).T).flatten() / 32**0.5
        for left, right in ((q, k), (turned_q, turned_k), (turned_q, k))
    )
    axes.scatter(before, one_sided, s=6, color="lightgray", label="only q turned")
    axes.scatter(before, after, s=6, color="tab:blue", label="q and k turned")
    axes.set(xlabel="score before", ylabel="score after")
    axes.legend(fontsize=8, loc="upper left")
    axes.set_title("u q, u k: every score stays", fontsize=10)
    return (before - after).abs().max().item(), ((turned_q - q).norm() / q.norm()).item()


def draw_dense(axes: Any) -> tuple[int, int, float]:
    """The matrix that a quaternion-linear map expands to; its weights, its entries, the error of its output."""
    linear = HyperLinear(16, 16, 4, bias=False).double()
    with torch.no_grad():
        dense = linear.dense()
        x = torch.randn(8, 16).double()
        error = (linear.by_components(x) - x @ dense.T).abs().max().item()
    limit = dense.abs().max().item()
    axes.imshow(dense, cmap="RdBu", vmin=-limit, vmax=limit)
    axes.set_xticks([3.5, 7.5, 11.5], [], minor=False)
    axes.set_yticks([3.5, 7.5, 11.5], [], minor=False)
    axes.grid(color="black", linewidth=1)
    axes.set(xlabel="4 quaternions in", ylabel="4 quaternions out")
    axes.set_title("each 4 x 4 square\nis one quaternion", fontsize=10)
    return linear.weight.numel(), dense.numel(), error


def look(
    mixer: HypercomplexMixer, x_BTH: Tensor, context: AttentionContext, words: list[str], figure: Any
) -> list[str]:
    """The angles between the queries and keys of a sentence, and the turns of its rotors where there is a gate."""
    found = mixer.figures(x_BTH, context)
    gated = "rotor_deg" in found
    axes = figure.subplots(1, 2 if gated else 1, squeeze=False)[0]
    lines = draw_turns(axes[0], found["turn_deg"][0], words, figure)
    if gated:
        draw_heads(axes[1], found["rotor_deg"][0], words, "angle of the rotor, degrees")
        lines.append(f"The rotors of this layer stand {found['rotor_deg'].mean():.0f} degrees from 1 in the mean.")
    figure.suptitle(f"{type(mixer).__name__}: how far a key must turn to become the query")
    return lines


def draw_turns(axes: Any, turn_NTS: Tensor, words: list[str], figure: Any) -> list[str]:
    """Mean angle over the heads for all pairs that may be read; what the closest pair is."""
    causal = torch.ones_like(turn_NTS[0], dtype=torch.bool).tril()
    mean_TS = turn_NTS.float().cpu().mean(0).masked_fill(~causal.cpu(), torch.nan)
    image = axes.imshow(mean_TS, cmap="viridis_r")
    figure.colorbar(image, ax=axes, label="degrees, mean of the heads", shrink=0.8)
    axes.set_xticks(range(len(words)), words, rotation=90, fontsize=7)
    axes.set_yticks(range(len(words)), words, fontsize=7)
    axes.set(xlabel="key", ylabel="query")
    turn_NTS = turn_NTS.masked_fill(~causal, torch.inf)
    head, query, key = (int(i) for i in torch.unravel_index(turn_NTS.argmin(), turn_NTS.shape))
    return [
        f"Random numbers stand at 90 degrees; here query and key stand at {mean_TS.nanmean():.0f} in the mean.",
        f'The closest pair: in head {head}, "{words[query]}" ({query}) and "{words[key]}" ({key}) stand at '
        f"{turn_NTS[head, query, key]:.0f} degrees.",
    ]


def draw_heads(axes: Any, figure_NT: Tensor, words: list[str], label: str) -> None:
    """One line a head over the words of the sentence."""
    for number, line in enumerate(figure_NT.float().cpu()):
        axes.plot(line, ".-", label=f"head {number}", linewidth=0.8)
    axes.set_xticks(range(len(words)), words, rotation=90, fontsize=7)
    axes.set_title(label, fontsize=10)
    axes.legend(fontsize=7)
