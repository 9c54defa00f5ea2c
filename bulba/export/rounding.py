"""What a storage type does to a model's arithmetic, measured in Bulba.

llama.cpp multiplies a matrix of type f16 or bf16 by activations rounded to the same type, and one of a block type by
activations rounded as q8_0: 32 values with one scale, x ~ round(x / s) * s, s = max|x| / 127 (ggml-quants.c). Doing
both roundings in Bulba shows how far the logits of this very model may move for that reason alone; a fault of the file
moves them further. It does not imitate the order of llama.cpp's sums.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bulba.attention.hypercomplex import HypercomplexMixer
from bulba.attention.standard import StandardAttention
from bulba.checkpoint import load_model
from bulba.export.architecture import Storage
from bulba.export.gguf import BLOCK, BLOCK_TYPES, GgufType, stored_type
from bulba.export.gpt2 import wide_storage
from bulba.export.optional import need
from bulba.model.gpt import GPT
from bulba.model.mlp import FeedForward
from bulba.model.norm import LayerNorm


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


def round_weights(x: Tensor, type: GgufType) -> Tensor:
    """fp32 [..., width] -> the values that a file holds."""
    if type not in BLOCK_TYPES:
        return round_activations(x, type)
    quants = need("gguf.quants", "the check of a GGUF file")
    ggml_type = need("gguf", "the check of a GGUF file").GGMLQuantizationType[type.upper()]
    stored = quants.quantize(np.ascontiguousarray(x.numpy()), ggml_type)
    return torch.from_numpy(quants.dequantize(stored, ggml_type))


def round_activations(x: Tensor, type: GgufType) -> Tensor:
    """fp32 [..., width] -> what a matrix of `type` is multiplied by."""
    if type == "f32":
        return x
    if type == "bf16":
        return x.bfloat16().float()
    if type == "f16":
        return x.half().float()
    blocks = x.unflatten(-1, (-1, BLOCK))
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    levels = torch.where(scale > 0, blocks / scale, 0.0).round()
    # The scale itself is stored as f16.
    return (levels * scale.half().float()).flatten(-2)


def round_model(model: GPT, type: GgufType) -> None:
    """Round every matrix of `model` in place, and from now on what they are multiplied by."""
    is_gpt2 = isinstance(model.norm, LayerNorm)
    storages: dict[nn.Module, Storage] = {model.embed_tokens: "head"}
    if model.lm_head is not None:
        storages[model.lm_head] = "head"
    for layer in model.layers:
        attention: Any = layer.self_attn
        mlp: Any = layer.mlp
        of_mlp = wide_storage(mlp) if is_gpt2 and isinstance(mlp, FeedForward) else "matrix"
        storages |= {module: of_mlp for module in mlp.modules() if isinstance(module, nn.Linear)}
        storages |= {module: "matrix" for module in attention.modules() if isinstance(module, nn.Linear)}
    for module, storage in storages.items():
        assert isinstance(module, nn.Linear | nn.Embedding)
        own = stored_type(storage, type, module.weight.shape[-1])
        module.weight.data = round_weights(module.weight.data, own)
        if storage != "head":
            module.register_forward_pre_hook(lambda _, inputs, own=own: (round_activations(inputs[0], own),))


def rounded_logits(model: GPT, hidden: Tensor, type: GgufType) -> Tensor:
    """The logits of a model that `round_model` has rounded, [..., H] -> [..., V]."""
    return model.logits(round_activations(hidden, stored_type("head", type, hidden.shape[-1])))
