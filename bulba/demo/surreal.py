"""Surreal attention: the truncated series against ordinary attention at a numeric omega, and ties that are broken."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bulba.attention.base import AttentionContext
from bulba.attention.surreal import SurrealAttention, is_less, softmax, surreal_attention

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Surreal attention: each level kept makes it omega times as exact"
NUM_TOKENS, WIDTH, ALL_LEVELS = 48, 16, 6
MOST_WORDS = 40
"""More do not fit under a picture."""


def show(figure: Figure) -> list[str]:
    """Residuals of 1, 2 and 3 levels over omega, and three keys that level 0 cannot tell apart."""
    generator = torch.Generator().manual_seed(0)
    size = (1, 1, NUM_TOKENS, ALL_LEVELS, WIDTH)
    q, k, v = (torch.randn(size, dtype=torch.float64, generator=generator) for _ in range(3))
    omegas = torch.logspace(1, 3, 9, dtype=torch.float64)
    axes, lines = figure.add_subplot(1, 2, 1), []
    for levels in (1, 2, 3):
        kept_q, kept_k, kept_v = (x[..., :levels, :].flatten(-2) for x in (q, k, v))
        y = surreal_attention(kept_q, kept_k, kept_v, levels, None, None).unflatten(-1, (levels, -1))
        residuals = []
        for omega in omegas:
            exact = surreal_attention(value(q, omega), value(k, omega), value(v, omega), 1, None, None)
            residuals.append((exact - value(y, omega)).norm() / exact.norm())
        errors = torch.stack(residuals)
        slope = fitted_slope(omegas, errors)
        axes.loglog(omegas, errors, "o-", label=f"{levels} level{'s' * (levels > 1)}: slope {slope:.3f}")
        lines.append(
            f"With {levels} level{'s' * (levels > 1)} the error against ordinary attention falls as omega^{slope:.3f} "
            f"(theorem: {-levels}); at omega = 1000 it is {errors[-1]:.1e}."
        )
    axes.set(xlabel="omega", ylabel="relative error", title="Error against attention at a number omega")
    axes.legend()
    return lines + break_ties(figure)


def break_ties(figure: Figure) -> list[str]:
    """Three keys with the same level 0, and a fourth below: what level 1 does at several omegas."""
    scores = [torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor([-1.0, 0.0, 1.0, 2.0])]
    weights, moved = softmax(scores)
    axes, omegas = figure.add_subplot(1, 2, 2), (float("inf"), 16.0, 8.0, 4.0)
    for place, omega in enumerate(omegas):
        label = "level 0 alone" if omega == float("inf") else f"omega = {omega:.0f}"
        axes.bar(torch.arange(4) + 0.2 * (place - 1.5), weights + moved / omega, 0.18, label=label)
    names = ["A", "B", "C", "D"]
    axes.set_xticks(range(4), [f"{n}\n{a:.0f} {b:+.0f}/omega" for n, a, b in zip(names, *scores, strict=True)])
    axes.set(xlabel="key and its score", ylabel="share of attention", title="Level 1 breaks the tie of A, B and C")
    axes.set_ylim(0, 0.5)
    axes.legend()
    order = sorted(range(4), key=lambda one: [float(level[one]) for level in scores])
    checks = [bool(is_less([x[a] for x in scores], [x[b] for x in scores])) for a, b in pairwise(order)]
    shares = weights + moved / 8
    return [
        f"Keys in the order of surreal numbers: {' < '.join(names[one] for one in order)} "
        f"({'as' if all(checks) else 'NOT as'} words in a dictionary: level 0 first, level 1 among equals).",
        f"To level 0 alone A, B and C are one ({weights[0]:.3f} each); at omega = 8 they get "
        f"{shares[0]:.3f}, {shares[1]:.3f} and {shares[2]:.3f}. What level 1 moves adds up to {moved.sum().abs():.0e}.",
    ]


def value(x: Tensor, omega: Tensor) -> Tensor:
    """The number at a numeric omega: [..., K, D] -> [..., D]."""
    powers_K1 = omega ** -torch.arange(x.shape[-2], dtype=x.dtype)[:, None]
    return (x * powers_K1).sum(-2)


def fitted_slope(x: Tensor, y: Tensor) -> float:
    """Of the straight line through log x, log y by least squares."""
    x, y = x.log() - x.log().mean(), y.log() - y.log().mean()
    return float((x * y).sum() / x.square().sum())


def look(
    mixer: SurrealAttention, x_BTH: Tensor, context: AttentionContext, words: list[str], figure: Figure
) -> list[str]:
    """The omega that each head learned, and where in the sentence its second level moves attention."""
    figures = {name: numbers.cpu() for name, numbers in mixer.figures(x_BTH, context).items()}
    if not figures:
        figure.add_subplot().set_title("One level: standard attention")
        return ["This layer has one level: it is standard attention, and nothing is moved."]
    omega_N, moved_NT, size_NK = figures["omega_N"], figures["moved_BNT"][0], figures["size_NK"]
    marks, heads = range(min(len(words), MOST_WORDS)), range(len(omega_N))
    axes = figure.add_subplot(2, 1, 1)
    picture = axes.imshow(100 * moved_NT[:, : len(marks)], aspect="auto", cmap="viridis", vmin=0)
    figure.colorbar(picture, ax=axes, label="attention moved, %")
    axes.set_xticks(marks, words[: len(marks)], rotation=90)
    axes.set(ylabel="head", yticks=heads, title="How much of its attention level 1 moves")
    axes = figure.add_subplot(2, 1, 2)
    axes.bar(heads, omega_N)
    axes.set(xlabel="head", ylabel="omega", xticks=heads, title="The omega that the head learned")
    word = int(moved_NT.mean(0).argmax())
    share_N = size_NK[:, 1] / size_NK[:, 0]
    return [
        f"omega of the heads: {', '.join(f'{omega:.2f}' for omega in omega_N)}.",
        f"Level 1 moves {100 * moved_NT.mean():.2f}% of attention on average, most at {words[word]!r} "
        f"({100 * moved_NT[:, word].mean():.2f}%).",
        f"What level 1 adds to the output is {share_N.min():.3f} to {share_N.max():.3f} of the size of level 0.",
    ]
