"""Models with LayerNorm in llama.cpp: architecture `gpt2`, positions from a table that is added to the embedding.

The table is the learned one, or the sinusoids of bulba/model/position.py written out, or zeros; it ends at max_seq_len.
gpt2 has a bias everywhere, of zeros where the model has none, and q, k and v in one matrix, one below the other.
Its activation is GELU, which llama.cpp takes from a table of f16. ReLU comes out of it: GELU(s x) / s goes to ReLU(x)
as s grows, so with s = 2^10 the first matrix and its bias are stored s times as large and the second one s times
smaller, which is exact in fp32 and bf16; narrower types store these two as bf16.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from bulba.export.architecture import (
    Architecture,
    Filled,
    GgufTensor,
    Part,
    Rows,
    Table,
    Weight,
    bias,
    embeddings,
    matrix,
    matrix_tensor,
    norm_tensor,
    precise,
    refusal,
    sizes,
)
from bulba.export.rotary import cap_left_out
from bulba.export.types import Storage
from bulba.model.gpt import GPT

RELU_SCALE = 1024.0


def gpt2(model: GPT, file_format: str) -> Architecture:
    """The architecture of a model with LayerNorm; UnsupportedError names what is in the way."""
    from bulba.model.mlp import FeedForward

    config = model.config
    layer: Any = model.layers[0]
    if config["position"] not in ("sinusoidal", "learned", "none"):
        position = f"position={config['position']}"
        raise refusal(f"it has model.{position} beside LayerNorm", f"{position} with LayerNorm", file_format)
    if config["qk_norm"]:
        raise refusal("it has model.qk_norm=True beside LayerNorm", "QK-norm with LayerNorm", file_format)
    if type(layer.mlp) is not FeedForward or layer.mlp.activation == "relu_squared":
        kind = layer.mlp.activation if type(layer.mlp) is FeedForward else type(layer.mlp).__name__
        raise refusal(f"layer 0 has the feed-forward {kind} beside LayerNorm", f"{kind} with LayerNorm", file_format)
    norm: Any = model.norm
    metadata = sizes("gpt2", model) | {"gpt2.attention.layer_norm_epsilon": float(norm.eps)}
    tensors = [*embeddings(model), positions(model)]
    for index, each in enumerate(model.layers):
        tensors += layer_tensors(each, index, precise(index, config["num_layers"]))
    tensors += layer_norm(norm, "output_norm", "model.norm")
    return Architecture("gpt2", metadata, tensors, config, model.head_dim, float(norm.eps), cap_left_out(model))


def positions(model: GPT) -> GgufTensor:
    """What is added to the embedding at every place, [max_seq_len, hidden_size]."""
    shape = (model.max_seq_len, model.config["hidden_size"])
    part: Part = Filled(0.0, shape)
    if model.position == "learned":
        part = Weight("model.embed_positions.weight", shape)
    elif model.position == "sinusoidal":
        assert model.rope_base is not None
        part = Table(partial(sinusoids, hidden_size=shape[1], base=model.rope_base), shape)
    return GgufTensor("position_embd.weight", shape, (part,), "f32")


def sinusoids(start: int, stop: int, hidden_size: int, base: float) -> Rows:
    """The places start .. stop of the table."""
    import torch

    from bulba.model.position import sinusoidal

    return sinusoidal(torch.arange(start, stop)[None], hidden_size, base)[0].numpy()


def layer_tensors(layer: Any, index: int, storage: Storage) -> list[GgufTensor]:
    """One layer; storage: of the last matrix, unless it is scaled."""
    hf, gguf = f"model.layers.{index}", f"blk.{index}"
    attention, mlp = layer.self_attn, layer.mlp
    projections = [(getattr(attention, f"{part}_proj"), f"{hf}.self_attn.{part}_proj") for part in "qkv"]
    weights = [matrix(*pair) for pair in projections]
    heights = [weight.shape[0] * weight.factor for weight in weights]
    biases = [bias(*pair, height) for pair, height in zip(projections, heights, strict=True)]
    relu = mlp.activation == "relu"
    up_storage: Storage = "wide" if relu else "matrix"
    down_storage: Storage = "wide" if relu else storage
    larger, smaller = (partial(scale, factor=factor) if relu else None for factor in (RELU_SCALE, 1 / RELU_SCALE))
    hidden, ffn, out = len(mlp.down_proj.weight), len(mlp.up_proj.weight), f"{hf}.self_attn.o_proj"
    up, down = f"{hf}.mlp.up_proj", f"{hf}.mlp.down_proj"
    return [
        *layer_norm(layer.input_layernorm, f"{gguf}.attn_norm", f"{hf}.input_layernorm"),
        *layer_norm(layer.post_attention_layernorm, f"{gguf}.ffn_norm", f"{hf}.post_attention_layernorm"),
        GgufTensor(f"{gguf}.attn_qkv.weight", (sum(heights), hidden), tuple(weights), "matrix"),
        vector(f"{gguf}.attn_qkv.bias", sum(heights), *biases),
        matrix_tensor(f"{gguf}.attn_output.weight", matrix(attention.o_proj, out)),
        vector(f"{gguf}.attn_output.bias", hidden, bias(attention.o_proj, out, hidden)),
        matrix_tensor(f"{gguf}.ffn_up.weight", matrix(mlp.up_proj, up, larger), up_storage),
        vector(f"{gguf}.ffn_up.bias", ffn, bias(mlp.up_proj, up, ffn, larger)),
        matrix_tensor(f"{gguf}.ffn_down.weight", matrix(mlp.down_proj, down, smaller), down_storage),
        vector(f"{gguf}.ffn_down.bias", hidden, bias(mlp.down_proj, down, hidden)),
    ]


def layer_norm(norm: Any, name: str, hf_name: str) -> list[GgufTensor]:
    """Gain and bias."""
    return [
        norm_tensor(norm, f"{name}.weight", f"{hf_name}.weight"),
        vector(f"{name}.bias", norm.size, bias(norm, hf_name, norm.size)),
    ]


def vector(name: str, size: int, *parts: Part) -> GgufTensor:
    return GgufTensor(name, (size,), parts, "f32")


def scale(rows: Rows, factor: float) -> Rows:
    return rows * np.float32(factor)
