"""FLOPs of training, counted on the model itself: every matrix product of one row, forward, backward and loss.

A multiply-add is two operations. Attention counts all T x T pairs, the half behind the causal mask too, and what a
kernel computes twice (flash attention its scores) counts once, as in the model FLOPs utilisation of PaLM (Chowdhery et
al. 2022, arXiv 2204.02311, appendix B); so does what checkpointing and reversible layers compute again. Norms,
activations, softmax and the optimizer are left out, as there. A mixer that is made of other operations than products
says how many (`Mixer.other_flops`).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from bulba.attention.base import Mixer
from bulba.model.gpt import GPT
from bulba.stage.losses import token_loss_sum

Shape = tuple[int, ...]


def row_flops(model: GPT, seq_len: int) -> int:
    """FLOPs of one row of `seq_len` tokens in training; a micro-batch of B rows takes B times as many."""
    with FakeTensorMode():  # shapes without memory or work
        shadow = shadow_of(model)
        tokens_BT = torch.zeros(1, seq_len, dtype=torch.int64)
        documents_BT = torch.zeros(1, seq_len, dtype=torch.int32)
        with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
            hidden_BTH = shadow(tokens_BT, documents_BT, documents_BT)
            token_loss_sum(hidden_BTH, shadow.head, tokens_BT).backward()
    return counter.get_total_flops() + sum(mixer.other_flops(seq_len) for mixer in model.mixers())


def shadow_of(model: GPT) -> GPT:
    """The same modules over fake weights; every mixer with the kernel whose products count, where it has it."""
    fake = {id(p): nn.Parameter(torch.empty(p.shape, dtype=p.dtype), p.requires_grad) for p in model.parameters()}
    shadow = copy.deepcopy(model, fake)
    shadow.set_activation_checkpointing("none")
    shadow.set_rebuild(False)
    for mixer in shadow.mixers():
        mixer.register_forward_pre_hook(with_counted_kernel)
    shadow.kernel = "reference"  # has the model make the mask that it reads
    return shadow


def with_counted_kernel(mixer: Mixer, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A hook that has one mixer run another kernel than the rest."""
    x_BTH, context, *rest = inputs
    kernels = mixer.capabilities.kernels
    kernel = mixer.counted_kernel if mixer.counted_kernel in kernels else min(kernels)
    return x_BTH, replace(context, kernel=kernel), *rest


def add_product_flops(sum_shape: Shape, left_shape: Shape, right_shape: Shape, **_: object) -> int:
    """sum += left @ right."""
    return 2 * left_shape[0] * left_shape[1] * right_shape[1]


def attention_flops(q_shape: Shape, k_shape: Shape, v_shape: Shape, *_: object, **__: object) -> int:
    """Two products forward."""
    return sdpa_flop_count(q_shape, k_shape, v_shape)


def attention_backward_flops(
    grad_shape: Shape, q_shape: Shape, k_shape: Shape, v_shape: Shape, *_: object, **__: object
) -> int:
    """Five products backward, one of them the scores again."""
    return sdpa_backward_flop_count(grad_shape, q_shape, k_shape, v_shape)


# What torch's counter does not know (in every version that Bulba runs on).
FORMULAS = {
    torch.ops.aten.addmm_: add_product_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward_flops,
}
