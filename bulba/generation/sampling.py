"""From logits to the next token: pure functions on logits [V] or [B, V].

The order is fixed and that of Hugging Face `generate`: repetition penalty, temperature, top-k, top-p, draw.
Temperature 0 is greedy and draws nothing. What a filter removes becomes -inf.
Sources: repetition penalty of CTRL (Keskar et al. 2019, arXiv 1909.05858, 4.1); top-k (Fan et al. 2018,
arXiv 1805.04833); top-p (Holtzman et al. 2019, arXiv 1904.09751).
It differs from Hugging Face in one thing: top-k keeps exactly k tokens where the k-th logit is tied.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def penalize_repetition(logits: Tensor, tokens: Tensor, penalty: float, window: int | None = None) -> Tensor:
    """Divide positive and multiply negative logits of the tokens already seen by `penalty`.

    logits: [..., V]. tokens: [..., T] int64, what was fed and written so far, prompt included. window: only
    the last `window` of them count; None counts all. A penalty of 1 changes nothing.
    """
    seen = tokens if window is None else tokens[..., max(tokens.shape[-1] - window, 0) :]
    scores = logits.gather(-1, seen)
    return logits.scatter(-1, seen, torch.where(scores < 0, scores * penalty, scores / penalty))


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k largest logits, all of them where V <= k."""
    top = logits.topk(min(k, logits.shape[-1]), dim=-1)
    return torch.full_like(logits, -torch.inf).scatter(-1, top.indices, top.values)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest most probable tokens whose probabilities sum to p or more; at least one."""
    ascending, order = logits.sort(dim=-1)
    removed = ascending.softmax(-1).cumsum(-1) <= 1 - p
    removed[..., -1] = False
    return logits.masked_fill(removed.scatter(-1, order, removed), -torch.inf)


def filter_logits(
    logits: Tensor,
    tokens: Tensor,
    *,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    repetition_penalty: float,
    repetition_window: int | None,
) -> Tensor:
    """All filters in their order, in fp32: logits [..., V] and tokens [..., T] -> [..., V]. None is off."""
    logits = logits.float()
    if repetition_penalty != 1:
        logits = penalize_repetition(logits, tokens, repetition_penalty, repetition_window)
    if temperature > 0:
        logits = logits / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = keep_top_p(logits, top_p)
    return logits


def draw(logits: Tensor, generators: Generator | Sequence[Generator]) -> Tensor:
    """A token from softmax(logits): [V] -> [], [B, V] -> [B].

    generators: one, or one per row so that a row does not depend on its neighbours. Each row takes one
    uniform number and inverts the cumulative distribution in float64; a CPU generator serves every device.
    """
    if isinstance(generators, Generator):
        uniform = _uniform(logits.shape[:-1], generators)
    else:
        uniform = torch.stack([_uniform((), generator) for generator in generators])
    # Apple's GPUs have no float64.
    wide = logits.cpu() if logits.device.type == "mps" else logits
    cumulative = wide.double().softmax(-1).cumsum(-1)
    threshold = uniform.to(wide.device)[..., None] * cumulative[..., -1:]
    # right=True steps over tokens of probability zero, whose cumulative value equals their neighbour's.
    ids = torch.searchsorted(cumulative, threshold, right=True)
    return ids.clamp(max=_last_possible(cumulative)).squeeze(-1).to(logits.device)


def _uniform(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)


def _last_possible(cumulative: Tensor) -> Tensor:
    """The first index where the cumulative distribution is complete, [..., 1]: rounding could overshoot."""
    return (cumulative >= cumulative[..., -1:]).int().argmax(-1, keepdim=True)
