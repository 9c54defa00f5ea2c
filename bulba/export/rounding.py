"""What a storage type does to a model's arithmetic, measured in Bulba.

llama.cpp multiplies a matrix of type f16 or bf16 by activations rounded to the same type, and one of a block type by
activations rounded to 8 bits: 32 values, for K-quants 256, with one scale, x ~ round(x / s) * s, s = max|x| / 127
(ggml-quants.c). Doing both roundings in Bulba shows how far the logits of this very model may move for that reason
alone; a fault of the file moves them further. It does not imitate the order of llama.cpp's sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
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
    Importances,
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


def round_weights(x: Tensor, type: TensorType, importance: NDArray[np.float32] | None = None) -> Tensor:
    """fp32 [n, width] -> the values that a file holds; importance: as in `quantize`."""
    if type in SINGLE_TYPES:
        return round_activations(x, type)
    return torch.from_numpy(dequantize(quantize(x.numpy(), type, importance), type))


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


def tensors_by_weight(tensors: list[GgufTensor]) -> dict[str, GgufTensor]:
    """The tensor of the file that holds each weight of the checkpoint, by its name there."""
    return {part.name: tensor for tensor in tensors for part in tensor.parts if isinstance(part, Weight)}


def matrices(model: GPT) -> Iterator[tuple[str, nn.Linear | nn.Embedding]]:
    """Every matrix of a reference model, by its name in the checkpoint."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding) and module is not model.embed_positions:
            yield f"{name}.weight" if module is model.lm_head else f"model.{name}.weight", module


def round_matrices(model: GPT, type: GgufType, tensors: list[GgufTensor], importances: Importances) -> None:
    """Make every matrix of `model` what a file of `type` holds; importances: those that the file was made with."""
    if type == "f32":
        return
    by_weight = tensors_by_weight(tensors)
    for name, module in matrices(model):
        tensor, weight = by_weight[name], module.weight
        weight.data = round_weights(weight.data, tensor.stored_as(type), importances.get(tensor.name))


def round_inputs(model: GPT, type: GgufType, tensors: list[GgufTensor]) -> None:
    """Round, from now on, what the matrices of `model` are multiplied by, but for the output matrix."""
    if type == "f32":
        return
    by_weight = tensors_by_weight(tensors)
    for name, module in matrices(model):
        tensor = by_weight[name]
        if tensor.storage != "head":
            own = tensor.stored_as(type)
            module.register_forward_pre_hook(lambda _, inputs, own=own: (round_activations(inputs[0], own),))


def round_hidden(hidden: Tensor, type: GgufType) -> Tensor:
    """What the output matrix of a file of `type` is multiplied by, [..., H] -> [..., H]."""
    return round_activations(hidden, stored_type("head", type, hidden.shape[-1]))
