"""Next-token cross-entropy and the numbers derived from it, as pure functions.

loss = sum over targets of -log softmax(W h)[target], in nats. The B x T x V logits are never held: rows are
taken in chunks, and the training loss computes its gradients in the same pass (as Liger Kernel does, Hsu et
al. 2024, arXiv 2410.10989). Under autocast the products run in its dtype, and everything after them in fp32.

It does not use torch's linear_cross_entropy, which returns the loss in the dtype of its inputs (some percent
off in bfloat16) and does not follow autocast. It has no label smoothing and no second derivative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bulba.errors import DataError, UnsupportedError
from bulba.model.head import Head, soft_cap

IGNORE_INDEX = -100
# fp32 logits of one chunk: about what the caches of a CPU hold, and enough rows to keep an accelerator busy.
CHUNK_BYTES_CPU, CHUNK_BYTES_ACCELERATOR = 16 * 2**20, 128 * 2**20
# A chunk is a multiple of this many rows: products with fewer are slow on both.
CHUNK_ROWS = 128


def token_loss_sum(hidden_BTH: Tensor, head: Head, targets_BT: Tensor, chunk: ChunkLoss | None = None) -> Tensor:
    """Sum over the targets that are not -100 of -log p(target), in nats; a scalar, at least fp32.

    Gradients flow to `hidden_BTH` and the weight of `head`. chunk: `chunk_loss`, perhaps compiled.
    """
    if not torch.is_grad_enabled():
        return per_token_losses(hidden_BTH, head, targets_BT).sum()
    loss: Tensor = ChunkedCrossEntropy.apply(
        hidden_BTH.flatten(0, 1), head.weight_VH, targets_BT.flatten(), chunk or chunk_loss, head.logit_cap
    )
    return loss


@torch.no_grad()
def per_token_losses(hidden_BTH: Tensor, head: Head, targets_BT: Tensor) -> Tensor:
    """-log p of every target in nats, [B, T], at least fp32, 0 where the target is -100; no gradients."""
    dtype = product_dtype(hidden_BTH)
    hidden_NH, targets_N = hidden_BTH.flatten(0, 1), targets_BT.flatten()
    head = replace(head, weight_VH=head.weight_VH.to(dtype))
    losses_N = torch.empty_like(targets_N, dtype=torch.promote_types(dtype, torch.float32))
    with torch.autocast(hidden_NH.device.type, enabled=False):
        for rows in chunks(hidden_NH, len(head.weight_VH)):
            logits = head.logits(hidden_NH[rows].to(dtype), losses_N.dtype)
            losses_N[rows] = F.cross_entropy(logits, targets_N[rows], ignore_index=IGNORE_INDEX, reduction="none")
    return losses_N.view_as(targets_BT)


ChunkLoss = Callable[[Tensor, Tensor, Tensor, bool, float | None], tuple[Tensor, Tensor, Tensor | None]]


def chunk_loss(
    hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, train_head: bool, logit_cap: float | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The summed loss of a chunk, and its gradients by the hidden states and by the weight, in their dtype."""
    valid_N1 = (targets_N != IGNORE_INDEX)[:, None]
    targets_N1 = targets_N[:, None].where(valid_N1, 0)
    # A hidden state of 0 keeps an ignored row out of the gradient of the head.
    hidden_NH = hidden_NH.where(valid_N1, 0)
    logits_NV = hidden_NH @ weight_VH.T
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    if logit_cap is not None:
        logits_NV = soft_cap(logits_NV, logit_cap)
    log_p = F.log_softmax(logits_NV, -1)
    loss = -log_p.gather(1, targets_N1).where(valid_N1, 0).sum()
    minus_one = log_p.new_full((1, 1), -1.0).expand_as(targets_N1)
    grad_NV = log_p.exp_().scatter_add_(1, targets_N1, minus_one)
    if logit_cap is not None:  # times the slope of the cap, 1 - tanh^2
        grad_NV = grad_NV * (1 - (logits_NV / logit_cap).square())
    grad_NV = grad_NV.to(hidden_NH.dtype)
    grad_VH = grad_NV.T @ hidden_NH if train_head else None
    return loss, (grad_NV @ weight_VH).where(valid_N1, 0), grad_VH


class ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and gradients chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any, hidden_NH: Tensor, head_VH: Tensor, targets_N: Tensor, chunk: ChunkLoss, logit_cap: float | None
    ) -> Tensor:
        dtype = product_dtype(hidden_NH)
        wide = torch.promote_types(dtype, torch.float32)
        loss = torch.zeros((), dtype=wide, device=hidden_NH.device)
        grad_NH = torch.empty_like(hidden_NH)
        train_head = ctx.needs_input_grad[1]
        # fp32 although the products are not: it sums over all chunks.
        grad_VH = torch.zeros_like(head_VH, dtype=wide) if train_head else None
        weight_VH = head_VH.detach().to(dtype)
        with torch.autocast(hidden_NH.device.type, enabled=False):
            for rows in chunks(hidden_NH, len(head_VH), larger=chunk is not chunk_loss):
                part_NH = hidden_NH[rows].detach().to(dtype)
                nats, grad_hidden, grad_weight = chunk(part_NH, weight_VH, targets_N[rows], train_head, logit_cap)
                loss += nats
                grad_NH[rows] = grad_hidden
                if grad_VH is not None and grad_weight is not None:
                    grad_VH += grad_weight
        ctx.save_for_backward(grad_NH, None if grad_VH is None else grad_VH.to(head_VH.dtype))
        return loss

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        # Autograd takes the gradients below for constants, so a second derivative would be silently wrong.
        if torch.is_grad_enabled():
            raise UnsupportedError(
                "the chunked training loss has no second derivative: take cross_entropy of GPT.logits for it."
            )
        grad_NH, grad_VH = ctx.saved_tensors
        return grad_NH * grad_loss, None if grad_VH is None else grad_VH * grad_loss, None, None, None


def product_dtype(hidden: Tensor) -> torch.dtype:
    """The dtype in which a Linear layer would multiply here: that of autocast, else the tensor's own."""
    if torch.is_autocast_enabled(hidden.device.type):
        return torch.get_autocast_dtype(hidden.device.type)
    return hidden.dtype


def chunks(hidden_NH: Tensor, vocab_size: int, larger: bool = False) -> Iterator[slice]:
    """Ranges of rows whose fp32 logits take about CHUNK_BYTES; 4 times as many for a chunk that is never so wide."""
    num_bytes = CHUNK_BYTES_CPU if hidden_NH.device.type == "cpu" else CHUNK_BYTES_ACCELERATOR
    num_rows = max(1, (4 if larger else 1) * num_bytes // (4 * vocab_size * CHUNK_ROWS)) * CHUNK_ROWS
    for start in range(0, len(hidden_NH), num_rows):
        yield slice(start, start + num_rows)


def bits_per_byte(total_nats: float, total_bytes: int) -> float:
    """Loss in bits per byte of the text itself, which makes models with different tokenizers comparable."""
    if total_bytes <= 0:
        raise DataError("bits per byte need at least one byte of text: the data is empty, give more of it.")
    return total_nats / (math.log(2) * total_bytes)


def perplexity(mean_nats: float) -> float:
    """exp(mean loss per token); infinite where that is beyond a float, as in a run that diverged."""
    try:
        return math.exp(mean_nats)
    except OverflowError:
        return math.inf
