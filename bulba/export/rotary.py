"""Models with RMSNorm and rotary positions in llama.cpp.

| feed-forward | QK-norm | architecture | pairs that a head turns |
|---|---|---|---|
| SwiGLU | no | llama | neighbours |
| SwiGLU | yes | qwen3 | halves |
| ReLU squared | no | arcee | neighbours |
| ReLU squared | yes | apertus | halves |

Bulba pairs d with d + D/2, so the rows of q and k are written in another order where neighbours turn. apertus has the
xIELU activation (Huang and Schlag 2024, arXiv 2411.13010), for x > 0: alpha_p x^2 + beta x, else
alpha_n (expm1(min(x, eps)) - x) + beta x, each alpha through a softplus: with alpha_p = 1 and the rest 0 it is ReLU
squared. A soft cap of the logits has no place in these architectures.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from bulba.export.architecture import (
    Architecture,
    GgufTensor,
    Metadata,
    Rows,
    bias,
    embeddings,
    matrix,
    matrix_tensor,
    norm_tensor,
    precise,
    refusal,
    sizes,
)
from bulba.export.types import Storage
from bulba.model.gpt import GPT

NEIGHBOURS = ("llama", "arcee")
# What softplus takes to 1 and to 0. llama.cpp refuses an eps of 0.
XIELU = {"alpha_p": math.log(math.e - 1), "alpha_n": -100.0, "beta": 0.0, "eps": -1e-6}


def rotary(model: GPT, file_format: str) -> Architecture:
    """The architecture of a model with RMSNorm; UnsupportedError names what is in the way."""
    config = model.config
    if config["position"] != "rope":
        position = f"position={config['position']}"
        raise refusal(f"it has model.{position} beside RMSNorm", f"{position} with RMSNorm", file_format)
    name = architecture_name(model, file_format)
    norm: Any = model.norm
    metadata = sizes(name, model) | rope(name, model)
    metadata[f"{name}.attention.layer_norm_rms_epsilon"] = float(norm.eps)
    if name == "apertus":
        metadata |= {f"xielu.{key}": [value] * config["num_layers"] for key, value in XIELU.items()}
    tensors = embeddings(model)
    for index, layer in enumerate(model.layers):
        tensors += layer_tensors(layer, index, name, model.head_dim, precise(index, config["num_layers"]))
    tensors.append(norm_tensor(norm, "output_norm.weight", "model.norm.weight"))
    return Architecture(name, metadata, tensors, config, model.head_dim, float(norm.eps), cap_left_out(model))


def architecture_name(model: GPT, file_format: str) -> str:
    """By the feed-forward and QK-norm; every layer has the same, as one config makes them all."""
    from bulba.model.mlp import FeedForward, SwiGLU
    from bulba.model.norm import RMSNorm

    layer: Any = model.layers[0]
    for where, norm in (("layer 0", layer.input_layernorm), ("the last norm", model.norm)):
        if type(norm) is not RMSNorm:
            kind = type(norm).__name__
            raise refusal(f"{where} has a norm of kind {kind}", kind, file_format)
    qk_norm = model.config["qk_norm"]
    if qk_norm and layer.self_attn.q_proj.bias is not None:
        raise refusal("its projections have biases beside QK-norm", "both", file_format)
    if type(layer.mlp) is SwiGLU:
        return "qwen3" if qk_norm else "llama"
    if type(layer.mlp) is not FeedForward:
        kind = type(layer.mlp).__name__
        raise refusal(f"layer 0 has the feed-forward {kind}", kind, file_format)
    if layer.mlp.activation != "relu_squared" or layer.mlp.up_proj.bias is not None:
        kind = f"{layer.mlp.activation}{' and biases' if layer.mlp.up_proj.bias is not None else ''}"
        raise refusal(f"layer 0 has a feed-forward with {kind} beside RMSNorm", f"{kind} with RMSNorm", file_format)
    if layer.self_attn.q_proj.bias is not None:
        raise refusal("its projections have biases beside ReLU squared", "both", file_format)
    return "apertus" if qk_norm else "arcee"


def rope(name: str, model: GPT) -> Metadata:
    """What stands of the rotary positions in the file."""
    assert model.rope_base is not None
    found: Metadata = {f"{name}.rope.dimension_count": model.head_dim, f"{name}.rope.freq_base": float(model.rope_base)}
    scaling = model.rope_scaling
    if scaling is None:
        return found
    return found | {
        f"{name}.rope.scaling.type": scaling.type,
        f"{name}.rope.scaling.factor": float(scaling.factor),
        f"{name}.rope.scaling.original_context_length": scaling.original_max_seq_len,
    }


def layer_tensors(layer: Any, index: int, name: str, head_dim: int, storage: Storage) -> list[GgufTensor]:
    """One layer; storage: of the values and the last matrix."""
    hf, gguf, attention = f"model.layers.{index}", f"blk.{index}", layer.self_attn
    tensors = [
        norm_tensor(layer.input_layernorm, f"{gguf}.attn_norm.weight", f"{hf}.input_layernorm.weight"),
        norm_tensor(layer.post_attention_layernorm, f"{gguf}.ffn_norm.weight", f"{hf}.post_attention_layernorm.weight"),
    ]
    if name in ("qwen3", "apertus"):
        tensors += [
            norm_tensor(attention.q_norm, f"{gguf}.attn_q_norm.weight", f"{hf}.self_attn.q_norm.weight"),
            norm_tensor(attention.k_norm, f"{gguf}.attn_k_norm.weight", f"{hf}.self_attn.k_norm.weight"),
        ]
    for part in ("gate", "up", "down"):
        projection = getattr(layer.mlp, f"{part}_proj", None)
        if projection is not None:
            hf_name = f"{hf}.mlp.{part}_proj"
            weight = matrix(projection, hf_name)
            kind: Storage = storage if part == "down" else "matrix"
            tensors.append(matrix_tensor(f"{gguf}.ffn_{part}.weight", weight, kind, f"{hf_name}.weight"))
    for part, gguf_part in (("q", "attn_q"), ("k", "attn_k"), ("v", "attn_v"), ("o", "attn_output")):
        projection, hf_name = getattr(attention, f"{part}_proj"), f"{hf}.self_attn.{part}_proj"
        turned = name in NEIGHBOURS and part in "qk"
        order = partial(interleave_halves, head_dim=head_dim) if turned else None
        together = head_dim if turned else 1
        weight = matrix(projection, hf_name, order, together)
        kind = storage if part == "v" else "matrix"
        tensors.append(matrix_tensor(f"{gguf}.{gguf_part}.weight", weight, kind, f"{hf_name}.weight"))
        if projection.bias is not None:
            rows = bias(projection, hf_name, len(projection.bias), order, together)
            shape = (len(projection.bias),)
            tensors.append(GgufTensor(f"{gguf}.{gguf_part}.bias", shape, (rows,), "f32", f"{hf_name}.bias"))
    return tensors


def interleave_halves(rows: Rows, head_dim: int) -> Rows:
    """Reorder the rows of every head from (0, 1, ..) to (0, D/2, 1, D/2 + 1, ..): [heads * D, ...] -> same."""
    halves = rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def cap_left_out(model: GPT) -> str | None:
    """What is said of a soft cap."""
    cap = model.config["logit_cap"]
    if cap is None:
        return None
    return (
        f"the soft cap of its logits, {cap:g}, has no place in the file: the likeliest token is the same, and to "
        f"sample as Bulba does, put {cap:g} * tanh(logit / {cap:g}) in the place of every logit"
    )
