"""Softmax attention: how many tokens a query really reads, and why scores are divided by sqrt(D).

The number is exp(H), with H the entropy of a query's weights: S keys read alike give S, one key alone gives 1. For
scores drawn from normal(0, s^2), H = log S - s^2/2 as S grows (s^2 well below 2 log S): for q and k of D standard
normal numbers s^2 = D, and s^2 = 1 once the scores are divided by sqrt(D).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bulba.attention.base import AttentionContext
from bulba.attention.softmax import reference_attention
from bulba.attention.standard import StandardAttention

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "how many tokens a query really reads"
NUM_KEYS, NUM_QUERIES = 512, 2000
WIDTHS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]


def show(figure: Figure) -> list[str]:
    """The number of tokens read, with and without the division, for head widths D."""
    plain, divided = [], []
    for width in WIDTHS:
        scores_TS = torch.randn(NUM_QUERIES, width) @ torch.randn(width, NUM_KEYS)
        plain.append(float(tokens_read(scores_TS.softmax(-1)).mean()))
        divided.append(float(tokens_read((scores_TS / math.sqrt(width)).softmax(-1)).mean()))
    predicted = NUM_KEYS * math.exp(-1 / 2)
    axes = figure.add_subplot()
    axes.plot(WIDTHS, divided, "o-", color="#0072b2", label="scores divided by √D")
    axes.plot(WIDTHS, plain, "s-", color="#d55e00", label="scores as they are")
    axes.axhline(predicted, color="#0072b2", linestyle=":", label=f"{NUM_KEYS} / √e, for normal scores of variance 1")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(WIDTHS, [str(width) for width in WIDTHS])
    axes.set_xlabel("head width D")
    axes.set_ylabel(f"tokens read, of {NUM_KEYS}")
    axes.set_title("Without the division a wide head reads hardly more than one token")
    axes.grid(color="#eeeeee")
    axes.legend(frameon=False)
    return [
        f"{NUM_QUERIES} random queries over {NUM_KEYS} random keys, all numbers standard normal:",
        f"scores divided by sqrt(D) spread over {divided[-1]:.0f} tokens at D = {WIDTHS[-1]} "
        f"(the formula for normal scores says {predicted:.0f}),",
        f"scores as they are over {plain[0]:.0f} tokens at D = 1 and {plain[-1]:.2f} at D = {WIDTHS[-1]}: "
        "such a softmax picks one token and has hardly a gradient.",
    ]


@torch.no_grad()
def look(
    mixer: StandardAttention, x_BTH: Tensor, context: AttentionContext, words: list[str], figure: Figure
) -> list[str]:
    """The number of tokens that every head reads at every token of a sentence."""
    q_BNTD, k_BGTD, _ = mixer.queries_keys_values(x_BTH, context)
    num_tokens = x_BTH.shape[1]
    # Attention to the unit vectors is the matrix of weights itself.
    unit_BGTT = torch.eye(num_tokens, dtype=k_BGTD.dtype).expand(*k_BGTD.shape[:3], num_tokens)
    weights_BNTS = reference_attention(q_BNTD, k_BGTD, unit_BGTT, context.mask_BTS, context.slopes_N)
    read_NT = tokens_read(weights_BNTS)[0]
    axes = figure.add_subplot()
    image = axes.imshow(read_NT.numpy(), aspect="auto", cmap="viridis", vmin=1)
    axes.set_xticks(range(num_tokens), words, rotation=90)
    axes.set_yticks(range(len(read_NT)))
    axes.set_ylabel("head")
    axes.set_title("Tokens that each head reads at each token")
    figure.colorbar(image, ax=axes, label="tokens read, exp of the entropy")
    means = read_NT.mean(-1).tolist()
    narrow, wide = min(means), max(means)
    return [
        f"head {means.index(narrow)} reads fewest: {narrow:.1f} tokens on average of {(num_tokens + 1) / 2:.1f} that "
        "stand before it,",
        f"head {means.index(wide)} most: {wide:.1f}.",
    ]


def tokens_read(weights_S: Tensor) -> Tensor:
    """exp(H) of weights that sum to 1 over the last dimension; [..., S] -> [...]."""
    return torch.special.entr(weights_S).sum(-1).exp()
