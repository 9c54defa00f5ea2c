"""Attention over numbers of two levels on CUDA: Triton kernels of the formula in bulba/attention/surreal.py, O(T D).

Forward, for a tile of queries and one block of keys after another (online softmax, Dao et al. 2022, arXiv 2205.14135).
Held are, over the keys seen so far, m = max s0, l = sum p with p = exp(s0 - m), the mean c = sum p s1 / l, and
    a0 = sum p v0,   a1 = sum p v1 + p (s1 - c) v0,
so that y0 = a0 / l and y1 = a1 / l hold at every moment. With f = exp(m_old - m_new), a block moves them to
    l' = f l + sum p,   d = sum p (s1 - c) / l',   c' = c + d,
    a0' = f a0 + p v0,   a1' = f (a1 - d a0) + p v1 + p (s1 - c') v0.
A mean taken from s1 only at the end would be the difference of two large numbers where the scores have one in common.

Backward, with g the gradient of y, w0 = exp(s0 - m - log l) = A and w1 = w0 (s1 - c) made again, and
h0 = g0 . y0 + g1 . y1, h1 = g1 . y0:
    ds1 = w0 (g1 . v0 - h1),   ds0 = w0 (g0 . v0 + g1 . v1 - h0) + w1 (g1 . v0 - h1),
    dq0 = ds0 k0 + ds1 k1,  dq1 = ds1 k0,  dk0 = ds0 q0 + ds1 q1,  dk1 = ds1 q0,  dv0 = w0 g0 + w1 g1,  dv1 = w0 g1,
the q and k of scores being divided by sqrt(D). One kernel for tiles of queries and one for tiles of keys, which sums
over the query heads of its group too: no atomics, so the same inputs give the same bits.

Arithmetic is fp32; the products take operands of the dtype of the inputs, as torch's do. Those of fp32 are asked for as
"tf32x3", which adds up the products of the leading and the following 11 bits: the TF32 that Triton would take by itself
keeps the leading ones alone, and scores are exponents; "ieee" is unrolled into so many scalar operations that registers
overflow, and the compiler of Triton 3.9 fails on tiles of 16 x 64. Widths that are no power of two are filled up with
zeros. It does not do other numbers of levels than two.

Letters: Q queries and K keys of a tile, D channels of a level; x0 and x1 are the levels of a number.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton takes the annotations of kernels for types of its own.

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from bulba.kernels.documents import reading_bounds

LOWEST = tl.constexpr(-3.4028234663852886e38)
"""Where a running maximum starts: finite, for -inf - -inf is not a number."""


def surreal_attention(
    q_BNTL: Tensor, k_BGSL: Tensor, v_BGSL: Tensor, documents_BT: Tensor | None, slopes_N: Tensor | None
) -> Tensor:
    """As `surreal_attention` of bulba/attention/surreal.py with two levels: [B, N, T, 2 D], 2 x [B, G, S, 2 D] -> q's.

    float32, bfloat16 or float16. slopes_N get no gradient.
    """
    rows, heads, queries, _ = q_BNTL.shape
    first_BT, end_BS = reading_bounds(documents_BT, rows, queries, k_BGSL.shape[2], q_BNTL.device)
    slopes_N = torch.zeros(heads, device=q_BNTL.device) if slopes_N is None else slopes_N.float()
    # Products want one dtype, that of v, which is what autocast makes of them.
    q_BNTL, k_BGSL = q_BNTL.to(v_BGSL.dtype), k_BGSL.to(v_BGSL.dtype)
    y_BNTL: Tensor = TwoLevels.apply(q_BNTL, k_BGSL, v_BGSL, first_BT, end_BS, slopes_N)
    return y_BNTL


class TwoLevels(torch.autograd.Function):
    """Keeps the inputs, y, and of every query m + log l and c."""

    @staticmethod
    def forward(
        ctx: Any,
        q_BNTL: Tensor,
        k_BGSL: Tensor,
        v_BGSL: Tensor,
        first_BT: Tensor,
        end_BS: Tensor,
        slopes_N: Tensor,
    ) -> Tensor:
        q_BNTL, k_BGSL, v_BGSL = (x.contiguous() for x in (q_BNTL, k_BGSL, v_BGSL))
        y_BNTL = torch.empty_like(q_BNTL)
        logsum_BNT = torch.empty(q_BNTL.shape[:3], dtype=torch.float32, device=q_BNTL.device)
        mean_BNT = torch.empty_like(logsum_BNT)
        options = options_of(q_BNTL)
        forward_kernel[grid_of(q_BNTL, options)](
            q_BNTL, k_BGSL, v_BGSL, first_BT, slopes_N, y_BNTL, logsum_BNT, mean_BNT,
            *sizes_of(q_BNTL, k_BGSL), **options,
        )  # fmt: skip
        ctx.save_for_backward(q_BNTL, k_BGSL, v_BGSL, first_BT, end_BS, slopes_N, y_BNTL, logsum_BNT, mean_BNT)
        return y_BNTL

    @staticmethod
    def backward(ctx: Any, grad_BNTL: Tensor) -> tuple[Tensor | None, ...]:
        q_BNTL, k_BGSL, v_BGSL, first_BT, end_BS, slopes_N, y_BNTL, logsum_BNT, mean_BNT = ctx.saved_tensors
        grad_BNTL, width = grad_BNTL.contiguous(), q_BNTL.shape[-1] // 2
        both = grad_BNTL.float() * y_BNTL.float()
        along0_BNT = both.sum(-1)
        along1_BNT = (grad_BNTL[..., width:].float() * y_BNTL[..., :width].float()).sum(-1)
        sizes, options = sizes_of(q_BNTL, k_BGSL), options_of(q_BNTL)
        grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (q_BNTL, k_BGSL, v_BGSL))
        of_queries = grad_BNTL, logsum_BNT, mean_BNT, along0_BNT, along1_BNT
        queries_backward_kernel[grid_of(q_BNTL, options)](
            q_BNTL, k_BGSL, v_BGSL, first_BT, slopes_N, *of_queries, grad_q, *sizes, **options
        )
        keys_backward_kernel[grid_of(k_BGSL, options)](
            q_BNTL, k_BGSL, v_BGSL, first_BT, end_BS, slopes_N, *of_queries, grad_k, grad_v, *sizes, **options
        )
        return grad_q, grad_k, grad_v, None, None, None


def sizes_of(q_BNTL: Tensor, k_BGSL: Tensor) -> tuple[int, int, int, float]:
    """Query heads of a key head, queries, keys, and what products are multiplied by."""
    scale = 1 / math.sqrt(q_BNTL.shape[-1] // 2)
    return q_BNTL.shape[1] // k_BGSL.shape[1], q_BNTL.shape[2], k_BGSL.shape[2], scale


def options_of(q_BNTL: Tensor) -> dict[str, Any]:
    """What all kernels are told. The tiles of the widest of them, eight of BLOCK x WIDTH, fit into 99 KB of shared
    memory, the least that cards since compute capability 8.0 give to a block, and what is summed up into registers;
    not tuned on hardware yet.
    """
    head_dim, is_half = q_BNTL.shape[-1] // 2, q_BNTL.element_size() == 2
    width = max(1 << (head_dim - 1).bit_length(), 16)  # no product of Triton is narrower
    return {
        "HEAD_DIM": head_dim,
        "WIDTH": width,
        "BLOCK": (64 if width <= 32 else 32) if is_half else 16,
        "num_warps": 4 if width <= 64 else 8,
        "num_stages": 2 if is_half else 1,
    }


def grid_of(x_BNTL: Tensor, options: dict[str, Any]) -> tuple[int, int, int]:
    """A program for every tile of tokens, head and row."""
    rows, heads, tokens, _ = x_BNTL.shape
    return -(-tokens // options["BLOCK"]), heads, rows


@triton.jit
def load_number(base, token_X, num_tokens, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr):
    """Both levels of [tokens, 2 D] at token_X, those of the last one for what is beyond it; [X, WIDTH] each."""
    cell_D = tl.arange(0, WIDTH)
    there_XD = base + tl.minimum(token_X, num_tokens - 1)[:, None] * (2 * HEAD_DIM) + cell_D[None, :]
    exists_D = (cell_D < HEAD_DIM)[None, :]
    return tl.load(there_XD, exists_D, 0.0), tl.load(there_XD + HEAD_DIM, exists_D, 0.0)


@triton.jit
def store_number(base, token_X, num_tokens, x0_XD, x1_XD, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr):
    """The inverse of `load_number`."""
    cell_D = tl.arange(0, WIDTH)
    there_XD = base + token_X[:, None] * (2 * HEAD_DIM) + cell_D[None, :]
    exists_XD = (token_X < num_tokens)[:, None] & (cell_D < HEAD_DIM)[None, :]
    tl.store(there_XD, x0_XD, exists_XD)
    tl.store(there_XD + HEAD_DIM, x1_XD, exists_XD)


@triton.jit
def load_values(base, token_X, num_tokens):
    """A number of each query, that of the last one for what is beyond it."""
    return tl.load(base + tl.minimum(token_X, num_tokens - 1))


@triton.jit
def dot(a_XY, b_YZ, sum_XZ):
    """sum + a b, in fp32."""
    return tl.dot(a_XY, b_YZ, sum_XZ, input_precision="tf32x3")


@triton.jit
def scores(q0_QD, q1_QD, k0_KD, k1_KD, place_Q, first_Q, key_K, slope, scale, BLOCK: tl.constexpr):
    """s0, -inf where a key is not read, and s1; [Q, K] each."""
    zero_QK = tl.zeros([BLOCK, BLOCK], tl.float32)
    distance_QK = place_Q[:, None] - key_K[None, :]
    s0_QK = dot(q0_QD, tl.trans(k0_KD), zero_QK) * scale - slope * distance_QK.to(tl.float32)
    s1_QK = dot(q1_QD, tl.trans(k0_KD), dot(q0_QD, tl.trans(k1_KD), zero_QK)) * scale
    readable_QK = (distance_QK >= 0) & (key_K[None, :] >= first_Q[:, None])
    return tl.where(readable_QK, s0_QK, -float("inf")), s1_QK


@triton.jit
def forward_kernel(
    q_ptr, k_ptr, v_ptr, first_ptr, slopes_ptr, y_ptr, logsum_ptr, mean_ptr, group_size, num_queries, num_keys, scale,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """y of a tile of queries, their m + log l and c."""
    start, head, row = tl.program_id(0) * BLOCK, tl.program_id(1), tl.program_id(2)
    head_of_all = (row * tl.num_programs(1) + head).to(tl.int64)
    q_base = head_of_all * num_queries * (2 * HEAD_DIM)
    k_base = head_of_all // group_size * num_keys * (2 * HEAD_DIM)
    token_Q, before = start + tl.arange(0, BLOCK), num_keys - num_queries
    first_Q = load_values(first_ptr + row * num_queries, token_Q, num_queries)
    slope = tl.load(slopes_ptr + head)
    q0_QD, q1_QD = load_number(q_ptr + q_base, token_Q, num_queries, HEAD_DIM, WIDTH)
    most_Q = tl.full([BLOCK], LOWEST, tl.float32)
    total_Q = tl.zeros([BLOCK], tl.float32)
    mean_Q = tl.zeros([BLOCK], tl.float32)
    y0_QD = tl.zeros([BLOCK, WIDTH], tl.float32)
    y1_QD = tl.zeros([BLOCK, WIDTH], tl.float32)
    low = tl.load(first_ptr + row * num_queries + start)
    high = before + tl.minimum(start + BLOCK, num_queries)
    for block_start in range(low, high, BLOCK):
        key_K = block_start + tl.arange(0, BLOCK)
        k0_KD, k1_KD = load_number(k_ptr + k_base, key_K, num_keys, HEAD_DIM, WIDTH)
        v0_KD, v1_KD = load_number(v_ptr + k_base, key_K, num_keys, HEAD_DIM, WIDTH)
        s0_QK, s1_QK = scores(q0_QD, q1_QD, k0_KD, k1_KD, before + token_Q, first_Q, key_K, slope, scale, BLOCK)
        new_Q = tl.maximum(most_Q, tl.max(s0_QK, 1))
        p0_QK = tl.exp(s0_QK - new_Q[:, None])
        shrink_Q = tl.exp(most_Q - new_Q)
        total_Q = shrink_Q * total_Q + tl.sum(p0_QK, 1)
        # No key of this block and of those before may be one that the query reads.
        moved_Q = tl.sum(p0_QK * (s1_QK - mean_Q[:, None]), 1) / tl.where(total_Q == 0, 1.0, total_Q)
        mean_Q += moved_Q
        p1_QK = p0_QK * (s1_QK - mean_Q[:, None])
        weights0_QK, weights1_QK = p0_QK.to(v0_KD.dtype), p1_QK.to(v0_KD.dtype)
        y1_QD = shrink_Q[:, None] * (y1_QD - moved_Q[:, None] * y0_QD)
        y1_QD = dot(weights1_QK, v0_KD, dot(weights0_QK, v1_KD, y1_QD))
        y0_QD = dot(weights0_QK, v0_KD, shrink_Q[:, None] * y0_QD)
        most_Q = new_Q
    total_Q1 = total_Q[:, None]
    store_number(y_ptr + q_base, token_Q, num_queries, y0_QD / total_Q1, y1_QD / total_Q1, HEAD_DIM, WIDTH)
    there_Q = head_of_all * num_queries + token_Q
    tl.store(logsum_ptr + there_Q, most_Q + tl.log(total_Q), token_Q < num_queries)
    tl.store(mean_ptr + there_Q, mean_Q, token_Q < num_queries)


@triton.jit
def score_gradients(
    s0_QK, s1_QK, g0_QD, g1_QD, v0_KD, v1_KD, base, token_Q, num_queries,
    logsum_ptr, mean_ptr, along0_ptr, along1_ptr, BLOCK: tl.constexpr,
):  # fmt: skip
    """w0, w1, ds0 and ds1, [Q, K] each; base: of the numbers that belong to queries."""
    zero_QK = tl.zeros([BLOCK, BLOCK], tl.float32)
    logsum_Q = load_values(logsum_ptr + base, token_Q, num_queries)
    mean_Q = load_values(mean_ptr + base, token_Q, num_queries)
    along0_Q = load_values(along0_ptr + base, token_Q, num_queries)
    along1_Q = load_values(along1_ptr + base, token_Q, num_queries)
    w0_QK = tl.exp(s0_QK - logsum_Q[:, None])
    # The rows of the last tile that are beyond the last query are copies of it.
    w0_QK = tl.where((token_Q < num_queries)[:, None], w0_QK, 0.0)
    w1_QK = w0_QK * (s1_QK - mean_Q[:, None])
    grad0_QK = dot(g1_QD, tl.trans(v1_KD), dot(g0_QD, tl.trans(v0_KD), zero_QK)) - along0_Q[:, None]
    grad1_QK = dot(g1_QD, tl.trans(v0_KD), zero_QK) - along1_Q[:, None]
    return w0_QK, w1_QK, w0_QK * grad0_QK + w1_QK * grad1_QK, w0_QK * grad1_QK


@triton.jit
def queries_backward_kernel(
    q_ptr, k_ptr, v_ptr, first_ptr, slopes_ptr, grad_ptr, logsum_ptr, mean_ptr, along0_ptr, along1_ptr, grad_q_ptr,
    group_size, num_queries, num_keys, scale,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """dq of a tile of queries."""
    start, head, row = tl.program_id(0) * BLOCK, tl.program_id(1), tl.program_id(2)
    head_of_all = (row * tl.num_programs(1) + head).to(tl.int64)
    q_base = head_of_all * num_queries * (2 * HEAD_DIM)
    k_base = head_of_all // group_size * num_keys * (2 * HEAD_DIM)
    token_Q, before = start + tl.arange(0, BLOCK), num_keys - num_queries
    first_Q = load_values(first_ptr + row * num_queries, token_Q, num_queries)
    slope = tl.load(slopes_ptr + head)
    q0_QD, q1_QD = load_number(q_ptr + q_base, token_Q, num_queries, HEAD_DIM, WIDTH)
    g0_QD, g1_QD = load_number(grad_ptr + q_base, token_Q, num_queries, HEAD_DIM, WIDTH)
    grad0_QD = tl.zeros([BLOCK, WIDTH], tl.float32)
    grad1_QD = tl.zeros([BLOCK, WIDTH], tl.float32)
    low = tl.load(first_ptr + row * num_queries + start)
    high = before + tl.minimum(start + BLOCK, num_queries)
    for block_start in range(low, high, BLOCK):
        key_K = block_start + tl.arange(0, BLOCK)
        k0_KD, k1_KD = load_number(k_ptr + k_base, key_K, num_keys, HEAD_DIM, WIDTH)
        v0_KD, v1_KD = load_number(v_ptr + k_base, key_K, num_keys, HEAD_DIM, WIDTH)
        s0_QK, s1_QK = scores(q0_QD, q1_QD, k0_KD, k1_KD, before + token_Q, first_Q, key_K, slope, scale, BLOCK)
        _, _, ds0_QK, ds1_QK = score_gradients(
            s0_QK, s1_QK, g0_QD, g1_QD, v0_KD, v1_KD, head_of_all * num_queries, token_Q, num_queries,
            logsum_ptr, mean_ptr, along0_ptr, along1_ptr, BLOCK,
        )  # fmt: skip
        ds0_QK, ds1_QK = (ds0_QK * scale).to(k0_KD.dtype), (ds1_QK * scale).to(k0_KD.dtype)
        grad0_QD = dot(ds1_QK, k1_KD, dot(ds0_QK, k0_KD, grad0_QD))
        grad1_QD = dot(ds1_QK, k0_KD, grad1_QD)
    store_number(grad_q_ptr + q_base, token_Q, num_queries, grad0_QD, grad1_QD, HEAD_DIM, WIDTH)


@triton.jit
def keys_backward_kernel(
    q_ptr, k_ptr, v_ptr, first_ptr, end_ptr, slopes_ptr, grad_ptr, logsum_ptr, mean_ptr, along0_ptr, along1_ptr,
    grad_k_ptr, grad_v_ptr, group_size, num_queries, num_keys, scale,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """dk and dv of a tile of keys, from the queries of all heads of its group."""
    start, group, row = tl.program_id(0) * BLOCK, tl.program_id(1), tl.program_id(2)
    group_of_all = (row * tl.num_programs(1) + group).to(tl.int64)
    k_base = group_of_all * num_keys * (2 * HEAD_DIM)
    key_K, before = start + tl.arange(0, BLOCK), num_keys - num_queries
    k0_KD, k1_KD = load_number(k_ptr + k_base, key_K, num_keys, HEAD_DIM, WIDTH)
    v0_KD, v1_KD = load_number(v_ptr + k_base, key_K, num_keys, HEAD_DIM, WIDTH)
    grad_k0_KD = tl.zeros([BLOCK, WIDTH], tl.float32)
    grad_k1_KD = tl.zeros([BLOCK, WIDTH], tl.float32)
    grad_v0_KD = tl.zeros([BLOCK, WIDTH], tl.float32)
    grad_v1_KD = tl.zeros([BLOCK, WIDTH], tl.float32)
    low = tl.maximum(start - before, 0)
    high = tl.load(end_ptr + row * num_keys + tl.minimum(start + BLOCK, num_keys) - 1)
    for member in range(group_size):
        slope = tl.load(slopes_ptr + group * group_size + member)
        numbers_base = (group_of_all * group_size + member) * num_queries
        q_base = numbers_base * (2 * HEAD_DIM)
        for block_start in range(low, high, BLOCK):
            token_Q = block_start + tl.arange(0, BLOCK)
            first_Q = load_values(first_ptr + row * num_queries, token_Q, num_queries)
            q0_QD, q1_QD = load_number(q_ptr + q_base, token_Q, num_queries, HEAD_DIM, WIDTH)
            g0_QD, g1_QD = load_number(grad_ptr + q_base, token_Q, num_queries, HEAD_DIM, WIDTH)
            s0_QK, s1_QK = scores(q0_QD, q1_QD, k0_KD, k1_KD, before + token_Q, first_Q, key_K, slope, scale, BLOCK)
            w0_QK, w1_QK, ds0_QK, ds1_QK = score_gradients(
                s0_QK, s1_QK, g0_QD, g1_QD, v0_KD, v1_KD, numbers_base, token_Q, num_queries,
                logsum_ptr, mean_ptr, along0_ptr, along1_ptr, BLOCK,
            )  # fmt: skip
            w0_KQ, w1_KQ = tl.trans(w0_QK.to(g0_QD.dtype)), tl.trans(w1_QK.to(g0_QD.dtype))
            ds0_KQ = tl.trans((ds0_QK * scale).to(q0_QD.dtype))
            ds1_KQ = tl.trans((ds1_QK * scale).to(q0_QD.dtype))
            grad_v0_KD = dot(w1_KQ, g1_QD, dot(w0_KQ, g0_QD, grad_v0_KD))
            grad_v1_KD = dot(w0_KQ, g1_QD, grad_v1_KD)
            grad_k0_KD = dot(ds1_KQ, q1_QD, dot(ds0_KQ, q0_QD, grad_k0_KD))
            grad_k1_KD = dot(ds1_KQ, q0_QD, grad_k1_KD)
    store_number(grad_k_ptr + k_base, key_K, num_keys, grad_k0_KD, grad_k1_KD, HEAD_DIM, WIDTH)
    store_number(grad_v_ptr + k_base, key_K, num_keys, grad_v0_KD, grad_v1_KD, HEAD_DIM, WIDTH)
