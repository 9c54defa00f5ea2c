"""Scores in the max-plus semiring, and maxima over keys: what bulba/attention/tropical.py is made of, in blocks.

A score is the largest over the channels d of q_d + k_d, or minus the sum of the largest k_d - q_d and q_d - k_d: the
`parts`, whose places are the channels that its gradient goes to. Of equal ones the first counts.
Letters: B rows, G key heads, R query heads of each, W queries of a block, S keys, C channels, D all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Score = Literal["hilbert", "maxplus"]
QUERY_BLOCK = 128
"""Queries at a time: what is held of a block, and how often the code of a block is repeated when it is compiled."""
CHANNELS = 8
"""Channels of q, k or v at a time in code that is not compiled."""


@dataclass(frozen=True)
class Rule:
    """Which score, and the temperature of the maximum over keys."""

    score: Score
    temperature: float


def blocks(num_tokens: int) -> list[tuple[int, int]]:
    """First and last (excluded) query of every block."""
    return [(start, min(start + QUERY_BLOCK, num_tokens)) for start in range(0, num_tokens, QUERY_BLOCK)]


def channels(x: Tensor) -> list[slice]:
    """The channels of x that are looked at together."""
    width = x.shape[-1]
    size = width if torch.compiler.is_compiling() else CHANNELS
    return [slice(start, min(start + size, width)) for start in range(0, width, size)]


def widen(q_BNTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """fp32 at least, as [B, G, R, T, D] and twice [B, G, 1, S, D]."""
    wide = torch.promote_types(q_BNTD.dtype, torch.float32)
    q_BGRTD = q_BNTD.unflatten(1, (k_BGSD.shape[1], -1)).to(wide)
    return q_BGRTD, k_BGSD[:, :, None].to(wide), v_BGSD[:, :, None].to(wide)


def parts(q: Tensor, k: Tensor, rule: Rule) -> list[Tensor]:
    """The combinations of q_d and k_d whose largest make the score: minus both of them for hilbert."""
    return [k - q, q - k] if rule.score == "hilbert" else [q + k]


def signs(rule: Rule) -> list[tuple[int, int]]:
    """With which sign q_d and k_d of each of the `parts` enter the score."""
    return [(1, -1), (-1, 1)] if rule.score == "hilbert" else [(1, 1)]


def first_largest(x: Tensor) -> tuple[Tensor, Tensor]:
    """The largest along the last axis, and the first place of it; torch.compile has slow code for argmax on CPUs."""
    most = x.amax(-1)
    places = torch.arange(x.shape[-1], dtype=torch.int32, device=x.device)
    place = places.where(x == most[..., None], x.shape[-1] - 1).amin(-1)  # NaN, which equals nothing: the last place
    return most, place.long()


def largest_parts(q_BGRWD: Tensor, k_BGRSD: Tensor, rule: Rule) -> list[Tensor]:
    """The largest over d of each of the `parts`, for all pairs: [B, G, R, W, S]."""
    found: list[Tensor] = []
    for columns in channels(q_BGRWD):
        pairs = parts(q_BGRWD[..., :, None, columns], k_BGRSD[..., None, :, columns], rule)
        most = [pair.amax(-1) for pair in pairs]
        found = [torch.maximum(a, b) for a, b in zip(found, most, strict=True)] if found else most
    return found


def places_of_parts(q_BGRWD: Tensor, k_BGRSD: Tensor, rule: Rule) -> list[Tensor]:
    """At which d each of the `parts` is largest, the first of them; [B, G, R, W, S]."""
    found: list[tuple[Tensor, Tensor]] = []
    for columns in channels(q_BGRWD):
        pairs = parts(q_BGRWD[..., :, None, columns], k_BGRSD[..., None, :, columns], rule)
        most = [first_largest(pair) for pair in pairs]
        if not found:
            found = most
            continue
        for index, ((old, old_place), (new, new_place)) in enumerate(zip(found, most, strict=True)):
            place = torch.where(new > old, new_place + columns.start, old_place)
            found[index] = torch.maximum(new, old), place
    return [place for _, place in found]


def block_scores(
    q_BGRTD: Tensor,
    k_BG1SD: Tensor,
    rule: Rule,
    documents_BT: Tensor | None,
    slopes_N: Tensor | None,
    start: int,
    end: int,
) -> Tensor:
    """Scores of the queries start .. end with the keys up to the last of them, -inf where not read; [B, G, R, W, S]."""
    last = k_BG1SD.shape[3] - q_BGRTD.shape[3] + end
    found = largest_parts(q_BGRTD[..., start:end, :], k_BG1SD[..., :last, :], rule)
    scores = found[0] if rule.score == "maxplus" else -(found[0] + found[1])
    return restrict(scores, documents_BT, slopes_N, start, end)


def restrict(
    scores_BGRWS: Tensor, documents_BT: Tensor | None, slopes_N: Tensor | None, start: int, end: int
) -> Tensor:
    """Scores with ALiBi, and -inf where a key may not be read; the last query stands at the last key."""
    num_queries, num_keys = scores_BGRWS.shape[-2:]
    places_S = torch.arange(num_keys, device=scores_BGRWS.device)
    distance_WS = places_S[num_keys - num_queries :, None] - places_S
    readable = distance_WS >= 0
    if documents_BT is not None:
        same = documents_BT[:, start:end, None] == documents_BT[:, None, :end]
        readable = readable & same[:, None, None]
    if slopes_N is not None:
        slopes_GR11 = slopes_N.to(scores_BGRWS.dtype).view(*scores_BGRWS.shape[1:3], 1, 1)
        scores_BGRWS = scores_BGRWS - slopes_GR11 * distance_WS
    return scores_BGRWS.masked_fill(~readable, -torch.inf)


def smooth_maximum(sums_BGRWSC: Tensor, temperature: float) -> Tensor:
    """tau logsumexp(. / tau) over the keys."""
    most = sums_BGRWSC.amax(-2, keepdim=True)
    total = ((sums_BGRWSC - most) / temperature).exp().sum(-2)
    return most.squeeze(-2) + temperature * total.log()
