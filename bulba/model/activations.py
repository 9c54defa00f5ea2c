"""Activation checkpointing: what a block stores for the backward pass, and what is computed a second time there.

none: everything is stored. full: only the input of each block; its forward runs again (Chen et al. 2016, arXiv
1604.06174). selective: the outputs of matrix products and of fused attention are stored, and the cheap element-wise
rest runs again (Korthikanti et al. 2022, arXiv 2205.05198). The gradients are the same bits.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

ActivationCheckpointing = Literal["none", "selective", "full"]

aten = torch.ops.aten
STORED_OPERATIONS = frozenset(
    {
        aten.mm.default,
        aten.addmm.default,
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_flash_attention_for_cpu.default,
        aten._scaled_dot_product_efficient_attention.default,
        aten._scaled_dot_product_cudnn_attention.default,
    }
)
# By its name, because it is there only once torch.nn.attention.varlen is imported, which takes seconds.
STORED_NAME = "torch_attn._varlen_attn.default"

# torch asks everyone who compiles `selective` whether the block writes in place; tests compare the gradients of ours.
logging.getLogger("torch._higher_order_ops.wrap").addFilter(lambda record: "in-place ops" not in record.getMessage())


def call_block(kind: ActivationCheckpointing, block: nn.Module, x_BTH: Tensor, context: Any, cache: Any) -> Tensor:
    """`block(x_BTH, context, cache)`, storing for the backward pass what `kind` says."""
    if kind == "none":
        return block(x_BTH, context, cache)
    if kind == "full":
        return checkpoint(block, x_BTH, context, cache, use_reentrant=False)
    contexts = partial(create_selective_checkpoint_contexts, store_products)
    return checkpoint(block, x_BTH, context, cache, use_reentrant=False, context_fn=contexts)


def store_products(context: Any, operation: Any, *arguments: Any, **options: Any) -> CheckpointPolicy:
    """The policy of `selective`."""
    if operation in STORED_OPERATIONS or str(operation) == STORED_NAME:
        return CheckpointPolicy.MUST_SAVE
    if operation is aten.bmm.default:
        left, right = arguments[:2]
        # The T x T scores of a written-out attention are larger than q and k, and are not worth their memory.
        if left.shape[1] * right.shape[2] <= left.shape[1] * left.shape[2]:
            return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE
