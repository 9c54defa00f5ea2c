"""What a storage type does to a model's arithmetic, measured in Bulba.

llama.cpp multiplies a matrix of type f16 or bf16 by activations rounded to the same type, and one of a block type by
activations rounded to 8 bits: 32 values, for K-quants 256, with one scale, x ~ round(x / s) * s, s = max|x| / 127
(ggml-quants.c). Doing both roundings in Bulba shows how far the logits of this very model may move for that reason
alone; a fault of the file moves them further. It does not imitate the order of llama.cpp's sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bulba.attention.hypercomplex import HypercomplexMixer
from bulba.attention.standard import StandardAttention
from bulba.checkpoint import load_model
from bulba.export.architecture import GgufTensor, Weight
from bulba.export.types import (
    BLOCK,
    K_BLOCK,
    K_TYPES,
    SINGLE_TYPES,
    GgufType,
    Storage,
    TensorType,
    dequantize,
    quantize,
    stored_type,
)
from bulba.model.gpt import GPT


def reference_model(checkpoint: Path) -> GPT:
    """The model of a checkpoint in fp32, as a file can hold it: hypercomplex layers written out, logits not capped."""
    model = load_model(checkpoint).float()
    model.logit_cap = None
    for layer in model.layers:
        mixer: Any = layer.self_attn
        if isinstance(mixer, HypercomplexMixer):
            layer.self_attn = StandardAttention(mixer.shape)
            layer.self_attn.load_state_dict(mixer.dense_weights())
    return model.eval()


def round_weights(x: Tensor, type: TensorType) -> Tensor:
    """fp32 [n, width] -> the values that a file holds."""
    if type in SINGLE_TYPES:
        return round_activations(x, type)
    return torch.from_numpy(dequantize(quantize(x.numpy(), type), type))


def round_activations(x: Tensor, type: TensorType) -> Tensor:
    """fp32 [..., width] -> what a matrix of `type` is multiplied by."""
    if type == "f32":
        return x
    if type == "bf16":
        return x.bfloat16().float()
    if type == "f16":
        return x.half().float()
    is_k = type in K_TYPES
    blocks = x.unflatten(-1, (-1, K_BLOCK if is_k else BLOCK))
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    levels = torch.where(scale > 0, blocks / scale, 0.0).round()
    # Blocks of 32 store the scale itself as f16.
    return (levels * (scale if is_k else scale.half().float())).flatten(-2)


def storages_of(tensors: list[GgufTensor]) -> dict[str, Storage]:
    """How the weights of the checkpoint are stored, by their names there."""
    return {part.name: tensor.storage for tensor in tensors for part in tensor.parts if isinstance(part, Weight)}


def round_model(model: GPT, type: GgufType, storages: Mapping[str, Storage]) -> None:
    """Round every matrix of `model` in place, and from now on what they are multiplied by; storages: of the weights."""
    if type == "f32":
        return
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear | nn.Embedding) or module is model.embed_positions:
            continue
        storage = storages[f"{name}.weight" if module is model.lm_head else f"model.{name}.weight"]
        own = stored_type(storage, type, module.weight.shape[-1])
        module.weight.data = round_weights(module.weight.data, own)
        if storage != "head":
            module.register_forward_pre_hook(lambda _, inputs, own=own: (round_activations(inputs[0], own),))


def round_hidden(hidden: Tensor, type: GgufType) -> Tensor:
    """What the output matrix of a file of `type` is multiplied by, [..., H] -> [..., H]."""
    return round_activations(hidden, stored_type("head", type, hidden.shape[-1]))
