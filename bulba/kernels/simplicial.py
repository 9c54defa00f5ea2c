"""2-simplicial attention on CUDA: Triton kernels of the formula in bulba/attention/simplicial.py, memory O(T D).

Forward: a program takes a tile of queries i. It goes through the blocks of first keys j that the windows of the tile
reach, and for each through the distances u to the second key, k = i - u: so all rows of a tile have a second key, and
z_iu = q_i conj(k'_{i-u}) meets the block in one matrix product. The softmax over pairs is kept up to date as in Dao et
al. 2022, arXiv 2205.14135: the greatest score, the sum, and y_i = sum_u v'_{i-u} * (sum_j A_iju v_j). Of the weights
only logsum_i = log sum_jk exp(s_ijk) leaves the kernel.

Backward: A_ijk = exp(s_ijk - logsum_i) is made again and, with do_iu = dy_i * v'_{i-u},
    ds_ijk = A_ijk (do_iu . v_j - dy_i . y_i),  dz_iu = sum_j ds_ijk k_j / sqrt(D),
    dq_i = sum_u dz_iu k'_{i-u},  dk'_k = sum_u q_{k+u} conj(dz_{k+u,u}),  dv'_k = sum_u dy_{k+u} * sum_j A v_j,
    dk_j = sum_iu ds z_iu / sqrt(D),  dv_j = sum_iu A do_iu
in three kernels, for tiles of queries, of first keys and of second keys. Each adds up what it alone writes, over the
query heads of a group too: no atomics, so the same inputs give the same bits.

Arithmetic is fp32; the products take operands of the dtype of the inputs, as torch's do. In fp32 they are asked for as
"ieee": the TF32 that Triton would take by itself keeps 10 bits, and scores are exponents. Widths that are no power of
two are filled up with zeros.

Letters: I queries, J first keys and K second keys of a tile, C = D / 2 complex numbers (re and im); a place is where a
token stands, counted from the first query: keys of a cache have negative ones.
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

LOWEST = tl.constexpr(-3.4028234663852886e38)
"""Where a greatest score starts: finite, for -inf - -inf is not a number."""
LENGTHS = ["num_tokens", "before1", "before2"]
"""Kernels are not made anew for lengths that are multiples of 16, or 1: text and caches have all lengths."""


def simplicial_attention(
    q_BNTD: Tensor,
    keys_values: tuple[Tensor, Tensor, Tensor, Tensor],
    windows: tuple[int, int],
    documents_BT: Tensor | None = None,
    slopes_N: Tensor | None = None,
) -> Tensor:
    """As `reference_attention` of bulba/attention/simplicial.py; slopes_N get no gradient.

    One of float32, bfloat16 and float16. Documents are those of all keys: S = S' = T then.
    """
    assert documents_BT is None or q_BNTD.shape[2] == keys_values[0].shape[2] == keys_values[2].shape[2]
    out_BNTD: Tensor = PairAttention.apply(q_BNTD, *keys_values, documents_BT, slopes_N, windows)
    return out_BNTD


class PairAttention(torch.autograd.Function):
    """Keeps the inputs, the output and logsum_BNT."""

    @staticmethod
    def forward(
        ctx: Any,
        q_BNTD: Tensor,
        k_BGSD: Tensor,
        v_BGSD: Tensor,
        k2_BGSD: Tensor,
        v2_BGSD: Tensor,
        documents_BT: Tensor | None,
        slopes_N: Tensor | None,
        windows: tuple[int, int],
    ) -> Tensor:
        inputs = [x.contiguous() for x in (q_BNTD, k_BGSD, v_BGSD, k2_BGSD, v2_BGSD)]
        documents_BT = None if documents_BT is None else documents_BT.contiguous()
        slopes_N = None if slopes_N is None else slopes_N.float().contiguous()
        out_BNTD = torch.empty_like(inputs[0])
        logsum_BNT = torch.empty(q_BNTD.shape[:3], dtype=torch.float32, device=q_BNTD.device)
        numbers, sizes = launch_numbers(q_BNTD, k_BGSD, k2_BGSD, windows), tile_sizes(q_BNTD)
        grid = (q_BNTD.shape[0] * q_BNTD.shape[1], triton.cdiv(q_BNTD.shape[2], sizes["BLOCK_I"]))
        forward_kernel[grid](*inputs, documents_BT, slopes_N, out_BNTD, logsum_BNT, **numbers, **sizes)
        ctx.windows = windows
        ctx.save_for_backward(*inputs, documents_BT, slopes_N, out_BNTD, logsum_BNT)
        return out_BNTD

    @staticmethod
    def backward(ctx: Any, grad_BNTD: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, documents_BT, slopes_N, out_BNTD, logsum_BNT = ctx.saved_tensors
        q_BNTD, k_BGSD, _, k2_BGSD, _ = inputs
        grad_BNTD = grad_BNTD.contiguous()
        along_BNT = (grad_BNTD.float() * out_BNTD.float()).sum(-1)
        given = (*inputs, documents_BT, slopes_N, grad_BNTD, logsum_BNT, along_BNT)
        grad_q, grad_k, grad_v, grad_k2, grad_v2 = (torch.empty_like(x) for x in inputs)
        numbers, sizes = launch_numbers(q_BNTD, k_BGSD, k2_BGSD, ctx.windows), tile_sizes(q_BNTD)
        rows, tile_i, tile_j = q_BNTD.shape[0], sizes["BLOCK_I"], sizes["BLOCK_J"]
        grid = (rows * q_BNTD.shape[1], triton.cdiv(q_BNTD.shape[2], tile_i))
        query_gradient_kernel[grid](*given, grad_q, **numbers, **sizes)
        grid = (rows * k_BGSD.shape[1], triton.cdiv(k_BGSD.shape[2], tile_j))
        first_gradient_kernel[grid](*given, grad_k, grad_v, **numbers, **sizes)
        grid = (rows * k_BGSD.shape[1], triton.cdiv(k2_BGSD.shape[2], tile_i))
        second_gradient_kernel[grid](*given, grad_k2, grad_v2, **numbers, **sizes)
        return grad_q, grad_k, grad_v, grad_k2, grad_v2, None, None, None


def launch_numbers(q_BNTD: Tensor, k_BGSD: Tensor, k2_BGSD: Tensor, windows: tuple[int, int]) -> dict[str, Any]:
    """The arguments that every kernel takes; before1, before2: keys of the cache ahead of the first query."""
    num_tokens = q_BNTD.shape[2]
    return {
        "num_heads": q_BNTD.shape[1],
        "num_groups": k_BGSD.shape[1],
        "num_tokens": num_tokens,
        "before1": k_BGSD.shape[2] - num_tokens,
        "before2": k2_BGSD.shape[2] - num_tokens,
        "window1": windows[0],
        "window2": windows[1],
        "scale": 1 / math.sqrt(q_BNTD.shape[3]),
    }


def tile_sizes(q_BNTD: Tensor) -> dict[str, int]:
    """How large tiles are and how many threads work on them, by width and dtype; not tuned on hardware yet.

    A tile of I queries meets the w1 + I - 1 first keys that its windows reach, so few queries waste few products; 16 is
    the least that matrix units take. The rest is chosen for registers: compiled for compute capability 8.6, hardly one
    is spilled. In fp32 there are no matrix units to feed ahead of time, and more threads for the same work.
    """
    width = q_BNTD.shape[3]
    is_fp32, is_wide = q_BNTD.dtype == torch.float32, width > 128
    return {
        "WIDTH": width,
        "BLOCK_C": max(triton.next_power_of_2(width // 2), 16),
        "BLOCK_D": max(triton.next_power_of_2(width), 16),
        "BLOCK_I": 16,
        "BLOCK_J": 16 if is_wide else 32,
        "num_warps": 8 if is_fp32 or is_wide else 4,
        "num_stages": 1 if is_fp32 else 2,
    }


@triton.jit(do_not_specialize=LENGTHS)
def forward_kernel(
    q, k, v, k2, v2, documents, slopes, out, logsum,
    num_heads, num_groups, num_tokens, before1, before2, window1, window2, scale,
    WIDTH: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_J: tl.constexpr,
):  # fmt: skip
    """y and logsum of BLOCK_I queries of one head."""
    head = tl.program_id(0).to(tl.int64)
    kv_head = head // (num_heads // num_groups)
    q, out = first_query(q, head, 0, num_tokens, WIDTH), first_query(out, head, 0, num_tokens, WIDTH)
    k, v = first_query(k, kv_head, before1, num_tokens, WIDTH), first_query(v, kv_head, before1, num_tokens, WIDTH)
    k2, v2 = first_query(k2, kv_head, before2, num_tokens, WIDTH), first_query(v2, kv_head, before2, num_tokens, WIDTH)
    if documents is not None:
        documents += head // num_heads * num_tokens
    slope = load_slope(slopes, head % num_heads)
    first_i = tl.program_id(1) * BLOCK_I
    stop_i = tl.minimum(first_i + BLOCK_I, num_tokens)
    i_I = first_i + tl.arange(0, BLOCK_I)
    q_re, q_im = load_complex(q, i_I, 0, num_tokens, WIDTH, BLOCK_C)
    most_I = tl.full([BLOCK_I], LOWEST, tl.float32)
    sum_I = tl.zeros([BLOCK_I], tl.float32)
    y_ID = tl.zeros([BLOCK_I, BLOCK_D], tl.float32)
    for first_j in range(tl.maximum(first_i - window1 + 1, -before1), stop_i, BLOCK_J):
        j_J = first_j + tl.arange(0, BLOCK_J)
        k_re, k_im = load_complex(k, j_J, before1, num_tokens, WIDTH, BLOCK_C)
        v_JD = load_tokens(v, j_J, before1, num_tokens, WIDTH, WIDTH, BLOCK_D)
        back_IJ = i_I[:, None] - j_J[None, :]
        reads_IJ = reads_first(documents, i_I[:, None], j_J[None, :], num_tokens, window1)
        for u in range(0, tl.minimum(window2, stop_i + before2)):
            k2_re, k2_im = load_complex(k2, i_I - u, before2, num_tokens, WIDTH, BLOCK_C)
            v2_ID = load_tokens(v2, i_I - u, before2, num_tokens, WIDTH, WIDTH, BLOCK_D)
            z_re, z_im = times_conj(q_re, q_im, k2_re, k2_im)
            reads_I = reads_second(documents, i_I, i_I - u, num_tokens, before2)
            scores_IJ = pair_scores(
                z_re, z_im, tl.trans(k_re), tl.trans(k_im), scale, slope, back_IJ + u, reads_IJ & reads_I[:, None]
            )
            more_I = tl.maximum(most_I, tl.max(scores_IJ, 1))
            weights_IJ = tl.exp(scores_IJ - more_I[:, None])
            decay_I = tl.exp(most_I - more_I)
            sum_I = sum_I * decay_I + tl.sum(weights_IJ, 1)
            y_ID = y_ID * decay_I[:, None] + product(weights_IJ, v_JD) * v2_ID.to(tl.float32)
            most_I = more_I
    store_tokens(out, i_I, 0, num_tokens, y_ID / sum_I[:, None], WIDTH, WIDTH, BLOCK_D)
    tl.store(logsum + head * num_tokens + i_I, most_I + tl.log(sum_I), i_I < num_tokens)


@triton.jit(do_not_specialize=LENGTHS)
def query_gradient_kernel(
    q, k, v, k2, v2, documents, slopes, grad, logsum, along, grad_q,
    num_heads, num_groups, num_tokens, before1, before2, window1, window2, scale,
    WIDTH: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_J: tl.constexpr,
):  # fmt: skip
    """dq of BLOCK_I queries of one head, along the way of the forward kernel."""
    head = tl.program_id(0).to(tl.int64)
    kv_head = head // (num_heads // num_groups)
    q, grad = first_query(q, head, 0, num_tokens, WIDTH), first_query(grad, head, 0, num_tokens, WIDTH)
    k, v = first_query(k, kv_head, before1, num_tokens, WIDTH), first_query(v, kv_head, before1, num_tokens, WIDTH)
    k2, v2 = first_query(k2, kv_head, before2, num_tokens, WIDTH), first_query(v2, kv_head, before2, num_tokens, WIDTH)
    if documents is not None:
        documents += head // num_heads * num_tokens
    slope = load_slope(slopes, head % num_heads)
    first_i = tl.program_id(1) * BLOCK_I
    stop_i = tl.minimum(first_i + BLOCK_I, num_tokens)
    i_I = first_i + tl.arange(0, BLOCK_I)
    q_re, q_im = load_complex(q, i_I, 0, num_tokens, WIDTH, BLOCK_C)
    grad_ID = load_tokens(grad, i_I, 0, num_tokens, WIDTH, WIDTH, BLOCK_D).to(tl.float32)
    logsum_I, along_I = load_sums(logsum, along, head, i_I, num_tokens)
    dq_re = tl.zeros([BLOCK_I, BLOCK_C], tl.float32)
    dq_im = tl.zeros([BLOCK_I, BLOCK_C], tl.float32)
    for first_j in range(tl.maximum(first_i - window1 + 1, -before1), stop_i, BLOCK_J):
        j_J = first_j + tl.arange(0, BLOCK_J)
        k_re, k_im = load_complex(k, j_J, before1, num_tokens, WIDTH, BLOCK_C)
        v_JD = load_tokens(v, j_J, before1, num_tokens, WIDTH, WIDTH, BLOCK_D)
        back_IJ = i_I[:, None] - j_J[None, :]
        reads_IJ = reads_first(documents, i_I[:, None], j_J[None, :], num_tokens, window1)
        for u in range(0, tl.minimum(window2, stop_i + before2)):
            k2_re, k2_im = load_complex(k2, i_I - u, before2, num_tokens, WIDTH, BLOCK_C)
            v2_ID = load_tokens(v2, i_I - u, before2, num_tokens, WIDTH, WIDTH, BLOCK_D)
            z_re, z_im = times_conj(q_re, q_im, k2_re, k2_im)
            reads_I = reads_second(documents, i_I, i_I - u, num_tokens, before2)
            grad_first_ID = grad_ID * v2_ID.to(tl.float32)
            scores_IJ = pair_scores(
                z_re, z_im, tl.trans(k_re), tl.trans(k_im), scale, slope, back_IJ + u, reads_IJ & reads_I[:, None]
            )
            weights_IJ = tl.exp(scores_IJ - logsum_I[:, None])
            grad_weights_IJ = product(grad_first_ID, tl.trans(v_JD))
            grad_scores_IJ = weights_IJ * (grad_weights_IJ - along_I[:, None]) * scale
            dz_re, dz_im = product(grad_scores_IJ, k_re), product(grad_scores_IJ, k_im)
            more_re, more_im = times(dz_re, dz_im, k2_re, k2_im)
            dq_re += more_re
            dq_im += more_im
    grad_q = first_query(grad_q, head, 0, num_tokens, WIDTH)
    store_complex(grad_q, i_I, 0, num_tokens, dq_re, dq_im, WIDTH, BLOCK_C)


@triton.jit(do_not_specialize=LENGTHS)
def first_gradient_kernel(
    q, k, v, k2, v2, documents, slopes, grad, logsum, along, grad_k, grad_v,
    num_heads, num_groups, num_tokens, before1, before2, window1, window2, scale,
    WIDTH: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_J: tl.constexpr,
):  # fmt: skip
    """dk and dv of BLOCK_J first keys of one key head: from all queries whose windows reach them."""
    kv_head = tl.program_id(0).to(tl.int64)
    k, v = first_query(k, kv_head, before1, num_tokens, WIDTH), first_query(v, kv_head, before1, num_tokens, WIDTH)
    k2, v2 = first_query(k2, kv_head, before2, num_tokens, WIDTH), first_query(v2, kv_head, before2, num_tokens, WIDTH)
    if documents is not None:
        documents += kv_head // num_groups * num_tokens
    first_j = tl.program_id(1) * BLOCK_J - before1
    j_J = first_j + tl.arange(0, BLOCK_J)
    k_re, k_im = load_complex(k, j_J, before1, num_tokens, WIDTH, BLOCK_C)
    v_JD = load_tokens(v, j_J, before1, num_tokens, WIDTH, WIDTH, BLOCK_D)
    dk_re = tl.zeros([BLOCK_J, BLOCK_C], tl.float32)
    dk_im = tl.zeros([BLOCK_J, BLOCK_C], tl.float32)
    dv_JD = tl.zeros([BLOCK_J, BLOCK_D], tl.float32)
    per_group = num_heads // num_groups
    for head in range(kv_head * per_group, kv_head * per_group + per_group):
        q_head, grad_head = first_query(q, head, 0, num_tokens, WIDTH), first_query(grad, head, 0, num_tokens, WIDTH)
        slope = load_slope(slopes, head % num_heads)
        for first_i in range(tl.maximum(first_j, 0), tl.minimum(first_j + BLOCK_J - 1 + window1, num_tokens), BLOCK_I):
            i_I = first_i + tl.arange(0, BLOCK_I)
            q_re, q_im = load_complex(q_head, i_I, 0, num_tokens, WIDTH, BLOCK_C)
            grad_ID = load_tokens(grad_head, i_I, 0, num_tokens, WIDTH, WIDTH, BLOCK_D).to(tl.float32)
            logsum_I, along_I = load_sums(logsum, along, head, i_I, num_tokens)
            back_JI = i_I[None, :] - j_J[:, None]
            reads_JI = reads_first(documents, i_I[None, :], j_J[:, None], num_tokens, window1)
            for u in range(0, tl.minimum(window2, tl.minimum(first_i + BLOCK_I, num_tokens) + before2)):
                k2_re, k2_im = load_complex(k2, i_I - u, before2, num_tokens, WIDTH, BLOCK_C)
                v2_ID = load_tokens(v2, i_I - u, before2, num_tokens, WIDTH, WIDTH, BLOCK_D)
                z_re, z_im = times_conj(q_re, q_im, k2_re, k2_im)
                z_re, z_im = z_re.to(k_re.dtype), z_im.to(k_re.dtype)
                grad_first_ID = (grad_ID * v2_ID.to(tl.float32)).to(v_JD.dtype)
                reads_I = reads_second(documents, i_I, i_I - u, num_tokens, before2)
                scores_JI = pair_scores(
                    k_re, k_im, tl.trans(z_re), tl.trans(z_im), scale, slope, back_JI + u, reads_JI & reads_I[None, :]
                )
                weights_JI = tl.exp(scores_JI - logsum_I[None, :])
                dv_JD += product(weights_JI, grad_first_ID)
                grad_weights_JI = product(v_JD, tl.trans(grad_first_ID))
                grad_scores_JI = weights_JI * (grad_weights_JI - along_I[None, :]) * scale
                dk_re += product(grad_scores_JI, z_re)
                dk_im += product(grad_scores_JI, z_im)
    grad_k = first_query(grad_k, kv_head, before1, num_tokens, WIDTH)
    store_complex(grad_k, j_J, before1, num_tokens, dk_re, dk_im, WIDTH, BLOCK_C)
    grad_v = first_query(grad_v, kv_head, before1, num_tokens, WIDTH)
    store_tokens(grad_v, j_J, before1, num_tokens, dv_JD, WIDTH, WIDTH, BLOCK_D)


@triton.jit(do_not_specialize=LENGTHS)
def second_gradient_kernel(
    q, k, v, k2, v2, documents, slopes, grad, logsum, along, grad_k2, grad_v2,
    num_heads, num_groups, num_tokens, before1, before2, window1, window2, scale,
    WIDTH: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_J: tl.constexpr,
):  # fmt: skip
    """dk' and dv' of BLOCK_I second keys of one key head: key k from the queries k + u."""
    kv_head = tl.program_id(0).to(tl.int64)
    k, v = first_query(k, kv_head, before1, num_tokens, WIDTH), first_query(v, kv_head, before1, num_tokens, WIDTH)
    k2, v2 = first_query(k2, kv_head, before2, num_tokens, WIDTH), first_query(v2, kv_head, before2, num_tokens, WIDTH)
    if documents is not None:
        documents += kv_head // num_groups * num_tokens
    first_k = tl.program_id(1) * BLOCK_I - before2
    k_K = first_k + tl.arange(0, BLOCK_I)
    k2_re, k2_im = load_complex(k2, k_K, before2, num_tokens, WIDTH, BLOCK_C)
    v2_KD = load_tokens(v2, k_K, before2, num_tokens, WIDTH, WIDTH, BLOCK_D).to(tl.float32)
    dk2_re = tl.zeros([BLOCK_I, BLOCK_C], tl.float32)
    dk2_im = tl.zeros([BLOCK_I, BLOCK_C], tl.float32)
    dv2_KD = tl.zeros([BLOCK_I, BLOCK_D], tl.float32)
    per_group = num_heads // num_groups
    for head in range(kv_head * per_group, kv_head * per_group + per_group):
        q_head, grad_head = first_query(q, head, 0, num_tokens, WIDTH), first_query(grad, head, 0, num_tokens, WIDTH)
        slope = load_slope(slopes, head % num_heads)
        # Only distances at which some key of the tile has a query.
        for u in range(tl.maximum(1 - first_k - BLOCK_I, 0), tl.minimum(window2, num_tokens - first_k)):
            first_i = first_k + u
            i_K = k_K + u
            q_re, q_im = load_complex(q_head, i_K, 0, num_tokens, WIDTH, BLOCK_C)
            grad_KD = load_tokens(grad_head, i_K, 0, num_tokens, WIDTH, WIDTH, BLOCK_D).to(tl.float32)
            logsum_K, along_K = load_sums(logsum, along, head, i_K, num_tokens)
            z_re, z_im = times_conj(q_re, q_im, k2_re, k2_im)
            reads_K = reads_second(documents, i_K, k_K, num_tokens, before2)
            stop_j = tl.minimum(first_i + BLOCK_I, num_tokens)
            for first_j in range(tl.maximum(first_i - window1 + 1, -before1), stop_j, BLOCK_J):
                j_J = first_j + tl.arange(0, BLOCK_J)
                k_re, k_im = load_complex(k, j_J, before1, num_tokens, WIDTH, BLOCK_C)
                v_JD = load_tokens(v, j_J, before1, num_tokens, WIDTH, WIDTH, BLOCK_D)
                back_KJ = i_K[:, None] - j_J[None, :]
                reads_KJ = reads_first(documents, i_K[:, None], j_J[None, :], num_tokens, window1)
                scores_KJ = pair_scores(
                    z_re, z_im, tl.trans(k_re), tl.trans(k_im), scale, slope, back_KJ + u, reads_KJ & reads_K[:, None]
                )
                weights_KJ = tl.exp(scores_KJ - logsum_K[:, None])
                dv2_KD += grad_KD * product(weights_KJ, v_JD)
                grad_weights_KJ = product(grad_KD * v2_KD, tl.trans(v_JD))
                grad_scores_KJ = weights_KJ * (grad_weights_KJ - along_K[:, None]) * scale
                dz_re, dz_im = product(grad_scores_KJ, k_re), product(grad_scores_KJ, k_im)
                more_re, more_im = times_conj(q_re, q_im, dz_re, dz_im)
                dk2_re += more_re
                dk2_im += more_im
    grad_k2 = first_query(grad_k2, kv_head, before2, num_tokens, WIDTH)
    store_complex(grad_k2, k_K, before2, num_tokens, dk2_re, dk2_im, WIDTH, BLOCK_C)
    grad_v2 = first_query(grad_v2, kv_head, before2, num_tokens, WIDTH)
    store_tokens(grad_v2, k_K, before2, num_tokens, dv2_KD, WIDTH, WIDTH, BLOCK_D)


@triton.jit
def first_query(base, head, before, num_tokens, WIDTH: tl.constexpr):
    """Where place 0 of a head is in [heads, before + num_tokens, WIDTH]."""
    return base + (head * (before + num_tokens) + before) * WIDTH


@triton.jit
def load_tokens(base, place_X, before, num_tokens, WIDTH: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    """The first COUNT of WIDTH columns of tokens whose place 0 is at base; 0 where there are none; [X, BLOCK]."""
    column_Y = tl.arange(0, BLOCK)
    exists_X = (place_X >= -before) & (place_X < num_tokens)
    there_XY = base + place_X[:, None] * WIDTH + column_Y[None, :]
    return tl.load(there_XY, exists_X[:, None] & (column_Y < COUNT)[None, :], 0.0)


@triton.jit
def store_tokens(
    base, place_X, before, num_tokens, x_XY, WIDTH: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr
):
    """The inverse of `load_tokens`."""
    column_Y = tl.arange(0, BLOCK)
    exists_X = (place_X >= -before) & (place_X < num_tokens)
    there_XY = base + place_X[:, None] * WIDTH + column_Y[None, :]
    tl.store(there_XY, x_XY, exists_X[:, None] & (column_Y < COUNT)[None, :])


@triton.jit
def load_complex(base, place_X, before, num_tokens, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Tokens as real and imaginary parts, [X, BLOCK] each."""
    re_XC = load_tokens(base, place_X, before, num_tokens, WIDTH, WIDTH // 2, BLOCK)
    return re_XC, load_tokens(base + WIDTH // 2, place_X, before, num_tokens, WIDTH, WIDTH // 2, BLOCK)


@triton.jit
def store_complex(base, place_X, before, num_tokens, re_XC, im_XC, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """The inverse of `load_complex`."""
    store_tokens(base, place_X, before, num_tokens, re_XC, WIDTH, WIDTH // 2, BLOCK)
    store_tokens(base + WIDTH // 2, place_X, before, num_tokens, im_XC, WIDTH, WIDTH // 2, BLOCK)


@triton.jit
def load_sums(logsum, along, head, i_I, num_tokens):
    """logsum and dy . y of queries; without a query infinity, by which every weight is 0, and 0."""
    exists_I = (i_I >= 0) & (i_I < num_tokens)
    there_I = head * num_tokens + i_I
    return tl.load(logsum + there_I, exists_I, float("inf")), tl.load(along + there_I, exists_I, 0.0)


@triton.jit
def load_slope(slopes, head):
    """The ALiBi slope of a head, 0 where there are none."""
    return 0.0 if slopes is None else tl.load(slopes + head)


@triton.jit
def reads_first(documents, i, j, num_tokens, window1):
    """Whether queries i read the first keys j, where both exist; i and j broadcast."""
    reads = (i >= j) & (i - j < window1)
    if documents is not None:
        own, others = tl.load(documents + i, i < num_tokens, 0), tl.load(documents + j, j < num_tokens, 0)
        reads = reads & (own == others)
    return reads


@triton.jit
def reads_second(documents, i_I, k_I, num_tokens, before2):
    """Whether queries i read the second keys k, which are in their windows; documents come without a cache."""
    reads_I = k_I >= -before2
    if documents is not None:
        there_I = reads_I & (i_I < num_tokens)
        own_I, others_I = tl.load(documents + i_I, there_I, 0), tl.load(documents + k_I, there_I, 0)
        reads_I = reads_I & (own_I == others_I)
    return reads_I


@triton.jit
def pair_scores(a_re, a_im, b_re, b_im, scale, slope, back, reads):
    """The real product of complex numbers, [X, C] and [C, Y], times scale, less slope * back; -inf where unread."""
    return tl.where(reads, (product(a_re, b_re) + product(a_im, b_im)) * scale - slope * back, float("-inf"))


@triton.jit
def times(a_re, a_im, b_re, b_im):
    """a b, in fp32."""
    a_re, a_im, b_re, b_im = a_re.to(tl.float32), a_im.to(tl.float32), b_re.to(tl.float32), b_im.to(tl.float32)
    return a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re


@triton.jit
def times_conj(a_re, a_im, b_re, b_im):
    """a conj(b), in fp32."""
    return times(a_re, a_im, b_re, -b_im.to(tl.float32))


@triton.jit
def product(a_XY, b_YZ):
    """The matrix product, in fp32, with a in the dtype of b."""
    return tl.dot(a_XY.to(b_YZ.dtype), b_YZ, input_precision="ieee")
