"""What a storage type does to a model's arithmetic, measured in Bulba.

llama.cpp multiplies a matrix of type f16, bf16 or q8_0 by activations rounded to the same type. Doing both roundings
in Bulba shows how far the logits of this very model may move for that reason alone; a fault of the file moves them
further. q8_0 is 32 values with one scale: x ~ round(x / s) * s, s = max|x| / 127 (ggml-quants.c).
It does not imitate the order of llama.cpp's sums.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bulba.export.gguf import Q8_BLOCK, GgufType
from bulba.model.gpt import GPT


def round_to(x: Tensor, type: GgufType) -> Tensor:
    """fp32 [..., width] -> the nearest values that `type` holds; q8_0 falls back to f16 as the file does."""
    if type == "f32":
        return x
    if type == "bf16":
        return x.bfloat16().float()
    if type == "f16" or x.shape[-1] % Q8_BLOCK:
        return x.half().float()
    blocks = x.unflatten(-1, (-1, Q8_BLOCK))
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    levels = torch.where(scale > 0, blocks / scale, 0.0).round()
    # The scale itself is stored as f16.
    return (levels * scale.half().float()).flatten(-2)


def round_model(model: GPT, type: GgufType) -> None:
    """Round every matrix of `model` in place, and from now on what they are multiplied by."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data = round_to(module.weight.data, type)
        if isinstance(module, nn.Linear) and module is not model.lm_head:
            module.register_forward_pre_hook(lambda _, inputs: (round_to(inputs[0], type),))


def rounded_logits(model: GPT, hidden: Tensor, type: GgufType) -> Tensor:
    """The logits of a model that `round_model` has rounded, [..., H] -> [..., V]."""
    return model.logits(round_to(hidden, type))
