"""Exact softmax attention in blocks of queries, for CPUs: forward and backward in memory linear in the tokens.

For a block of queries i the scores s_ij = q_i . k_j / sqrt(D) are made for the keys up to the end of the block alone;
softmax(s) v follows at once and only m_i = max_j s_ij and l_i = sum_j exp(s_ij - m_i) are kept. The backward pass makes
the scores again: p_ij = exp(s_ij - m_i) / l_i, dv_j = sum_i p_ij do_i, ds_ij = p_ij (do_i . v_j - do_i . o_i), from
which dq and dk follow (Dao et al. 2022, arXiv 2205.14135, without its blocks of keys). All that is not a product is
left to torch.compile to fuse; the products run in the dtype of their inputs, everything else in fp32 at least.

torch's own kernel for CPUs is the other choice. On two cores of an AVX-512 machine this one, compiled, takes 0.3 of its
time in bf16 and 0.6 in fp32, forward and backward; not compiled it is slower.

It does not do caches (queries and keys of other lengths), windows or dropout.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

QUERY_BLOCK = 128
"""Queries at a time: products large enough to run at full speed, and half a block of keys too many on average."""


def blocked_attention(
    q_BNTD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, documents_BT: Tensor | None, slopes_N: Tensor | None = None
) -> Tensor:
    """Causal attention inside each document: [B, N, T, D], 2 x [B, G, T, D] -> [B, N, T, D].

    documents_BT: the document of every token of a packed row; None means one document. slopes_N: of ALiBi, constants:
    they get no gradient.
    """
    out_BNTD: Tensor = BlockedAttention.apply(q_BNTD, k_BGTD, v_BGTD, documents_BT, slopes_N)
    return out_BNTD


class BlockedAttention(torch.autograd.Function):
    """Letters: W = N / G * tokens of the block (the queries of one key head), S keys up to the end of the block."""

    @staticmethod
    def forward(
        ctx: Any,
        q_BNTD: Tensor,
        k_BGTD: Tensor,
        v_BGTD: Tensor,
        documents_BT: Tensor | None,
        slopes_N: Tensor | None,
    ) -> Tensor:
        outs, sums = [], []
        for start, end in blocks(q_BNTD.shape[2]):
            scores_BGWS = block_scores(q_BNTD, k_BGTD, documents_BT, slopes_N, start, end)
            most_BGW1 = scores_BGWS.amax(-1, keepdim=True)
            weights_BGWS = (scores_BGWS - most_BGW1).exp()
            sum_BGW1 = weights_BGWS.sum(-1, keepdim=True)
            weights_BGWS = (weights_BGWS / sum_BGW1).to(v_BGTD.dtype)
            outs.append(ungroup(weights_BGWS @ v_BGTD[:, :, :end], q_BNTD.shape[1]))
            sums += [most_BGW1, sum_BGW1]
        out_BNTD = torch.cat(outs, 2)
        ctx.save_for_backward(q_BNTD, k_BGTD, v_BGTD, documents_BT, slopes_N, out_BNTD, *sums)
        return out_BNTD

    @staticmethod
    def backward(ctx: Any, grad_BNTD: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q_BNTD, k_BGTD, v_BGTD, documents_BT, slopes_N, out_BNTD, *sums = ctx.saved_tensors
        num_heads, num_groups = q_BNTD.shape[1], k_BGTD.shape[1]
        wide = sums[0].dtype
        along_BNT = (grad_BNTD.to(wide) * out_BNTD.to(wide)).sum(-1, keepdim=True)
        grad_q, grad_k = [], torch.zeros_like(k_BGTD, dtype=wide)
        grad_v = torch.zeros_like(grad_k)
        for (start, end), most_BGW1, sum_BGW1 in zip(blocks(q_BNTD.shape[2]), sums[::2], sums[1::2], strict=True):
            scores_BGWS = block_scores(q_BNTD, k_BGTD, documents_BT, slopes_N, start, end)
            weights_BGWS = (scores_BGWS - most_BGW1).exp() / sum_BGW1
            grad_BGWD = group(grad_BNTD[:, :, start:end], num_groups)
            grad_weights = (grad_BGWD @ v_BGTD[:, :, :end].transpose(-2, -1)).to(wide)
            grad_scores = weights_BGWS * (grad_weights - group(along_BNT[:, :, start:end], num_groups))
            grad_scores = (grad_scores / math.sqrt(q_BNTD.shape[-1])).to(q_BNTD.dtype)
            grad_q.append(ungroup(grad_scores @ k_BGTD[:, :, :end], num_heads))
            grad_k[:, :, :end] += grad_scores.transpose(-2, -1) @ group(q_BNTD[:, :, start:end], num_groups)
            grad_v[:, :, :end] += weights_BGWS.to(v_BGTD.dtype).transpose(-2, -1) @ grad_BGWD
        return torch.cat(grad_q, 2), grad_k.to(k_BGTD.dtype), grad_v.to(v_BGTD.dtype), None, None


def blocks(num_tokens: int) -> list[tuple[int, int]]:
    """First and last (excluded) query of every block."""
    return [(start, min(start + QUERY_BLOCK, num_tokens)) for start in range(0, num_tokens, QUERY_BLOCK)]


def block_scores(
    q_BNTD: Tensor, k_BGTD: Tensor, documents_BT: Tensor | None, slopes_N: Tensor | None, start: int, end: int
) -> Tensor:
    """Scores of the queries start .. end with the keys 0 .. end, -inf where a key may not be read; [B, G, W, S]."""
    num_groups, device = k_BGTD.shape[1], q_BNTD.device
    products = group(q_BNTD[:, :, start:end], num_groups) @ k_BGTD[:, :, :end].transpose(-2, -1)
    scores = products.to(torch.promote_types(products.dtype, torch.float32)) / math.sqrt(q_BNTD.shape[-1])
    places = torch.arange(end, device=device)
    readable = places[start:end, None] >= places
    if documents_BT is not None:
        readable = readable & (documents_BT[:, None, None, start:end, None] == documents_BT[:, None, None, None, :end])
    scores = scores.unflatten(2, (q_BNTD.shape[1] // num_groups, end - start))
    if slopes_N is not None:
        distance_TS = places[start:end, None] - places
        scores = scores - slopes_N.to(scores.dtype).view(num_groups, -1, 1, 1) * distance_TS
    return scores.masked_fill(~readable, -torch.inf).flatten(2, 3)


def group(x_BNTD: Tensor, num_groups: int) -> Tensor:
    """[B, N, T, D] -> [B, G, N / G * T, D]: the queries that share a key head, one after another."""
    return x_BNTD.unflatten(1, (num_groups, -1)).flatten(2, 3)


def ungroup(x_BGWD: Tensor, num_heads: int) -> Tensor:
    """The inverse of `group`."""
    return x_BGWD.unflatten(2, (num_heads // x_BGWD.shape[1], -1)).flatten(1, 2)
