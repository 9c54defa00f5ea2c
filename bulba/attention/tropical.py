"""Attention in the max-plus semiring: a sum of numbers becomes their maximum, a product their sum.

Formula: y_ic = max_j (s_ij + v_jc), causal, inside each document, each channel c of a head choosing its own key j.
Scores, two choices:
- hilbert: s_ij = -dH(q_i, k_j), dH(a, b) = max_d (a_d - b_d) - min_d (a_d - b_d), the Hilbert projective metric: 0 for
  vectors that differ by a constant, which are one point of the tropical projective space;
- maxplus: s_ij = max_d (q_id + k_jd), the max-plus product of q and k.
temperature tau > 0 puts tau logsumexp(. / tau) in the place of the maximum over keys (Maslov's dequantisation,
Litvinov 2007, arXiv math/0507014), at most tau log(number of keys) above it; tau = 0 is the semiring itself.
Sources: Litvinov; "Tropical Attention", Hashemi et al. 2025 (arXiv 2505.17190).

Theorems: y moves by no more than max |ds| + max |dv|; a constant added to v is added to y; and the certificate: with
the margin, the gap between the best s_ij + v_jc and the runner-up, no change of them below margin / 2 changes j.

Gradient at tau = 0: through the chosen j alone, and in a score through the d that is the maximum (minimum), one of them
where several are; each is a subgradient. At tau > 0 the keys share it by exp((s_ij + v_jc - y_ic) / tau).

Cost: 5 T^2 D elementary operations a head forward and no matrix products. Memory: O(T) for kernel `flash`, which is
- the Triton kernels of bulba/kernels/tropical.py on CUDA (compute capability 8.0 and later) in fp32, bf16 and fp16, for
  heads at most 128 wide;
- elsewhere blocks of queries (bulba/attention/maxplus.py), of which no more than CHANNELS differences a pair of tokens
  are held at a time (none in compiled code, where they are fused), made again in the backward pass.
`reference` holds T x T, and T x T x D at tau > 0.

Chosen where the literature leaves freedom:
- tau does not smooth the scores: a smoothed dH would give dH(a, a) = 2 tau log D and be no metric;
- nothing is divided by sqrt(D), as maxima do not grow so with D; no map into and out of log space is added: q, k and v
  are linear in x, and the layers between are ordinary;
- rotary positions run, but maxima see coordinates: scores then depend on both positions, not on their difference alone.
  The slopes of ALiBi are the scheme native to the semiring: a product with slope^(i - j) is a sum here.
It does not do dropout.
"""

from __future__ import annotations

import math
from typing import Any, get_args

import torch
from torch import Tensor

from bulba.attention.base import KERNELS, AttentionContext, Capabilities, DocumentForm, Kernel, MixerShape
from bulba.attention.heads import HeadsMixer
from bulba.attention.maxplus import (
    Rule,
    Score,
    block_scores,
    blocks,
    channels,
    first_largest,
    parts,
    places_of_parts,
    restrict,
    signs,
    smooth_maximum,
    widen,
)
from bulba.device import runs_triton
from bulba.errors import ConfigError

MAX_HEAD_DIM = 128
"""Of the Triton kernels: wider tiles have too few tokens to be fast."""


class TropicalAttention(HeadsMixer):
    """Max-plus attention. score, temperature: as in the docstring of the module."""

    capabilities = Capabilities(KERNELS, packing=True, cache=True, gqa=True, alibi=True)

    def __init__(self, shape: MixerShape, score: Score, temperature: float) -> None:
        super().__init__(shape)
        if score not in get_args(Score):
            raise ConfigError(f"attention.score={score} must be {' or '.join(get_args(Score))}.")
        if not 0 <= temperature < math.inf:
            raise ConfigError(f"attention.temperature={temperature} must be at least 0 and finite.")
        self.rule = Rule(score, temperature)

    def forward(self, x_BTH: Tensor, context: AttentionContext, cache: Any | None = None) -> Tensor:
        q_BNTD, k_BGSD, v_BGSD = self.queries_keys_values(x_BTH, context)
        if cache is not None:
            k_BGSD, v_BGSD = cache.write(k_BGSD, v_BGSD, context.start)
        attend = reference_attention if context.kernel == "reference" else tropical_attention
        return self.merge(attend(q_BNTD, k_BGSD, v_BGSD, self.rule, context.documents_BT, context.slopes_N))

    def reads(self, kernel: Kernel) -> DocumentForm:
        return "documents_BT"

    def choose_backend(
        self, kernel: Kernel, compiled: bool, num_rows: int, num_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> str:
        if kernel == "reference":
            return kernel
        return "tropical triton" if takes_triton(dtype, device, self.shape.head_dim) else "tropical blocked"

    def other_flops(self, num_tokens: int) -> int:
        """All pairs of tokens; forward: 3 (maxplus 2) a channel for the score, 2 (tau > 0: 5) for the maximum.

        Backward: at tau = 0 a few a token, which do not count; else exp of a sum, its product and two sums, 6.
        """
        score = 3 if self.rule.score == "hilbert" else 2
        smooth = self.rule.temperature > 0
        return (score + (5 + 6 if smooth else 2)) * num_tokens**2 * self.shape.num_heads * self.shape.head_dim

    @torch.no_grad()
    def figures(self, x_BTH: Tensor, context: AttentionContext) -> dict[str, Tensor]:
        """margin_BNTD: how much s_ij + v_jc of the chosen key is above the runner-up, inf where there is none;
        chosen_BNTD: that key.
        """
        q_BNTD, k_BGTD, v_BGTD = self.queries_keys_values(x_BTH, context)
        chosen, margin = choices(q_BNTD, k_BGTD, v_BGTD, self.rule, context.documents_BT, context.slopes_N)
        return {"margin_BNTD": margin, "chosen_BNTD": chosen}


def takes_triton(dtype: torch.dtype, device: torch.device, head_dim: int) -> bool:
    """Whether kernel `flash` is bulba/kernels/tropical.py for such values, and not blocks of queries."""
    return runs_triton(dtype, device) and head_dim <= MAX_HEAD_DIM


def tropical_attention(
    q_BNTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, rule: Rule, documents_BT: Tensor | None, slopes_N: Tensor | None
) -> Tensor:
    """Causal max-plus attention inside each document: [B, N, T, D], 2 x [B, G, S, D] -> [B, N, T, D].

    The last query stands at the last key. documents_BT: the document of every token of a packed row, S = T then; None
    means one document. slopes_N: of ALiBi, constants.
    """
    if takes_triton(v_BGSD.dtype, v_BGSD.device, v_BGSD.shape[-1]):
        from bulba.kernels import tropical as kernels

        is_hilbert = rule.score == "hilbert"
        return kernels.tropical_attention(q_BNTD, k_BGSD, v_BGSD, is_hilbert, rule.temperature, documents_BT, slopes_N)
    y_BNTD: Tensor = BlockedTropical.apply(q_BNTD, k_BGSD, v_BGSD, rule, documents_BT, slopes_N)
    return y_BNTD


class BlockedTropical(torch.autograd.Function):
    """Letters: R = N / G query heads of a key head, W queries of a block, S keys up to the last of them, C channels."""

    @staticmethod
    def forward(
        ctx: Any,
        q_BNTD: Tensor,
        k_BGSD: Tensor,
        v_BGSD: Tensor,
        rule: Rule,
        documents_BT: Tensor | None,
        slopes_N: Tensor | None,
    ) -> Tensor:
        q, k, v = widen(q_BNTD, k_BGSD, v_BGSD)
        rows: list[Tensor] = []
        row_places: list[Tensor] = []
        for start, end in blocks(q_BNTD.shape[2]):
            scores_BGRWS = block_scores(q, k, rule, documents_BT, slopes_N, start, end)
            outs, places = [], []
            for columns in channels(v):
                sums_BGRWSC = scores_BGRWS[..., None] + v[..., None, : scores_BGRWS.shape[-1], columns]
                if rule.temperature:
                    outs.append(smooth_maximum(sums_BGRWSC, rule.temperature))
                else:
                    most, chosen = sums_BGRWSC.max(-2)
                    outs.append(most)
                    places.append(chosen)
            rows.append(torch.cat(outs, -1))
            row_places += [torch.cat(places, -1)] if places else []
        y_BNTD = torch.cat(rows, 3).flatten(1, 2)
        # Of the exact maximum the backward pass needs the place, of the smooth one the value.
        kept = torch.cat(row_places, 3).flatten(1, 2) if row_places else y_BNTD
        ctx.rule = rule
        ctx.save_for_backward(q_BNTD, k_BGSD, v_BGSD, documents_BT, slopes_N, kept)
        return y_BNTD.to(v_BGSD.dtype)

    @staticmethod
    def backward(ctx: Any, grad_BNTD: Tensor) -> tuple[Tensor | None, ...]:
        q_BNTD, k_BGSD, v_BGSD, documents_BT, slopes_N, kept_BNTD = ctx.saved_tensors
        tensors = widen(q_BNTD, k_BGSD, v_BGSD)
        grad, kept = (x.unflatten(1, (k_BGSD.shape[1], -1)) for x in (grad_BNTD.to(tensors[0].dtype), kept_BNTD))
        if ctx.rule.temperature:
            grads = smooth_backward(*tensors, ctx.rule, documents_BT, slopes_N, kept, grad)
        else:
            grads = exact_backward(*tensors, ctx.rule, kept, grad)
        grad_q, grad_k, grad_v = grads
        grad_q = grad_q.flatten(1, 2).to(q_BNTD.dtype)
        return grad_q, grad_k.to(k_BGSD.dtype), grad_v.to(v_BGSD.dtype), None, None, None


def exact_backward(
    q_BGRTD: Tensor, k_BG1SD: Tensor, v_BG1SD: Tensor, rule: Rule, chosen_BGRTD: Tensor, grad_BGRTD: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Every y_ic hands its gradient to one v_jc and, through s_ij, to one or two channels of q_i and of k_j."""
    q_BGXD, chosen_BGXD, grad_BGXD = (x.flatten(2, 3) for x in (q_BGRTD, chosen_BGRTD, grad_BGRTD))
    k_BGSD = k_BG1SD.squeeze(2)
    width = k_BGSD.shape[-1]
    grad_q, grad_k = torch.zeros_like(q_BGXD), torch.zeros_like(k_BGSD).flatten(2)
    grad_v = torch.zeros_like(k_BGSD).scatter_add(2, chosen_BGXD, grad_BGXD)
    found = []
    for start, end in blocks(q_BGXD.shape[2]):
        pieces = []
        for columns in channels(q_BGXD):
            keys_BGY = chosen_BGXD[:, :, start:end, columns].flatten(2)
            k_BGYD = k_BGSD.gather(2, keys_BGY[..., None].expand(-1, -1, -1, width))
            k_BGXCD = k_BGYD.unflatten(2, (end - start, -1))
            pairs = parts(q_BGXD[:, :, start:end, None], k_BGXCD, rule)
            pieces.append([first_largest(pair)[1] for pair in pairs])
        found.append([torch.cat(places, -1) for places in zip(*pieces, strict=True)])
    for (of_q, of_k), *places in zip(signs(rule), *found, strict=True):
        channel_BGXD = torch.cat(places, 2)
        grad_q = grad_q.scatter_add(-1, channel_BGXD, of_q * grad_BGXD)
        cell_BGY = (chosen_BGXD * width + channel_BGXD).flatten(2)
        grad_k = grad_k.scatter_add(2, cell_BGY, of_k * grad_BGXD.flatten(2))
    return grad_q.view_as(q_BGRTD), grad_k.view_as(k_BGSD), grad_v


def smooth_backward(
    q_BGRTD: Tensor,
    k_BG1SD: Tensor,
    v_BG1SD: Tensor,
    rule: Rule,
    documents_BT: Tensor | None,
    slopes_N: Tensor | None,
    y_BGRTD: Tensor,
    grad_BGRTD: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Every y_ic shares its gradient out among the keys; what a score gets goes on to the channels it is made of."""
    grad_q, grad_k, grad_v = [], torch.zeros_like(k_BG1SD.squeeze(2)), torch.zeros_like(v_BG1SD.squeeze(2))
    for start, end in blocks(q_BGRTD.shape[3]):
        scores_BGRWS = block_scores(q_BGRTD, k_BG1SD, rule, documents_BT, slopes_N, start, end)
        last = scores_BGRWS.shape[-1]
        grad_scores = torch.zeros_like(scores_BGRWS)
        for columns in channels(v_BG1SD):
            y_BGRW1C, grad_BGRW1C = (x[..., start:end, None, columns] for x in (y_BGRTD, grad_BGRTD))
            sums_BGRWSC = scores_BGRWS[..., None] + v_BG1SD[..., None, :last, columns]
            shared_BGRWSC = ((sums_BGRWSC - y_BGRW1C) / rule.temperature).exp() * grad_BGRW1C
            grad_scores = grad_scores + shared_BGRWSC.sum(-1)
            grad_v[:, :, :last, columns] += shared_BGRWSC.sum((2, 3))
        q_BGRWD = q_BGRTD[..., start:end, :]
        found = places_of_parts(q_BGRWD, k_BG1SD[..., :last, :], rule)
        grad_block = torch.zeros_like(q_BGRWD)
        for (of_q, of_k), channel_BGRWS in zip(signs(rule), found, strict=True):
            grad_block = grad_block.scatter_add(-1, channel_BGRWS, of_q * grad_scores)
            channel_BGSX, grad_BGSX = (x.flatten(2, 3).transpose(-2, -1) for x in (channel_BGRWS, grad_scores))
            added = torch.zeros_like(grad_k[:, :, :last]).scatter_add(-1, channel_BGSX, of_k * grad_BGSX)
            grad_k[:, :, :last] += added
        grad_q.append(grad_block)
    return torch.cat(grad_q, 3), grad_k, grad_v


def reference_attention(
    q_BNTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, rule: Rule, documents_BT: Tensor | None, slopes_N: Tensor | None
) -> Tensor:
    """As `tropical_attention`, for all pairs of tokens and with the gradients of torch.

    Maxima are read at their places, so that torch keeps T x T places and not the T x T x D differences.
    """
    q, k, v = widen(q_BNTD, k_BGSD, v_BGSD)
    num_queries = q.shape[-2]
    k, v = (x.expand(-1, -1, q.shape[2], -1, -1) for x in (k, v))
    scores: Any = 0
    for (of_q, of_k), channel_BGRTS in zip(signs(rule), places_of_parts(q.detach(), k.detach(), rule), strict=True):
        scores = scores + of_q * q.gather(-1, channel_BGRTS)
        scores = scores + of_k * k.gather(-1, channel_BGRTS.transpose(-2, -1)).transpose(-2, -1)
    scores = restrict(scores, documents_BT, slopes_N, 0, num_queries)
    if rule.temperature:
        y_BGRTD = smooth_maximum(scores[..., None] + v[..., None, :, :], rule.temperature)
        return y_BGRTD.flatten(1, 2).to(v_BGSD.dtype)
    chosen = [(scores.detach()[..., None] + v.detach()[..., None, :, c]).argmax(-2) for c in channels(v)]
    chosen_BGRTD = torch.cat(chosen, -1)
    y_BGRTD = scores.gather(-1, chosen_BGRTD) + v.gather(-2, chosen_BGRTD)
    return y_BGRTD.flatten(1, 2).to(v_BGSD.dtype)


def choices(
    q_BNTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, rule: Rule, documents_BT: Tensor | None, slopes_N: Tensor | None
) -> tuple[Tensor, Tensor]:
    """For every output the key that is the maximum, and its margin over the runner-up (inf where no other is read).

    Nothing below margin / 2, added to any s_ij + v_jc, makes another key the maximum. Both [B, N, T, D].
    """
    q, k, v = widen(q_BNTD, k_BGSD, v_BGSD)
    places, margins = [], []
    for start, end in blocks(q_BNTD.shape[2]):
        scores_BGRWS = block_scores(q, k, rule, documents_BT, slopes_N, start, end)
        num_keys, pieces = scores_BGRWS.shape[-1], []
        for columns in channels(v):
            sums_BGRWSC = scores_BGRWS[..., None] + v[..., None, :num_keys, columns]
            most, chosen = sums_BGRWSC.max(-2)
            is_chosen = torch.arange(num_keys, device=v.device)[:, None] == chosen[..., None, :]
            pieces.append((chosen, most - sums_BGRWSC.masked_fill(is_chosen, -torch.inf).amax(-2)))
        chosen, margin = (torch.cat(both, -1) for both in zip(*pieces, strict=True))
        places.append(chosen)
        margins.append(margin)
    return torch.cat(places, 3).flatten(1, 2), torch.cat(margins, 3).flatten(1, 2)
