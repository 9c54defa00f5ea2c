"""Tropical attention: how far scores and values may be wrong before a choice changes, and the semiring as a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bulba.attention.base import AttentionContext
from bulba.attention.maxplus import Rule, block_scores, widen
from bulba.attention.tropical import TropicalAttention, choices, tropical_attention

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Tropical attention: the margin of a choice is a certificate"
NUM_TOKENS, WIDTH = 96, 16
MOST_WORDS = 40
"""More do not fit under a picture."""


def show(figure: Figure) -> list[str]:
    """Disturb scores + values by shares of half the margin, and lower the temperature towards the semiring."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 1, NUM_TOKENS, WIDTH, dtype=torch.float64, generator=generator) for _ in range(3))
    exact = Rule("hilbert", 0.0)
    shares = torch.arange(40, dtype=torch.float64) / 10 + 0.05
    worst, random = changed_by(q, k, v, exact, shares, generator)

    temperatures = torch.logspace(-3, 0.5, 15, dtype=torch.float64)
    y_BNTD = tropical_attention(q, k, v, exact, None, None)
    above = torch.stack(
        [
            (tropical_attention(q, k, v, Rule("hilbert", tau), None, None) - y_BNTD).max()
            for tau in temperatures.tolist()
        ]
    )
    bound = temperatures * torch.tensor(NUM_TOKENS, dtype=torch.float64).log()
    draw_certificate(figure.add_subplot(1, 2, 1), shares, worst, random)
    axes = figure.add_subplot(1, 2, 2)
    axes.loglog(temperatures, bound, "--", color="0.5", label="theorem: temperature x log(keys)")
    axes.loglog(temperatures, above, "o-", color="C0", label="measured")
    axes.set(xlabel="temperature", ylabel="largest distance to the exact maximum", title="Cooling down to max-plus")
    axes.legend()

    constant = tropical_attention(q + 100.0, k, v + 7.0, exact, None, None) - y_BNTD
    return [
        f"{NUM_TOKENS} tokens, {WIDTH} channels: every channel of every token reads one key, the one whose score plus "
        "value is the largest.",
        f"Disturbed by less than half its margin, {100 * worst[shares < 1].max():.1f}% of the choices change, even by "
        "the worst disturbance there is: that is the certificate.",
        f"Just above half the margin the worst disturbance changes {100 * worst[shares > 1][0]:.0f}% of them; a random "
        f"one of nearly twice the margin changes {100 * random[-1]:.0f}%.",
        f"Adding 100 to every query and 7 to every value adds {constant.min():.6f} to {constant.max():.6f} to the "
        "output: the projective metric does not see the first, and the second passes through.",
        f"At temperature {temperatures[0]:.3f} the smooth maximum is {above[0]:.1e} above the exact one at most; the "
        f"theorem allows {bound[0]:.1e}.",
    ]


def changed_by(
    q: Tensor, k: Tensor, v: Tensor, rule: Rule, shares: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Which share of choices changes under the worst and under random disturbances, by their size / half the margin."""
    chosen, margin = choices(q, k, v, rule, None, None)
    wide_q, wide_k, wide_v = widen(q, k, v)
    scores = block_scores(wide_q, wide_k, rule, None, None, 0, q.shape[2])
    sums = (scores[..., None] + wide_v[..., None, :, :]).flatten(1, 2)[:, :, 1:]  # the first token has no choice
    chosen, half = chosen[:, :, 1:], margin[:, :, 1:, None] / 2
    places = torch.arange(q.shape[2])[:, None]
    against = 1.0 - 2.0 * (places == chosen[..., None, :])  # the chosen key down, all others up
    signs = 2.0 * torch.randint(2, sums.shape, generator=generator) - 1
    worst, random = (
        torch.stack([((sums + share * half * way).argmax(-2) != chosen).double().mean() for share in shares])
        for way in (against, signs)
    )
    return worst, random


def draw_certificate(axes: Any, shares: Tensor, worst: Tensor, random: Tensor) -> None:
    axes.axvspan(0, 1, color="C2", alpha=0.15, label="certified: no choice can change")
    axes.plot(shares, 100 * worst, color="C3", label="worst disturbance")
    axes.plot(shares, 100 * random, color="C0", label="random disturbance")
    axes.set(xlabel="size of the disturbance / half the margin", ylabel="choices that change, %")
    axes.set_title("The margin is a certificate")
    axes.legend(loc=(0.4, 0.6))


def look(
    mixer: TropicalAttention, x_BTH: Tensor, context: AttentionContext, words: list[str], figure: Figure
) -> list[str]:
    """Which words the channels of a layer chose, and by which margin."""
    figures = mixer.figures(x_BTH, context)
    margin_TC, chosen_TC = (figures[name][0].transpose(0, 1).flatten(1) for name in ("margin_BNTD", "chosen_BNTD"))
    shares_TT = torch.nn.functional.one_hot(chosen_TC, len(words)).double().mean(1)
    typical_T = margin_TC.double().median(1).values
    marks = range(min(len(words), MOST_WORDS))
    axes = figure.add_subplot(1, 2, 1)
    picture = axes.imshow(100 * shares_TT[: len(marks), : len(marks)].cpu(), cmap="viridis", vmin=0)
    figure.colorbar(picture, ax=axes, label="channels that chose it, %")
    axes.set_xticks(marks, words[: len(marks)], rotation=90)
    axes.set_yticks(marks, words[: len(marks)])
    axes.set(xlabel="word that is read", ylabel="word that reads", title="Choices of the channels")
    axes = figure.add_subplot(1, 2, 2)
    axes.barh(marks[1:], typical_T[1 : len(marks)].cpu(), color="C0")
    axes.set_yticks(marks, words[: len(marks)])
    axes.invert_yaxis()
    axes.set(xlabel="margin (median over channels)", title="How certain the choices are")
    lines = [f"{len(words)} words, {chosen_TC.shape[1]} channels in all heads of the layer."]
    if len(words) > 1:
        sure, unsure = int(typical_T[1:].argmax()) + 1, int(typical_T[1:].argmin()) + 1
        others = shares_TT.fill_diagonal_(0).sum(0)
        lines += [
            f"Surest: {words[sure]!r}, whose typical choice stands until scores and values are wrong by "
            f"{typical_T[sure] / 2:.3f}; least sure: {words[unsure]!r}, {typical_T[unsure] / 2:.3f}.",
            f"Most read by the words after it: {words[int(others.argmax())]!r}.",
        ]
    return lines
