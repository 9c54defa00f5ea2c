"""Fractal attention: near keys one by one, far ones as blocks of a dyadic tree that one contraction makes.

The tokens of a document are leaves. Two neighbouring blocks of 2^h tokens make one of 2^(h+1), keys and values alike:
    parent = A left + B right + c,   |A| + |B| <= contraction < 1,
the same A, B, c at every level and in every head: the maps of an iterated function system (Hutchinson 1981; Barnsley
1988). Query i reads the w keys of its window i - w < j <= i, and of the n = i - w + 1 tokens behind it the maximal
closed blocks, one for each bit of n, as in a Fenwick tree (Fenwick 1994): bit h is the block that ends at
floor(n / 2^h) 2^h. One softmax over both:
    score_ij = q_i . k_j / sqrt(D),   score_ib = q_i . k_b / sqrt(D) + beta h(b).
Time O(T (w D + D^2 + D log T)), memory O(T (w + D + log T)) with kernel `flash`; `reference` holds T x 3T scores.
Decoding keeps the window and one block for each bit of n: O(w + log T) state and work, but for the carry of a binary
counter, which makes one block for each token on average.

What the literature leaves open, and what is chosen here:
- [A B] = W / max(1, (|W_left| + |W_right|) / contraction) with |W| bounded by sqrt(|W|_1 |W|_inf), which is never below
  the spectral norm, exact for diagonal W (the start: nearly the mean), and needs no decomposition. In the norm
  max(|left|, |right|) the map is a contraction, so iterated from any start it ends at x = A x + B x + c, and the
  influence of a token on a block of level h is at most contraction^h.
- beta, of each head, starts at ln 2: a block weighs as many keys as it has tokens. One step for each level, so that
  the tree stays the same at all scales.
- Keys are pooled as they are rotated: pairs of dimensions that turn fast average out, slow ones, which tell far
  positions apart, stay.
The tree, its addresses and its decode cache: bulba/attention/dyadic.py.
Letters: S blocks of all levels, h levels, n chunks of w tokens, R = N / G.
It does not do ALiBi nor dropout.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bulba.attention.base import KERNELS, AttentionContext, Capabilities, DocumentForm, Kernel, Mixer, MixerShape
from bulba.attention.dyadic import (
    Contraction,
    FractalCache,
    Pair,
    closing_tokens,
    document_positions,
    dots,
    mix,
    num_slots,
    rows,
)
from bulba.attention.heads import HeadsMixer
from bulba.errors import ConfigError


class FractalAttention(HeadsMixer):
    """window: w. contraction: bound on the Lipschitz constant of the map that makes blocks, below 1."""

    capabilities = Capabilities(KERNELS, packing=True, cache=True, gqa=True)
    counted_kernel: Kernel = "flash"

    def __init__(self, shape: MixerShape, window: int, contraction: float) -> None:
        super().__init__(shape)
        if window < 1:
            raise ConfigError(f"attention.window={window} must be at least 1.")
        if not 0 < contraction < 1:
            raise ConfigError(f"attention.contraction={contraction} must be above 0 and below 1.")
        self.window = window
        self.pool_k = Contraction(shape.head_dim, contraction)
        self.pool_v = Contraction(shape.head_dim, contraction)
        self.level_bias = nn.Parameter(torch.full((shape.num_heads,), math.log(2)))

    def forward(self, x_BTH: Tensor, context: AttentionContext, cache: Any | None = None) -> Tensor:
        q_BTND, k_BTGD, v_BTGD = (one.transpose(1, 2) for one in self.queries_keys_values(x_BTH, context))
        if cache is not None:
            seen = cache.advance(k_BTGD, v_BTGD, context.start, (self.pool_k, self.pool_v))
        # A prompt is a row that begins here.
        if cache is None or context.start == 0:
            y_BTND = self.attend(q_BTND, k_BTGD, v_BTGD, context)
        else:
            y_BTND = self.decode(q_BTND, *seen)
        return self.merge(y_BTND.to(x_BTH.dtype).transpose(1, 2))

    def attend(self, q_BTND: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, context: AttentionContext) -> Tensor:
        """All tokens of rows that begin here."""
        documents_BT = documents_of(context, q_BTND)
        positions_BT = document_positions(documents_BT)
        far, reads = self.blocks(k_BTGD, v_BTGD, positions_BT), self.far_reads(positions_BT)
        if context.kernel == "reference":
            return self.reference(q_BTND, (k_BTGD, v_BTGD), far, reads, documents_BT)
        near_BNTS, far_BNTh = (
            one.to(v_BTGD.dtype) for one in self.weights(q_BTND, k_BTGD, far[0], reads, documents_BT)
        )
        return window_values(near_BNTS, v_BTGD) + mix(far_BNTh.transpose(1, 2), far[1], reads[1])

    def weights(
        self, q_BTND: Tensor, k_BTGD: Tensor, k_BSGD: Tensor, reads: tuple[Tensor, Tensor], documents_BT: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of the keys of `window_scores`, [B, N, T, 2 chunk], and of the block of each level, [B, N, T, h]."""
        near_BNTS = window_scores(q_BTND, k_BTGD, documents_BT, self.window)
        far_BTNh = self.far_scores(q_BTND, k_BSGD, *reads).to(near_BNTS.dtype)
        weights = torch.cat([near_BNTS, far_BTNh.transpose(1, 2)], -1).softmax(-1)
        near_BNTS, far_BNTh = weights.split([near_BNTS.shape[-1], far_BTNh.shape[-1]], -1)
        return near_BNTS, far_BNTh

    def reference(
        self, q_BTND: Tensor, near: Pair, far: Pair, reads: tuple[Tensor, Tensor], documents_BT: Tensor
    ) -> Tensor:
        """Scores of every query with every key and every block, and -inf for those that it does not read."""
        num_tokens, num_blocks = q_BTND.shape[1], far[0].shape[1]
        places = torch.arange(num_tokens, device=q_BTND.device)
        distance_TS = places[:, None] - places
        readable = (distance_TS >= 0) & (distance_TS < self.window)
        readable = readable & (documents_BT[:, :, None] == documents_BT[:, None, :])
        reads_BTh, blocks_BTh = reads
        read_BTS = torch.zeros_like(readable[..., :1]).expand(-1, -1, num_blocks).clone()
        level_BTS = torch.zeros_like(read_BTS, dtype=q_BTND.dtype)
        for level in range(reads_BTh.shape[-1]):
            here = F.one_hot(blocks_BTh[..., level], num_blocks).bool() & reads_BTh[..., level, None]
            read_BTS, level_BTS = read_BTS | here, level_BTS + level * here
        repeats = q_BTND.shape[2] // near[0].shape[2]
        k_BNSD, v_BNSD = (
            torch.cat(pair, 1).repeat_interleave(repeats, 2).transpose(1, 2) for pair in zip(near, far, strict=True)
        )
        scores = q_BTND.transpose(1, 2) @ k_BNSD.transpose(-2, -1) / math.sqrt(q_BTND.shape[-1])
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        bias = self.level_bias.to(scores.dtype)[:, None, None] * F.pad(level_BTS, (num_tokens, 0))[:, None]
        readable = torch.cat([readable, read_BTS], -1)[:, None]
        weights = (scores + bias).masked_fill(~readable, -torch.inf).softmax(-1)
        return (weights.to(v_BNSD.dtype) @ v_BNSD).transpose(1, 2)

    def far_scores(self, q_BTND: Tensor, k_BSGD: Tensor, reads_BTh: Tensor, blocks_BTh: Tensor) -> Tensor:
        """Of the blocks that queries read, -inf for levels where they read none; [B, T, N, h]."""
        scores_BTNh = dots(q_BTND, k_BSGD, blocks_BTh) / math.sqrt(q_BTND.shape[-1])
        levels_h = torch.arange(reads_BTh.shape[-1], device=q_BTND.device)
        scores_BTNh = scores_BTNh + self.level_bias.to(scores_BTNh.dtype)[:, None] * levels_h
        return scores_BTNh.masked_fill(~reads_BTh[:, :, None], -torch.inf)

    def blocks(self, k_BTGD: Tensor, v_BTGD: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the blocks of all levels that some query may read, [B, S, G, D]; level 0 first."""
        k_levels, v_levels = [k_BTGD], [v_BTGD]
        num_levels = self.num_levels(k_BTGD.shape[1])
        for level in range(1, num_levels):
            right_BS = closing_tokens(positions_BT, level) >> (level - 1)
            left_BS = (right_BS - 1).clamp(min=0)
            for pool, levels in ((self.pool_k, k_levels), (self.pool_v, v_levels)):
                levels.append(pool(rows(levels[-1], left_BS), rows(levels[-1], right_BS)))
        k_BSGD, v_BSGD = (torch.cat([one[0][:, :0], *one[:num_levels]], 1) for one in (k_levels, v_levels))
        return k_BSGD, v_BSGD

    def num_levels(self, num_tokens: int) -> int:
        """How many levels have a block behind some window."""
        return max(num_tokens - self.window, 0).bit_length()

    def far_reads(self, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Whether each query reads a block of each level, and which of those of `blocks`; [B, T, h] both."""
        num_tokens = positions_BT.shape[1]
        behind_BT = (positions_BT - self.window + 1).clamp(min=0)
        first_BT = torch.arange(num_tokens, device=positions_BT.device) - positions_BT
        reads, blocks, offset = [], [], 0
        for level in range(self.num_levels(num_tokens)):
            closing_BT = first_BT + ((behind_BT >> level) << level) - 1
            reads.append((behind_BT >> level) & 1 == 1)
            blocks.append(torch.where(reads[-1], offset + (closing_BT >> level), 0))
            offset += num_slots(num_tokens, level)
        if not reads:
            return positions_BT.new_zeros(*positions_BT.shape, 0, dtype=torch.bool), positions_BT[..., None][..., :0]
        return torch.stack(reads, -1), torch.stack(blocks, -1)

    def decode(self, q_BTND: Tensor, near: Pair, far: Pair, levels_S: Tensor, readable_TS: Tensor) -> Tensor:
        """The formula over what the cache holds, which is all that these queries read and little else."""
        k_BSGD, v_BSGD = (torch.cat(pair, 1) for pair in zip(near, far, strict=True))
        q_BTGRD = q_BTND.unflatten(2, (k_BSGD.shape[2], -1))
        scores = torch.einsum("btgrd,bsgd->bgrts", q_BTGRD, k_BSGD) / math.sqrt(q_BTND.shape[-1])
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        bias_GR11 = self.level_bias.to(scores.dtype).view(k_BSGD.shape[2], -1, 1, 1)
        weights = (scores + bias_GR11 * levels_S).masked_fill(~readable_TS, -torch.inf).softmax(-1)
        return torch.einsum("bgrts,bsgd->btgrd", weights.to(v_BSGD.dtype), v_BSGD).flatten(2, 3)

    def new_cache(self, batch_size: int, max_tokens: int, dtype: torch.dtype, device: torch.device) -> Any:
        shape = (batch_size, self.window, self.shape.num_kv_heads, self.shape.head_dim)
        return FractalCache(shape, self.num_levels(max_tokens), dtype, device)

    def reads(self, kernel: Kernel) -> DocumentForm:
        return "documents_BT"

    def choose_backend(
        self, kernel: Kernel, compiled: bool, num_rows: int, num_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> str:
        return Mixer.choose_backend(self, kernel, compiled, num_rows, num_tokens, dtype, device)

    def other_flops(self, num_tokens: int) -> int:
        """Products of a query with a block of each level, and its value; forward, and twice that backward."""
        width = self.shape.num_heads * self.shape.head_dim
        return 3 * 4 * num_tokens * self.num_levels(num_tokens) * width

    @torch.no_grad()
    def figures(self, x_BTH: Tensor, context: AttentionContext) -> dict[str, Tensor]:
        """Weight of each level in each query ([B, T, N, h]; the rest is the window's), and the norms of the maps."""
        q_BTND, k_BTGD, v_BTGD = (one.transpose(1, 2) for one in self.queries_keys_values(x_BTH, context))
        documents_BT = documents_of(context, q_BTND)
        positions_BT = document_positions(documents_BT)
        k_BSGD, _ = self.blocks(k_BTGD, v_BTGD, positions_BT)
        _, far_BNTh = self.weights(q_BTND, k_BTGD, k_BSGD, self.far_reads(positions_BT), documents_BT)
        norms = [torch.linalg.matrix_norm(pool.matrix().float(), 2) for pool in (self.pool_k, self.pool_v)]
        return {"far_weight_BTNh": far_BNTh.transpose(1, 2), "pool_norms": torch.stack(norms)}


def documents_of(context: AttentionContext, q_BTND: Tensor) -> Tensor:
    """The document of every token, all one where the rows are not packed."""
    if context.documents_BT is None:
        return torch.zeros_like(q_BTND[:, :, 0, 0], dtype=torch.int32)
    return context.documents_BT


def window_scores(q_BTND: Tensor, k_BTGD: Tensor, documents_BT: Tensor, window: int) -> Tensor:
    """Scores of queries with the keys of their chunk and the one before, -inf out of the window; [B, N, T, 2 chunk]."""
    chunk = min(window, q_BTND.shape[1])
    q_BnCGRD = in_chunks(q_BTND, chunk).unflatten(3, (k_BTGD.shape[2], -1))
    k_BnSGD = with_previous(in_chunks(k_BTGD, chunk))
    scores = torch.einsum("bncgrd,bnsgd->bgrncs", q_BnCGRD, k_BnSGD) / math.sqrt(q_BTND.shape[-1])
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    documents_BnC = in_chunks(documents_BT, chunk)
    readable = documents_BnC[..., None] == with_previous(documents_BnC)[..., None, :]
    queries_nC = torch.arange(documents_BnC[0].numel(), device=q_BTND.device).unflatten(0, (-1, chunk))
    keys_nS = torch.cat([queries_nC - chunk, queries_nC], 1)
    distance_nCS = queries_nC[..., None] - keys_nS[:, None]
    readable = readable & (distance_nCS >= 0) & (distance_nCS < window) & (keys_nS >= 0)[:, None]
    scores = scores.masked_fill(~readable[:, None, None], -torch.inf)
    return scores.flatten(3, 4).flatten(1, 2)[:, :, : q_BTND.shape[1]]


def window_values(weights_BNTS: Tensor, v_BTGD: Tensor) -> Tensor:
    """Values weighted by what became of `window_scores`, [B, T, N, D]."""
    num_tokens, num_groups = v_BTGD.shape[1:3]
    chunk = weights_BNTS.shape[-1] // 2
    weights_BnCNS = in_chunks(weights_BNTS.transpose(1, 2), chunk)
    weights = weights_BnCNS.unflatten(3, (num_groups, -1))
    y_BnCGRD = torch.einsum("bncgrs,bnsgd->bncgrd", weights, with_previous(in_chunks(v_BTGD, chunk)))
    return y_BnCGRD.flatten(3, 4).flatten(1, 2)[:, :num_tokens]


def in_chunks(x_BT: Tensor, chunk: int) -> Tensor:
    """[B, T, ...] -> [B, n, chunk, ...], filled up with zeros."""
    missing = -x_BT.shape[1] % chunk
    if missing:
        x_BT = torch.cat([x_BT, x_BT.new_zeros(x_BT.shape[0], missing, *x_BT.shape[2:])], 1)
    return x_BT.unflatten(1, (-1, chunk))


def with_previous(x_BnC: Tensor) -> Tensor:
    """Each chunk behind the one before it, zeros before the first: [B, n, C, ...] -> [B, n, 2 C, ...]."""
    return torch.cat([torch.cat([torch.zeros_like(x_BnC[:, :1]), x_BnC[:, :-1]], 1), x_BnC], 2)
