"""Max-plus attention on CUDA: Triton kernels of the formula in bulba/attention/tropical.py, memory O(T D).

Maxima have no matrix units, so all is elementwise in fp32, and what counts is how little else is done. A program holds
a tile of queries (or keys), every channel of them, in the registers of one warp, and goes through the keys (queries)
one by one: a row k_j makes the scores of the tile by a reduction over the channels, most of it inside each thread, and
s_j + v_j moves what is held. Rows alone pass through shared memory, and no warp waits for another.

- temperature 0: y and the chosen key of every y_ic are held; of equal ones the first stays.
- temperature tau > 0: y = m + tau log l with the running maximum m and l = sum_j exp((s_ij + v_jc - m_c) / tau).

Backward, with g the gradient of y and w_ijc the share of key j in y_ic (1 of the chosen key, else 0; or
exp((s_ij + v_jc - y_ic) / tau)): dv_jc = sum_i w_ijc g_ic and ds_ij = sum_c w_ijc g_ic, which goes to the channels that
are the extremes of s_ij, the first of equal ones. One kernel for tiles of queries and one for tiles of keys, which sums
over the query heads of its group too: no atomics, so the same inputs give the same bits. At temperature 0 a query reads
the D keys alone that it chose, and keys pass over the queries that chose none of the tile.

q, k and v may differ in dtype. Widths that are no power of two are filled up with copies of channel 0, which change
neither a maximum nor its first place. A NaN in v, or in all channels of a token of q or k, comes out as NaN; one in a
few channels of q or k is passed over.

Letters: W tokens of a tile; tensors whose tokens come last (q_BNDT) are read by tiles, the others by rows.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton takes the annotations of kernels for types of its own.

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from bulba.kernels.documents import reading_bounds

TILE = 1024
"""Numbers of a tile, 32 in each thread of the warp: six tiles fit into its registers. Not tuned on hardware yet."""
LOWEST = tl.constexpr(-3.4028234663852886e38)
"""Where a running maximum starts at tau > 0: finite, for -inf - -inf is not a number."""


def tropical_attention(
    q_BNTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    hilbert: bool,
    temperature: float,
    documents_BT: Tensor | None,
    slopes_N: Tensor | None,
) -> Tensor:
    """As `tropical_attention` of bulba/attention/tropical.py: [B, N, T, D], 2 x [B, G, S, D] -> [B, N, T, D].

    float32, bfloat16 or float16. hilbert: that score, else maxplus. slopes_N get no gradient.
    """
    rows, heads, queries, _ = q_BNTD.shape
    first_BT, end_BS = reading_bounds(documents_BT, rows, queries, k_BGSD.shape[2], q_BNTD.device)
    slopes_N = torch.zeros(heads, device=q_BNTD.device) if slopes_N is None else slopes_N.float()
    y_BNTD: Tensor = MaxPlus.apply(q_BNTD, k_BGSD, v_BGSD, hilbert, temperature, first_BT, end_BS, slopes_N)
    return y_BNTD


class MaxPlus(torch.autograd.Function):
    """Keeps the inputs and, for every output, the chosen key (int32), or y in fp32 at a temperature above 0."""

    @staticmethod
    def forward(
        ctx: Any,
        q_BNTD: Tensor,
        k_BGSD: Tensor,
        v_BGSD: Tensor,
        hilbert: bool,
        temperature: float,
        first_BT: Tensor,
        end_BS: Tensor,
        slopes_N: Tensor,
    ) -> Tensor:
        smooth = temperature > 0
        q_BNDT, k_BGSD, v_BGSD = tokens_last(q_BNTD), k_BGSD.contiguous(), v_BGSD.contiguous()
        y_BNDT = torch.empty_like(q_BNDT, dtype=torch.float32 if smooth else v_BGSD.dtype)
        chosen_BNDT = torch.empty_like(q_BNDT, dtype=torch.int32) if not smooth else y_BNDT
        sizes = sizes_of(q_BNTD, k_BGSD)
        options = options_of(q_BNTD.shape[-1], hilbert, temperature)
        forward_kernel[grid_of(q_BNTD, options)](
            q_BNDT, k_BGSD, v_BGSD, first_BT, slopes_N, y_BNDT, chosen_BNDT, *sizes, **options
        )
        ctx.rule = hilbert, temperature
        ctx.save_for_backward(q_BNTD, k_BGSD, v_BGSD, first_BT, end_BS, slopes_N, chosen_BNDT)
        return y_BNDT.transpose(-2, -1).to(v_BGSD.dtype)

    @staticmethod
    def backward(ctx: Any, grad_BNTD: Tensor) -> tuple[Tensor | None, ...]:
        q_BNTD, k_BGSD, v_BGSD, first_BT, end_BS, slopes_N, kept_BNDT = ctx.saved_tensors
        hilbert, temperature = ctx.rule
        sizes = sizes_of(q_BNTD, k_BGSD)
        options = options_of(q_BNTD.shape[-1], hilbert, temperature)
        grad_q_BNDT = torch.empty_like(kept_BNDT, dtype=q_BNTD.dtype)
        queries_backward_kernel[grid_of(q_BNTD, options)](
            tokens_last(q_BNTD), k_BGSD, v_BGSD, first_BT, slopes_N, kept_BNDT, tokens_last(grad_BNTD), grad_q_BNDT,
            *sizes, **options,
        )  # fmt: skip
        k_BGDS, v_BGDS = tokens_last(k_BGSD), tokens_last(v_BGSD)
        grad_k_BGDS, grad_v_BGDS = torch.empty_like(k_BGDS), torch.empty_like(v_BGDS)
        keys_backward_kernel[grid_of(k_BGSD, options)](
            q_BNTD.contiguous(), k_BGDS, v_BGDS, first_BT, end_BS, slopes_N, tokens_last(kept_BNDT),
            grad_BNTD.contiguous(), grad_k_BGDS, grad_v_BGDS, *sizes, **options,
        )  # fmt: skip
        grads = (x.transpose(-2, -1) for x in (grad_q_BNDT, grad_k_BGDS, grad_v_BGDS))
        return *grads, None, None, None, None, None


def tokens_last(x: Tensor) -> Tensor:
    """The last two axes exchanged, in memory."""
    return x.transpose(-2, -1).contiguous()


def sizes_of(q_BNTD: Tensor, k_BGSD: Tensor) -> tuple[int, int, int]:
    """Query heads of a key head, queries and keys."""
    return q_BNTD.shape[1] // k_BGSD.shape[1], q_BNTD.shape[2], k_BGSD.shape[2]


def options_of(head_dim: int, hilbert: bool, temperature: float) -> dict[str, Any]:
    """What all kernels are told; one warp, for then no reduction leaves it."""
    width = 1 << (head_dim - 1).bit_length()
    return {
        "inverse": 1 / temperature if temperature else 0.0,
        "HEAD_DIM": head_dim,
        "WIDTH": width,
        "BLOCK": min(max(TILE // width, 8), 64),
        "HILBERT": hilbert,
        "SMOOTH": temperature > 0,
        "num_warps": 1,
    }


def grid_of(x_BNTD: Tensor, options: dict[str, Any]) -> tuple[int, int, int]:
    """A program for every tile of tokens, head and row."""
    rows, heads, tokens, _ = x_BNTD.shape
    return -(-tokens // options["BLOCK"]), heads, rows


@triton.jit
def channels(HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr):
    """The places of a tile along its channels, and the channel that each holds: 0 again beyond the last."""
    cell_D = tl.arange(0, WIDTH)
    return cell_D, tl.where(cell_D < HEAD_DIM, cell_D, 0)


@triton.jit
def load_tile(base, channel_D, token_W, num_tokens):
    """Of [D, tokens], those at token_W, or the last one for what is beyond; fp32."""
    return tl.load(base + channel_D[:, None] * num_tokens + tl.minimum(token_W, num_tokens - 1)[None, :]).to(tl.float32)


@triton.jit
def store_tile(base, cell_D, token_W, num_tokens, x_DW, HEAD_DIM: tl.constexpr):
    """The inverse of `load_tile`."""
    exists_DW = (cell_D < HEAD_DIM)[:, None] & (token_W < num_tokens)[None, :]
    tl.store(base + cell_D[:, None] * num_tokens + token_W[None, :], x_DW, exists_DW)


@triton.jit
def load_row(base, channel_D, token, HEAD_DIM: tl.constexpr):
    """All channels of a token of [tokens, D], fp32."""
    return tl.load(base + token * HEAD_DIM + channel_D).to(tl.float32)


@triton.jit
def pairs(q, k, HILBERT: tl.constexpr):
    """What the extremes over the channels are taken of."""
    if HILBERT:
        return q - k
    else:
        return q + k


@triton.jit
def scores(pairs_DW, distance_W, slope, readable_W, HILBERT: tl.constexpr):
    """The scores of a tile with one token, -inf where it is not read."""
    score_W = tl.max(pairs_DW, 0)
    if HILBERT:
        score_W = tl.min(pairs_DW, 0) - score_W
    return tl.where(readable_W, score_W - slope * distance_W.to(tl.float32), -float("inf"))


@triton.jit
def at_first(pairs_DW, extreme_W, cell_D, WIDTH: tl.constexpr):
    """True at the first channel which is the extreme."""
    place_W = tl.min(tl.where(pairs_DW == extreme_W[None, :], cell_D[:, None], WIDTH), 0)
    return cell_D[:, None] == place_W[None, :]


@triton.jit
def to_channels(grad_W, pairs_DW, cell_D, of_query: tl.constexpr, HILBERT: tl.constexpr, WIDTH: tl.constexpr):
    """What channels of q (of_query) or of k get where the scores get grad_W; [D, W].

    hilbert: s = min (q - k) - max (q - k).
    """
    grad_1W = grad_W[None, :]
    at_most_DW = at_first(pairs_DW, tl.max(pairs_DW, 0), cell_D, WIDTH)
    if HILBERT:
        at_least_DW = at_first(pairs_DW, tl.min(pairs_DW, 0), cell_D, WIDTH)
        grad_DW = tl.where(at_least_DW, grad_1W, 0.0) - tl.where(at_most_DW, grad_1W, 0.0)
        return grad_DW if of_query else -grad_DW
    else:
        return tl.where(at_most_DW, grad_1W, 0.0)


@triton.jit
def forward_kernel(
    q_ptr, k_ptr, v_ptr, first_ptr, slopes_ptr, y_ptr, chosen_ptr, group_size, num_queries, num_keys, inverse,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, HILBERT: tl.constexpr, SMOOTH: tl.constexpr,
):  # fmt: skip
    """y of a tile of queries, and the chosen keys unless SMOOTH; inverse: 1 / tau."""
    start, head, row = tl.program_id(0) * BLOCK, tl.program_id(1), tl.program_id(2)
    head_of_all = (row * tl.num_programs(1) + head).to(tl.int64)
    q_base = head_of_all * num_queries * HEAD_DIM
    k_base = head_of_all // group_size * num_keys * HEAD_DIM
    cell_D, channel_D = channels(HEAD_DIM, WIDTH)
    token_W = start + tl.arange(0, BLOCK)
    before = num_keys - num_queries
    first_W = tl.load(first_ptr + row * num_queries + tl.minimum(token_W, num_queries - 1))
    slope = tl.load(slopes_ptr + head)
    q_DW = load_tile(q_ptr + q_base, channel_D, token_W, num_queries)
    most_DW = tl.full([WIDTH, BLOCK], LOWEST if SMOOTH else -float("inf"), tl.float32)
    total_DW = tl.zeros([WIDTH, BLOCK], tl.float32)
    chosen_DW = tl.zeros([WIDTH, BLOCK], tl.int32)
    low = tl.load(first_ptr + row * num_queries + start)
    high = before + tl.minimum(start + BLOCK, num_queries)
    for key in range(low, high):
        pairs_DW = pairs(q_DW, load_row(k_ptr + k_base, channel_D, key, HEAD_DIM)[:, None], HILBERT)
        distance_W = before + token_W - key
        score_W = scores(pairs_DW, distance_W, slope, (distance_W >= 0) & (key >= first_W), HILBERT)
        sum_DW = score_W[None, :] + load_row(v_ptr + k_base, channel_D, key, HEAD_DIM)[:, None]
        if SMOOTH:
            gap_DW = (sum_DW - most_DW) * inverse
            shrunk_DW = tl.exp(-tl.abs(gap_DW))
            total_DW = tl.where(gap_DW > 0, total_DW * shrunk_DW + 1, total_DW + shrunk_DW)
            most_DW = tl.maximum(most_DW, sum_DW)
        else:
            chosen_DW = tl.where(sum_DW > most_DW, key, chosen_DW)
            most_DW = tl.maximum(most_DW, sum_DW, propagate_nan=tl.PropagateNan.ALL)
    if SMOOTH:
        most_DW += tl.log(total_DW) / inverse
    else:
        store_tile(chosen_ptr + q_base, cell_D, token_W, num_queries, chosen_DW, HEAD_DIM)
    store_tile(y_ptr + q_base, cell_D, token_W, num_queries, most_DW, HEAD_DIM)


@triton.jit
def queries_backward_kernel(
    q_ptr, k_ptr, v_ptr, first_ptr, slopes_ptr, kept_ptr, grad_ptr, grad_q_ptr, group_size, num_queries, num_keys,
    inverse,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, HILBERT: tl.constexpr, SMOOTH: tl.constexpr,
):  # fmt: skip
    """dq of a tile of queries; kept: y if SMOOTH, else the chosen keys."""
    start, head, row = tl.program_id(0) * BLOCK, tl.program_id(1), tl.program_id(2)
    head_of_all = (row * tl.num_programs(1) + head).to(tl.int64)
    q_base = head_of_all * num_queries * HEAD_DIM
    k_base = head_of_all // group_size * num_keys * HEAD_DIM
    cell_D, channel_D = channels(HEAD_DIM, WIDTH)
    token_W = start + tl.arange(0, BLOCK)
    there_W = tl.minimum(token_W, num_queries - 1)
    q_DW = load_tile(q_ptr + q_base, channel_D, token_W, num_queries)
    grad_q_DW = tl.zeros([WIDTH, BLOCK], tl.float32)
    if SMOOTH:
        before = num_keys - num_queries
        first_W = tl.load(first_ptr + row * num_queries + there_W)
        slope = tl.load(slopes_ptr + head)
        y_DW = load_tile(kept_ptr + q_base, channel_D, token_W, num_queries)
        grad_DW = load_tile(grad_ptr + q_base, channel_D, token_W, num_queries)
        grad_DW = tl.where((cell_D < HEAD_DIM)[:, None], grad_DW, 0.0)
        low = tl.load(first_ptr + row * num_queries + start)
        high = before + tl.minimum(start + BLOCK, num_queries)
        for key in range(low, high):
            pairs_DW = pairs(q_DW, load_row(k_ptr + k_base, channel_D, key, HEAD_DIM)[:, None], HILBERT)
            distance_W = before + token_W - key
            score_W = scores(pairs_DW, distance_W, slope, (distance_W >= 0) & (key >= first_W), HILBERT)
            sum_DW = score_W[None, :] + load_row(v_ptr + k_base, channel_D, key, HEAD_DIM)[:, None]
            grad_W = tl.sum(tl.exp((sum_DW - y_DW) * inverse) * grad_DW, 0)
            grad_q_DW += to_channels(grad_W, pairs_DW, cell_D, True, HILBERT, WIDTH)
    else:
        for channel in range(HEAD_DIM):
            key_W = tl.load(kept_ptr + q_base + channel * num_queries + there_W)
            grad_W = tl.load(grad_ptr + q_base + channel * num_queries + there_W).to(tl.float32)
            k_DW = tl.load(k_ptr + k_base + key_W[None, :] * HEAD_DIM + channel_D[:, None]).to(tl.float32)
            grad_q_DW += to_channels(grad_W, pairs(q_DW, k_DW, HILBERT), cell_D, True, HILBERT, WIDTH)
    store_tile(grad_q_ptr + q_base, cell_D, token_W, num_queries, grad_q_DW, HEAD_DIM)


@triton.jit
def keys_backward_kernel(
    q_ptr, k_ptr, v_ptr, first_ptr, end_ptr, slopes_ptr, kept_ptr, grad_ptr, grad_k_ptr, grad_v_ptr, group_size,
    num_queries, num_keys, inverse,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, HILBERT: tl.constexpr, SMOOTH: tl.constexpr,
):  # fmt: skip
    """dk and dv of a tile of keys, from the queries of all heads of its group."""
    start, group, row = tl.program_id(0) * BLOCK, tl.program_id(1), tl.program_id(2)
    group_of_all = (row * tl.num_programs(1) + group).to(tl.int64)
    k_base = group_of_all * num_keys * HEAD_DIM
    cell_D, channel_D = channels(HEAD_DIM, WIDTH)
    token_W = start + tl.arange(0, BLOCK)
    before = num_keys - num_queries
    k_DW = load_tile(k_ptr + k_base, channel_D, token_W, num_keys)
    v_DW = load_tile(v_ptr + k_base, channel_D, token_W, num_keys)
    grad_k_DW = tl.zeros([WIDTH, BLOCK], tl.float32)
    grad_v_DW = tl.zeros([WIDTH, BLOCK], tl.float32)
    low = tl.maximum(start - before, 0)
    high = tl.load(end_ptr + row * num_keys + tl.minimum(start + BLOCK, num_keys) - 1)
    for member in range(group_size):
        slope = tl.load(slopes_ptr + group * group_size + member)
        q_base = (group_of_all * group_size + member) * num_queries * HEAD_DIM
        for query in range(low, high):
            q_D1 = load_row(q_ptr + q_base, channel_D, query, HEAD_DIM)[:, None]
            grad_D = tl.load(grad_ptr + q_base + query * HEAD_DIM + cell_D, cell_D < HEAD_DIM, 0.0).to(tl.float32)
            kept_D = tl.load(kept_ptr + q_base + query * HEAD_DIM + channel_D)
            if SMOOTH:
                first = tl.load(first_ptr + row * num_queries + query)
                pairs_DW = pairs(q_D1, k_DW, HILBERT)
                distance_W = before + query - token_W
                score_W = scores(pairs_DW, distance_W, slope, (distance_W >= 0) & (token_W >= first), HILBERT)
                shared_DW = tl.exp((score_W[None, :] + v_DW - kept_D[:, None]) * inverse) * grad_D[:, None]
                grad_v_DW += shared_DW
                grad_k_DW += to_channels(tl.sum(shared_DW, 0), pairs_DW, cell_D, False, HILBERT, WIDTH)
            else:
                hits_D = (kept_D >= start) & (kept_D < start + BLOCK)
                if tl.max(hits_D.to(tl.int32), 0) > 0:
                    shared_DW = tl.where(kept_D[:, None] == token_W[None, :], grad_D[:, None], 0.0)
                    grad_v_DW += shared_DW
                    pairs_DW = pairs(q_D1, k_DW, HILBERT)
                    grad_k_DW += to_channels(tl.sum(shared_DW, 0), pairs_DW, cell_D, False, HILBERT, WIDTH)
    store_tile(grad_k_ptr + k_base, cell_D, token_W, num_keys, grad_k_DW, HEAD_DIM)
    store_tile(grad_v_ptr + k_base, cell_D, token_W, num_keys, grad_v_DW, HEAD_DIM)
