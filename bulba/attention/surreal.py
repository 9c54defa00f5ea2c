"""Attention over surreal numbers: every query, key and value has a leading part and finer parts that only break ties.

A number is x = sum_{n<K} omega^-n x^(n) with omega > 1: an element of the polynomials in 1/omega, truncated after K
levels (Conway 1976; the Levi-Civita field; transseries). omega stands for something infinitely large, so numbers are
ordered by their first level, then by their second, as words in a dictionary. q, k and v are such numbers, each level
from its own projection, and the whole of attention is carried through their arithmetic:
    s^(n) = sum_{a+b=n} q^(a) . k^(b) / sqrt(D)
    w     = exp(s) / sum_j exp(s_j), expanded in 1/omega
    y^(n) = sum_{a+b=n} w^(a) v^(b),   output = sum_n omega^-n y^(n), omega learned per head.
With K = 2 and A = softmax(s^(0)): y^(0) = A v^(0), y^(1) = A v^(1) + (A o (s^(1) - <s^(1)>_A)) v^(0).
Expansion of w: exp(s) = exp(s^(0)) sum_n e_n omega^-n with n e_n = sum_{m=1..n} m s^(m) e_{n-m}, then division of
series. Backward, in the same arithmetic: with g the gradient of y and h^(m) = sum_{n>=m} g^(n) . y^(n-m), the gradient
of s^(m) is sum_{n>=m} w^(n-m) (gw^(n) - h^(n)), where gw is the gradient of w: flash attention, level by level.

Cost: K (K + 1) / 2 times the products of standard attention, 3 times for K = 2. Memory: O(T^2) for kernel `reference`,
O(T) for `flash`, which is
- the Triton kernels of bulba/kernels/surreal.py on CUDA (compute capability 8.0 and later) in fp32, bf16 and fp16, for
  K = 2 and heads at most 128 wide;
- elsewhere blocks of queries, scores made again in the backward pass, as bulba/attention/blocked.py.

Chosen where the literature leaves freedom:
- omega = 1 / ((1 - 2^-10) sigmoid(a)), a learned: no step of an optimizer can bring it to 1, where levels would mix;
- QK-norm acts on each level alone, with the gains of level 0: a norm is part of how a level is made. Rotary positions
  are linear, so they turn each level by the same angle, and the slopes of ALiBi belong to level 0;
- level 0 has the names of standard attention (q_proj ...): its weights can be loaded here, and K = 1 is
  bulba/attention/standard.py to the last bit, with its kernels.
It does not do dropout, nor infinitely large parts: the leading level of every number is finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bulba.attention.base import KERNELS, AttentionContext, Capabilities, DocumentForm, Kernel, MixerShape
from bulba.attention.blocked import QUERY_BLOCK, group, ungroup
from bulba.attention.heads import HeadsMixer, KeyValueCache
from bulba.device import runs_triton
from bulba.errors import ConfigError

LARGEST_INVERSE = 1 - 2**-10
"""Of omega: it keeps the levels apart in fp32, however far the parameter behind it runs."""
MAX_HEAD_DIM = 128
"""Of the Triton kernels: tiles of wider ones do not fit into the shared memory of every card."""

Number = list[Tensor]
"""The levels x^(0) .. x^(K-1)."""


class SurrealAttention(HeadsMixer):
    """Attention of truncated numbers. levels: K. omega: what it starts from, above 1; None with one level."""

    capabilities = Capabilities(KERNELS, packing=True, cache=True, gqa=True, alibi=True)

    def __init__(self, shape: MixerShape, levels: int, omega: float | None) -> None:
        super().__init__(shape)
        if levels < 1:
            raise ConfigError(f"attention.levels={levels} must be at least 1.")
        if levels == 1 and omega is not None:
            raise ConfigError(f"attention.omega={omega} does nothing with one level: set attention.omega=null.")
        if levels > 1 and not (omega is not None and 1 / LARGEST_INVERSE < omega < math.inf):
            raise ConfigError(f"attention.omega={omega} must be above 1.001: it stands for a large number.")
        self.levels = levels
        if omega is None:
            return
        width, kv_width = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
        self.q_fine, self.k_fine, self.v_fine = (
            nn.ModuleList(self.make_linear(shape.hidden_size, out_features) for _ in range(1, levels))
            for out_features in (width, kv_width, kv_width)
        )
        start = math.log(1 / (omega * LARGEST_INVERSE - 1))  # the sigmoid of it gives 1 / omega
        self.omega_logit_N = nn.Parameter(torch.full((shape.num_heads,), start))

    @property
    def level_powers(self) -> Tensor:
        """omega^-n of every head and level."""
        inverse_N = LARGEST_INVERSE * self.omega_logit_N.sigmoid()
        return inverse_N[:, None] ** torch.arange(self.levels, device=inverse_N.device)

    def forward(self, x_BTH: Tensor, context: AttentionContext, cache: Any | None = None) -> Tensor:
        q_BNTL, k_BGSL, v_BGSL = self.numbers(x_BTH, context)
        if cache is not None:
            k_BGSL, v_BGSL = cache.write(k_BGSL, v_BGSL, context.start)
        if self.levels == 1:
            return self.merge(self.softmax(q_BNTL, k_BGSL, v_BGSL, context, cache is not None, self.training))
        attend = reference_attention if context.kernel == "reference" else surreal_attention
        y_BNTL = attend(q_BNTL, k_BGSL, v_BGSL, self.levels, context.documents_BT, context.slopes_N)
        y_BNTKD = y_BNTL.unflatten(-1, (self.levels, -1)) * self.level_powers[:, None, :, None]
        return self.merge(y_BNTKD.sum(-2).to(y_BNTL.dtype))

    def numbers(self, x_BTH: Tensor, context: AttentionContext) -> tuple[Tensor, Tensor, Tensor]:
        """q [B, N, T, K D], k and v [B, G, T, K D], level after level; q and k normed and rotated level by level."""
        q_BNTD, k_BGTD, v_BGTD = self.queries_keys_values(x_BTH, context)
        if self.levels == 1:
            return q_BNTD, k_BGTD, v_BGTD
        fine_q = [context.rotate(self.q_norm(self.heads(proj(x_BTH)))) for proj in self.q_fine]
        fine_k = [context.rotate(self.k_norm(self.heads(proj(x_BTH)))) for proj in self.k_fine]
        fine_v = [self.heads(proj(x_BTH)) for proj in self.v_fine]
        return torch.cat([q_BNTD, *fine_q], -1), torch.cat([k_BGTD, *fine_k], -1), torch.cat([v_BGTD, *fine_v], -1)

    def new_cache(self, batch_size: int, max_tokens: int, dtype: torch.dtype, device: torch.device) -> Any:
        width = self.levels * self.shape.head_dim
        return KeyValueCache((batch_size, self.shape.num_kv_heads, max_tokens, width), dtype, device)

    def reads(self, kernel: Kernel) -> DocumentForm:
        return super().reads(kernel) if self.levels == 1 else "documents_BT"

    def choose_backend(
        self, kernel: Kernel, compiled: bool, num_rows: int, num_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> str:
        if self.levels == 1:
            return super().choose_backend(kernel, compiled, num_rows, num_tokens, dtype, device)
        if kernel == "reference":
            return kernel
        return "surreal triton" if takes_triton(self.levels, dtype, device, self.shape.head_dim) else "surreal blocked"

    @torch.no_grad()
    def figures(self, x_BTH: Tensor, context: AttentionContext) -> dict[str, Tensor]:
        """omega_N; moved_BNT: the share of attention that the second level moves from some keys to others (first
        order); size_NK: the root mean square of what each level adds to the output.
        """
        if self.levels == 1:
            return {}
        q_BNTL, k_BGTL, v_BGTL = self.numbers(x_BTH, context)
        y_BNTL = surreal_attention(q_BNTL, k_BGTL, v_BGTL, self.levels, context.documents_BT, context.slopes_N)
        k_reversed, moved = reverse(k_BGTL, self.levels), []
        for start, end in blocks(x_BTH.shape[1]):
            scores = block_scores(q_BNTL, k_reversed, self.levels, context.documents_BT, context.slopes_N, start, end)
            fine_BGWS = softmax(scores)[1]
            moved.append(ungroup(fine_BGWS.abs().sum(-1, keepdim=True) / 2, self.shape.num_heads))
        level_powers = self.level_powers
        return {
            "omega_N": 1 / level_powers[:, 1],
            "moved_BNT": torch.cat(moved, 2).squeeze(-1) * level_powers[:, 1, None],
            "size_NK": y_BNTL.unflatten(-1, (self.levels, -1)).square().mean((0, 2, 4)).sqrt() * level_powers,
        }


def total(terms: list[Tensor]) -> Tensor:
    return reduce(torch.add, terms)


def multiply(x: Number, y: Number, product: Callable[[Tensor, Tensor], Tensor] = torch.mul) -> Number:
    """x y up to the last level: (x y)^(n) = sum_{a+b=n} product(x^(a), y^(b))."""
    return [total([product(x[a], y[n - a]) for a in range(n + 1)]) for n in range(len(x))]


def is_less(x: Number, y: Number) -> Tensor:
    """x < y: the first level in which they differ decides."""
    less = torch.zeros_like(x[0], dtype=torch.bool)
    for a, b in reversed(list(zip(x, y, strict=True))):
        less = (a < b) | ((a == b) & less)
    return less


def softmax(scores: Number) -> Number:
    """exp(s) / sum exp(s) over the last axis, expanded level by level; level 0 may hold -inf."""
    first = scores[0].softmax(-1)
    growth = [torch.ones_like(first)]  # exp(s - s^(0))
    for n in range(1, len(scores)):
        growth.append(total([m * scores[m] * growth[n - m] for m in range(1, n + 1)]) / n)
    sums = [(first * level).sum(-1, keepdim=True) for level in growth]
    ratios = growth[:1]  # the same, divided by the number that `sums` is; its level 0 is 1
    for n in range(1, len(scores)):
        ratios.append(growth[n] - total([sums[m] * ratios[n - m] for m in range(1, n + 1)]))
    return [first * ratio for ratio in ratios]


def reference_attention(
    q_BNTL: Tensor, k_BGSL: Tensor, v_BGSL: Tensor, levels: int, documents_BT: Tensor | None, slopes_N: Tensor | None
) -> Tensor:
    """The formula written out over all pairs of tokens: as `surreal_attention`."""
    q, k, v = (list(group(x, k_BGSL.shape[1]).unflatten(-1, (levels, -1)).unbind(-2)) for x in (q_BNTL, k_BGSL, v_BGSL))
    scores = multiply(q, k, lambda a, b: a @ b.transpose(-2, -1))
    scores = finish(scores, q_BNTL, k_BGSL, levels, documents_BT, slopes_N, 0, q_BNTL.shape[2])
    weights = [level.to(v_BGSL.dtype) for level in softmax(scores)]
    return ungroup(torch.cat(multiply(weights, v, torch.matmul), -1), q_BNTL.shape[1])


def takes_triton(levels: int, dtype: torch.dtype, device: torch.device, head_dim: int) -> bool:
    """Whether kernel `flash` is bulba/kernels/surreal.py for such values, and not blocks of queries."""
    return levels == 2 and runs_triton(dtype, device) and head_dim <= MAX_HEAD_DIM


def surreal_attention(
    q_BNTL: Tensor, k_BGSL: Tensor, v_BGSL: Tensor, levels: int, documents_BT: Tensor | None, slopes_N: Tensor | None
) -> Tensor:
    """Causal attention of numbers inside each document: [B, N, T, L], 2 x [B, G, S, L] -> [B, N, T, L].

    L = levels * D: the levels of a number, one after another. The last query stands at the last key. documents_BT: the
    document of every token of a packed row, S = T then; None means one document. slopes_N: of ALiBi, constants.
    """
    if takes_triton(levels, v_BGSL.dtype, v_BGSL.device, v_BGSL.shape[-1] // levels):
        from bulba.kernels import surreal as kernels

        return kernels.surreal_attention(q_BNTL, k_BGSL, v_BGSL, documents_BT, slopes_N)
    y_BNTL: Tensor = BlockedSurreal.apply(q_BNTL, k_BGSL, v_BGSL, levels, documents_BT, slopes_N)
    return y_BNTL


class BlockedSurreal(torch.autograd.Function):
    """Letters as in bulba/attention/blocked.py: W queries of a block under one key head, S keys up to its end."""

    @staticmethod
    def forward(
        ctx: Any,
        q_BNTL: Tensor,
        k_BGSL: Tensor,
        v_BGSL: Tensor,
        levels: int,
        documents_BT: Tensor | None,
        slopes_N: Tensor | None,
    ) -> Tensor:
        k_reversed, width, outs = reverse(k_BGSL, levels), q_BNTL.shape[-1] // levels, []
        for start, end in blocks(q_BNTL.shape[2]):
            scores = block_scores(q_BNTL, k_reversed, levels, documents_BT, slopes_N, start, end)
            last = scores[0].shape[-1]
            parts = [
                weights_BGWS.to(v_BGSL.dtype) @ v_BGSL[:, :, :last, : (levels - n) * width]
                for n, weights_BGWS in enumerate(softmax(scores))
            ]
            outs.append(ungroup(add_up(parts, levels * width, at_end=True), q_BNTL.shape[1]))
        y_BNTL = torch.cat(outs, 2)
        ctx.levels = levels
        ctx.save_for_backward(q_BNTL, k_BGSL, v_BGSL, documents_BT, slopes_N, y_BNTL)
        return y_BNTL

    @staticmethod
    def backward(ctx: Any, grad_BNTL: Tensor) -> tuple[Tensor | None, ...]:
        q_BNTL, k_BGSL, v_BGSL, documents_BT, slopes_N, y_BNTL = ctx.saved_tensors
        levels, (num_heads, num_groups) = ctx.levels, (q_BNTL.shape[1], k_BGSL.shape[1])
        k_reversed, width = reverse(k_BGSL, levels), q_BNTL.shape[-1] // levels
        wide = torch.promote_types(q_BNTL.dtype, torch.float32)
        grad_q: list[Tensor] = []
        # For k and v one sum per level of the scores and weights, as wide as what that level reaches: sums into columns
        # of a common one would make torch.compile nest its code without end.
        parts_k = [torch.zeros_like(k_BGSL[..., : (n + 1) * width], dtype=wide) for n in range(levels)]
        parts_v = [torch.zeros_like(v_BGSL[..., : (levels - n) * width], dtype=wide) for n in range(levels)]
        for start, end in blocks(q_BNTL.shape[2]):
            scores = block_scores(q_BNTL, k_reversed, levels, documents_BT, slopes_N, start, end)
            last, weights = scores[0].shape[-1], softmax(scores)
            q_BGWL, y_BGWL, grad_BGWL = (group(x[:, :, start:end], num_groups) for x in (q_BNTL, y_BNTL, grad_BNTL))
            grad_weights = []
            for n in range(levels):
                upper_BGWL, lower = grad_BGWL[..., n * width :], slice((levels - n) * width)
                along_BGW1 = (upper_BGWL.to(wide) * y_BGWL[..., lower].to(wide)).sum(-1, keepdim=True)
                against_BGWS = (upper_BGWL @ v_BGSL[:, :, :last, lower].transpose(-2, -1)).to(wide)
                grad_weights.append(against_BGWS - along_BGW1)
                parts_v[n][:, :, :last] += weights[n].to(v_BGSL.dtype).transpose(-2, -1) @ upper_BGWL
            parts_q = []
            for n in range(levels):
                grad_BGWS = total([weights[m - n] * grad_weights[m] for m in range(n, levels)]) / math.sqrt(width)
                grad_BGWS = grad_BGWS.to(q_BNTL.dtype)
                upto, since = slice((n + 1) * width), slice((levels - 1 - n) * width, None)
                parts_q.append(grad_BGWS @ k_reversed[:, :, :last, since])
                parts_k[n][:, :, :last] += grad_BGWS.transpose(-2, -1) @ q_BGWL[..., upto]
            grad_q.append(ungroup(add_up(parts_q, levels * width, at_end=False), num_heads).to(q_BNTL.dtype))
        grad_k = reverse(add_up(parts_k, levels * width, at_end=True), levels)
        grad_v = add_up(parts_v, levels * width, at_end=False)
        return torch.cat(grad_q, 2), grad_k.to(k_BGSL.dtype), grad_v.to(v_BGSL.dtype), None, None, None


def add_up(parts: list[Tensor], width: int, at_end: bool) -> Tensor:
    """The sum of parts of unequal width in a tensor of `width` columns, whose first or last ones they are."""
    return total([F.pad(x, (width - x.shape[-1], 0) if at_end else (0, width - x.shape[-1])) for x in parts])


def blocks(num_tokens: int) -> list[tuple[int, int]]:
    """First and last (excluded) query of every block."""
    return [(start, min(start + QUERY_BLOCK, num_tokens)) for start in range(0, num_tokens, QUERY_BLOCK)]


def reverse(x_BGSL: Tensor, levels: int) -> Tensor:
    """Levels from the last to the first: then level n of a product is one product of neighbouring columns."""
    return torch.cat(x_BGSL.chunk(levels, -1)[::-1], -1)


def block_scores(
    q_BNTL: Tensor,
    k_reversed: Tensor,
    levels: int,
    documents_BT: Tensor | None,
    slopes_N: Tensor | None,
    start: int,
    end: int,
) -> Number:
    """Scores of the queries start .. end with the keys up to the last of them; K x [B, G, W, S]."""
    width, last = q_BNTL.shape[-1] // levels, k_reversed.shape[2] - q_BNTL.shape[2] + end
    q_BGWL = group(q_BNTL[:, :, start:end], k_reversed.shape[1])
    k_BGSL = k_reversed[:, :, :last]
    scores = [
        q_BGWL[..., : (n + 1) * width] @ k_BGSL[..., (levels - 1 - n) * width :].transpose(-2, -1)
        for n in range(levels)
    ]
    return finish(scores, q_BNTL, k_BGSL, levels, documents_BT, slopes_N, start, end)


def finish(
    scores: Number,
    q_BNTL: Tensor,
    k_BGSL: Tensor,
    levels: int,
    documents_BT: Tensor | None,
    slopes_N: Tensor | None,
    start: int,
    end: int,
) -> Number:
    """Products as scores, fp32 at least: divided by sqrt(D), level 0 with ALiBi, and -inf where a key is not read."""
    num_heads, num_groups, num_keys = q_BNTL.shape[1], k_BGSL.shape[1], k_BGSL.shape[2]
    wide = torch.promote_types(q_BNTL.dtype, torch.float32)
    first, *fine = (score.to(wide) / math.sqrt(q_BNTL.shape[-1] // levels) for score in scores)
    distance_TS = torch.arange(num_keys - (end - start), num_keys, device=q_BNTL.device)[:, None] - torch.arange(
        num_keys, device=q_BNTL.device
    )
    readable = distance_TS >= 0
    if documents_BT is not None:
        readable = readable & (documents_BT[:, None, None, start:end, None] == documents_BT[:, None, None, None, :end])
    first = first.unflatten(2, (num_heads // num_groups, end - start))
    if slopes_N is not None:
        first = first - slopes_N.to(wide).view(num_groups, -1, 1, 1) * distance_TS
    return [first.masked_fill(~readable, -torch.inf).flatten(2, 3), *fine]
