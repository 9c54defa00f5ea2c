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
- The addresses of blocks are those of the document, not of the row; a block of level h that ends with token t of the
  row has slot floor(t / 2^h) of its level, which no other block can have.
Letters: S blocks of all levels, h levels, n chunks of w tokens, R = N / G.
It does not do ALiBi nor dropout.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bulba.attention.base import AttentionContext, Capabilities, DocumentForm, Kernel, Mixer, MixerShape
from bulba.attention.heads import HeadsMixer
from bulba.errors import ConfigError


class Contraction(nn.Module):
    """parent = A left + B right + c with |A| + |B| <= factor; [..., D], [..., D] -> [..., D]."""

    def __init__(self, size: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        # Just inside the bound, where no direction is cut off.
        self.weight = nn.Parameter(0.99 * factor / 2 * torch.cat([torch.eye(size), torch.eye(size)], 1))
        self.offset = nn.Parameter(torch.zeros(size))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return F.linear(torch.cat([left, right], -1), self.matrix().to(left.dtype), self.offset.to(left.dtype))

    def matrix(self) -> Tensor:
        """A and B side by side, [D, 2 D]."""
        left, right = self.weight.chunk(2, 1)
        bound = norm_bound(left) + norm_bound(right)
        return self.weight / torch.clamp(bound / self.factor, min=1.0)


def norm_bound(matrix: Tensor) -> Tensor:
    """sqrt(|W|_1 |W|_inf), at least the largest singular value (Schur); differentiable everywhere but at 0."""
    sizes = matrix.abs()
    return (sizes.sum(0).amax() * sizes.sum(1).amax()).sqrt()


class FractalAttention(HeadsMixer):
    """window: w. contraction: bound on the Lipschitz constant of the map that makes blocks, below 1."""

    capabilities = Capabilities(
        kernels=frozenset({"reference", "flash"}), packing=True, cache=True, gqa=True, gguf=False
    )
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
        documents_BT = context.documents_BT
        if documents_BT is None:
            documents_BT = torch.zeros_like(q_BTND[:, :, 0, 0], dtype=torch.int32)
        positions_BT = document_positions(documents_BT)
        k_BSGD, v_BSGD = self.blocks(k_BTGD, v_BTGD, positions_BT)
        reads_BTh, blocks_BTh = self.far_reads(positions_BT)
        if context.kernel == "reference":
            return self.reference(q_BTND, (k_BTGD, v_BTGD), (k_BSGD, v_BSGD), (reads_BTh, blocks_BTh), documents_BT)
        chunk = min(self.window, q_BTND.shape[1])
        near_BNTS = window_scores(q_BTND, k_BTGD, documents_BT, self.window, chunk)
        far_BTNh = self.far_scores(q_BTND, k_BSGD, reads_BTh, blocks_BTh).to(near_BNTS.dtype)
        weights = torch.cat([near_BNTS, far_BTNh.transpose(1, 2)], -1).softmax(-1).to(v_BTGD.dtype)
        near_BNTS, far_BNTh = weights.split([2 * chunk, reads_BTh.shape[-1]], -1)
        return window_values(near_BNTS, v_BTGD, chunk) + mix(far_BNTh.transpose(1, 2), v_BSGD, blocks_BTh)

    def reference(
        self,
        q_BTND: Tensor,
        near: tuple[Tensor, Tensor],
        far: tuple[Tensor, Tensor],
        reads: tuple[Tensor, Tensor],
        documents_BT: Tensor,
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
        documents_BT = context.documents_BT
        if documents_BT is None:
            documents_BT = torch.zeros_like(q_BTND[:, :, 0, 0], dtype=torch.int32)
        positions_BT = document_positions(documents_BT)
        k_BSGD, _ = self.blocks(k_BTGD, v_BTGD, positions_BT)
        reads_BTh, blocks_BTh = self.far_reads(positions_BT)
        chunk = min(self.window, q_BTND.shape[1])
        near_BNTS = window_scores(q_BTND, k_BTGD, documents_BT, self.window, chunk)
        far_BTNh = self.far_scores(q_BTND, k_BSGD, reads_BTh, blocks_BTh).to(near_BNTS.dtype)
        weights_BTNS = torch.cat([near_BNTS.transpose(1, 2), far_BTNh], -1).softmax(-1)
        norms = [torch.linalg.matrix_norm(pool.matrix().float(), 2) for pool in (self.pool_k, self.pool_v)]
        return {"far_weight_BTNh": weights_BTNS[..., 2 * chunk :], "pool_norms": torch.stack(norms)}


def document_positions(documents_BT: Tensor) -> Tensor:
    """The position of every token in its document."""
    places_T = torch.arange(documents_BT.shape[1], device=documents_BT.device)
    begins_BT = F.pad(documents_BT[:, 1:] != documents_BT[:, :-1], (1, 0))
    return places_T - torch.where(begins_BT, places_T, 0).cummax(1).values


def num_slots(num_tokens: int, level: int) -> int:
    """How many blocks of a level a row has room for."""
    return -(-num_tokens // 2**level)


def closing_tokens(positions_BT: Tensor, level: int) -> Tensor:
    """The last token of the block of every slot of a level, 0 where a slot has no block; [B, num_slots]."""
    num_tokens = positions_BT.shape[1]
    closes_BT = (positions_BT + 1) % 2**level == 0
    tokens_BT = torch.where(closes_BT, torch.arange(num_tokens, device=positions_BT.device), 0)
    tokens_BT = F.pad(tokens_BT, (0, num_slots(num_tokens, level) * 2**level - num_tokens))
    return tokens_BT.unflatten(1, (-1, 2**level)).amax(-1)


def window_scores(q_BTND: Tensor, k_BTGD: Tensor, documents_BT: Tensor, window: int, chunk: int) -> Tensor:
    """Scores of queries with the keys of their chunk and the one before, -inf out of the window; [B, N, T, 2 chunk]."""
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


def window_values(weights_BNTS: Tensor, v_BTGD: Tensor, chunk: int) -> Tensor:
    """Values weighted by what became of `window_scores`, [B, T, N, D]."""
    num_tokens, num_groups = v_BTGD.shape[1:3]
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


def rows(table_BSGD: Tensor, index_BT: Tensor) -> Tensor:
    """The rows of a table that the index names: [B, T, G, D]."""
    first_B1 = torch.arange(table_BSGD.shape[0], device=index_BT.device)[:, None] * table_BSGD.shape[1]
    flat = table_BSGD.flatten(0, 1).index_select(0, (index_BT + first_B1).flatten())
    return flat.unflatten(0, index_BT.shape)


def dots(q_BTND: Tensor, table_BSGD: Tensor, index_BTh: Tensor) -> Tensor:
    """Products of every query with the rows it names, in fp32 at least: [B, T, N, h]."""
    out_BTNh: Tensor = Dots.apply(q_BTND, table_BSGD, index_BTh)
    return out_BTNh


def mix(weights_BTNh: Tensor, table_BSGD: Tensor, index_BTh: Tensor) -> Tensor:
    """The named rows weighted and added up, in fp32 at least: [B, T, N, D]."""
    out_BTND: Tensor = Mix.apply(weights_BTNh, table_BSGD, index_BTh)
    return out_BTND


class Dots(torch.autograd.Function):
    """Stores no row that it gathers; `Mix` is its transpose in q, and it is that of `Mix` in the weights."""

    @staticmethod
    def forward(ctx: Any, q_BTND: Tensor, table_BSGD: Tensor, index_BTh: Tensor) -> Tensor:
        ctx.save_for_backward(q_BTND, table_BSGD, index_BTh)
        return gathered_dots(q_BTND, table_BSGD, index_BTh)

    @staticmethod
    def backward(ctx: Any, grad_BTNh: Tensor) -> tuple[Tensor, Tensor, None]:
        q_BTND, table_BSGD, index_BTh = ctx.saved_tensors
        grad_q = gathered_mix(grad_BTNh, table_BSGD, index_BTh).to(q_BTND.dtype)
        return grad_q, scattered(grad_BTNh, q_BTND, table_BSGD, index_BTh), None


class Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights_BTNh: Tensor, table_BSGD: Tensor, index_BTh: Tensor) -> Tensor:
        ctx.save_for_backward(weights_BTNh, table_BSGD, index_BTh)
        return gathered_mix(weights_BTNh, table_BSGD, index_BTh)

    @staticmethod
    def backward(ctx: Any, grad_BTND: Tensor) -> tuple[Tensor, Tensor, None]:
        weights_BTNh, table_BSGD, index_BTh = ctx.saved_tensors
        grad_weights = gathered_dots(grad_BTND, table_BSGD, index_BTh).to(weights_BTNh.dtype)
        return grad_weights, scattered(weights_BTNh, grad_BTND, table_BSGD, index_BTh), None


def gathered_dots(q_BTND: Tensor, table_BSGD: Tensor, index_BTh: Tensor) -> Tensor:
    """As `dots`, one level at a time."""
    wide = torch.promote_types(q_BTND.dtype, torch.float32)
    q_BTGRD = q_BTND.to(wide).unflatten(2, (table_BSGD.shape[2], -1))
    found = [(q_BTGRD * rows(table_BSGD, index_BT)[:, :, :, None]).sum(-1) for index_BT in index_BTh.unbind(-1)]
    return torch.stack(found, -1).flatten(2, 3) if found else q_BTGRD.new_zeros(*q_BTND.shape[:3], 0)


def gathered_mix(weights_BTNh: Tensor, table_BSGD: Tensor, index_BTh: Tensor) -> Tensor:
    """As `mix`, one level at a time."""
    wide = torch.promote_types(weights_BTNh.dtype, torch.float32)
    weights = weights_BTNh.to(wide).unflatten(2, (table_BSGD.shape[2], -1)).unbind(-1)
    out_BTGRD = weights_BTNh.new_zeros(*weights_BTNh.shape[:3], table_BSGD.shape[-1], dtype=wide)
    out_BTGRD = out_BTGRD.unflatten(2, (table_BSGD.shape[2], -1))
    for weight_BTGR, index_BT in zip(weights, index_BTh.unbind(-1), strict=True):
        out_BTGRD = out_BTGRD + weight_BTGR[..., None] * rows(table_BSGD, index_BT)[:, :, :, None]
    return out_BTGRD.flatten(2, 3)


def scattered(weights_BTNh: Tensor, x_BTND: Tensor, table_BSGD: Tensor, index_BTh: Tensor) -> Tensor:
    """The transpose in the table: weight * x added to every row that is named; [B, S, G, D]."""
    wide = torch.promote_types(x_BTND.dtype, torch.float32)
    batch_size, num_blocks, num_groups, head_dim = table_BSGD.shape
    x_BTGRD = x_BTND.to(wide).unflatten(2, (num_groups, -1))
    weights = weights_BTNh.to(wide).unflatten(2, (num_groups, -1)).unbind(-1)
    first_B1 = torch.arange(batch_size, device=x_BTND.device)[:, None] * num_blocks
    out = x_BTND.new_zeros(batch_size * num_blocks, num_groups, head_dim, dtype=wide)
    for weight_BTGR, index_BT in zip(weights, index_BTh.unbind(-1), strict=True):
        each_BTGD = (weight_BTGR[..., None] * x_BTGRD).sum(3)
        out = out.index_add(0, (index_BT + first_B1).flatten(), each_BTGD.flatten(0, 1))
    return out.unflatten(0, (batch_size, num_blocks)).to(table_BSGD.dtype)


Pair = tuple[Tensor, Tensor]
"""Keys and values."""


class FractalCache:
    """Keys and values of the last w tokens, [B, w, G, D], and of one block of each level, [B, 1, G, D].

    Level h has a block where bit h of the number of tokens behind the window is set: a binary counter.
    """

    def __init__(
        self, shape: tuple[int, int, int, int], num_levels: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        batch_size, self.size, num_groups, head_dim = shape
        block = (batch_size, 1, num_groups, head_dim)
        self.window = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(2)]
        self.blocks = [[torch.zeros(block, dtype=dtype, device=device) for _ in range(num_levels)] for _ in range(2)]

    def advance(self, k_BTGD: Tensor, v_BTGD: Tensor, start: int, pools: Pools) -> tuple[Pair, Pair, Tensor, Tensor]:
        """Take new tokens in behind the first `start`; what their queries may read.

        Keys and values of single tokens and of blocks, the level of each of them, and a mask [T, S].
        """
        num_new, device = k_BTGD.shape[1], k_BTGD.device
        before, after = max(start - self.size, 0), max(start + num_new - self.size, 0)
        near = [torch.cat([old, new], 1) for old, new in zip(self.window, (k_BTGD, v_BTGD), strict=True)]
        left_behind = slice(before - start + self.size, after - start + self.size)
        far = [
            self.grow(blocks, tokens[:, left_behind], before, after, pool)
            for blocks, tokens, pool in zip(self.blocks, near, pools, strict=True)
        ]
        self.window = [tokens[:, num_new:] for tokens in near]
        queries_T1 = torch.arange(start, start + num_new, device=device)[:, None]
        keys_S = torch.arange(start - self.size, start + num_new, device=device)
        readable = [(keys_S >= 0) & (keys_S <= queries_T1) & (keys_S > queries_T1 - self.size)]
        levels = [torch.zeros_like(keys_S)]
        behind_T1 = (queries_T1 - self.size + 1).clamp(min=0)
        for level, blocks in enumerate(far[0]):
            numbers_S = torch.arange(blocks.shape[1], device=device) + (before >> (level + 1) << 1)
            readable.append((behind_T1 >> level) - 1 == torch.where(numbers_S % 2 == 0, numbers_S, -2))
            levels.append(torch.full_like(numbers_S, level))
        k_far, v_far = (torch.cat([tokens[:, :0], *levels], 1) for tokens, levels in zip(near, far, strict=True))
        return (near[0], near[1]), (k_far, v_far), torch.cat(levels), torch.cat(readable, 1)

    @staticmethod
    def grow(blocks: list[Tensor], leaves_BTGD: Tensor, before: int, after: int, pool: Contraction) -> list[Tensor]:
        """Count on from `before` to `after` tokens; the blocks of each level that are there at any of these numbers.

        They begin at an even number of their level, so that neighbours are pairs.
        """
        found, fresh = [], leaves_BTGD
        for level, old in enumerate(blocks):
            here = torch.cat([old, fresh], 1) if before >> level & 1 else fresh
            found.append(here)
            if after >> level & 1:
                blocks[level] = here[:, -1:]
            num_pairs = here.shape[1] // 2
            fresh = pool(here[:, 0 : 2 * num_pairs : 2], here[:, 1 : 2 * num_pairs : 2])
        return found

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in [*self.window, *self.blocks[0], *self.blocks[1]])


Pools = tuple[Contraction, Contraction]
"""Of keys and of values."""
