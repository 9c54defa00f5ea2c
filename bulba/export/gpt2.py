"""Models with LayerNorm in llama.cpp: architecture `gpt2`, positions from a table that is added to the embedding.

The table is the learned one, or the sinusoids of bulba/model/position.py written out, or zeros; it ends at max_seq_len.
gpt2 has a bias everywhere, of zeros where the model has none, and q, k and v in one matrix, one below the other.
Its activation is GELU, which llama.cpp takes from a table of f16. ReLU comes out of it: GELU(s x) / s goes to ReLU(x)
as s grows, so with s = 2^10 the first matrix and its bias are stored s times as large and the second one s times
smaller, which is exact in fp32 and bf16; narrower types store these two as bf16.
"""

from __future__ import annotations

from functools import partial

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
from bulba.export.outline import Norm, Outline, Projection
from bulba.export.rotary import cap_left_out
from bulba.export.types import Storage

RELU_SCALE = 1024.0
PROJECTIONS: tuple[Projection, ...] = ("q", "k", "v", "o", "up", "down")


def gpt2(model: Outline, file_format: str) -> Architecture:
    """The architecture of a model with LayerNorm; UnsupportedError names what is in the way."""
    config = model.config
    if config["position"] not in ("sinusoidal", "learned", "none"):
        position = f"position={config['position']}"
        raise refusal(f"it has model.{position} beside LayerNorm", f"{position} with LayerNorm", file_format)
    if config["qk_norm"]:
        raise refusal("it has model.qk_norm=True beside LayerNorm", "QK-norm with LayerNorm", file_format)
    if model.mlp_kind != "FeedForward" or model.activation == "relu_squared":
        kind = model.activation if model.mlp_kind == "FeedForward" else model.mlp_kind
        raise refusal(f"layer 0 has the feed-forward {kind} beside LayerNorm", f"{kind} with LayerNorm", file_format)
    metadata = sizes("gpt2", model) | {"gpt2.attention.layer_norm_epsilon": model.norm_eps}
    tensors = [*embeddings(model), positions(model)]
    for layer in range(config["num_layers"]):
        tensors += layer_tensors(model, layer, precise(layer, config["num_layers"]))
    tensors += layer_norm(model.norm("model.norm"), "output_norm")
    return Architecture("gpt2", metadata, tensors, config, model.head_dim, model.norm_eps, cap_left_out(model))


def positions(model: Outline) -> GgufTensor:
    """What is added to the embedding at every place, [max_seq_len, hidden_size]."""
    config = model.config
    shape = (config["max_seq_len"], config["hidden_size"])
    part: Part = Filled(0.0, shape)
    if config["position"] == "learned":
        part = Weight("model.embed_positions.weight", shape)
    elif config["position"] == "sinusoidal":
        part = Table(partial(sinusoids, hidden_size=shape[1], base=config["rope_base"]), shape)
    return GgufTensor("position_embd.weight", shape, (part,), "f32")


def sinusoids(start: int, stop: int, hidden_size: int, base: float) -> Rows:
    """The places start .. stop of the table."""
    import torch

    from bulba.model.position import sinusoidal

    return sinusoidal(torch.arange(start, stop)[None], hidden_size, base)[0].numpy()


def layer_tensors(model: Outline, layer: int, storage: Storage) -> list[GgufTensor]:
    """One layer; storage: of the last matrix, unless it is scaled."""
    own, gguf = f"model.layers.{layer}", f"blk.{layer}"
    q, k, v, o, up, down = (model.linear(layer, part) for part in PROJECTIONS)
    heights = q.out_features + k.out_features + v.out_features
    relu = model.activation == "relu"
    up_storage: Storage = "wide" if relu else "matrix"
    down_storage: Storage = "wide" if relu else storage
    larger, smaller = (partial(scale, factor=factor) if relu else None for factor in (RELU_SCALE, 1 / RELU_SCALE))
    return [
        *layer_norm(model.norm(f"{own}.input_layernorm"), f"{gguf}.attn_norm"),
        *layer_norm(model.norm(f"{own}.post_attention_layernorm"), f"{gguf}.ffn_norm"),
        GgufTensor(f"{gguf}.attn_qkv.weight", (heights, q.in_features), tuple(map(matrix, (q, k, v))), "matrix"),
        vector(f"{gguf}.attn_qkv.bias", heights, *map(bias, (q, k, v))),
        matrix_tensor(f"{gguf}.attn_output.weight", matrix(o)),
        vector(f"{gguf}.attn_output.bias", o.out_features, bias(o)),
        matrix_tensor(f"{gguf}.ffn_up.weight", matrix(up, larger), up_storage),
        vector(f"{gguf}.ffn_up.bias", up.out_features, bias(up, larger)),
        matrix_tensor(f"{gguf}.ffn_down.weight", matrix(down, smaller), down_storage),
        vector(f"{gguf}.ffn_down.bias", down.out_features, bias(down)),
    ]


def layer_norm(norm: Norm, name: str) -> list[GgufTensor]:
    """Gain and bias, of ones and zeros where it has none."""
    weight = Weight(f"{norm.name}.bias", (norm.size,))
    return [
        norm_tensor(norm, f"{name}.weight"),
        vector(f"{name}.bias", norm.size, weight if norm.has_gain else Filled(0.0, weight.shape)),
    ]


def vector(name: str, size: int, *parts: Part) -> GgufTensor:
    return GgufTensor(name, (size,), parts, "f32")


def scale(rows: Rows, factor: float) -> Rows:
    return rows * np.float32(factor)
