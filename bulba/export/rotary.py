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
from bulba.export.outline import Outline, Projection
from bulba.export.types import Storage

NEIGHBOURS = ("llama", "arcee")
# What softplus takes to 1 and to 0. llama.cpp refuses an eps of 0.
XIELU = {"alpha_p": math.log(math.e - 1), "alpha_n": -100.0, "beta": 0.0, "eps": -1e-6}


def rotary(model: Outline, file_format: str) -> Architecture:
    """The architecture of a model with RMSNorm; UnsupportedError names what is in the way."""
    config = model.config
    if config["position"] != "rope":
        position = f"position={config['position']}"
        raise refusal(f"it has model.{position} beside RMSNorm", f"{position} with RMSNorm", file_format)
    name = architecture_name(model, file_format)
    metadata = sizes(name, model) | rope(name, model)
    metadata[f"{name}.attention.layer_norm_rms_epsilon"] = model.norm_eps
    if name == "apertus":
        metadata |= {f"xielu.{key}": [value] * config["num_layers"] for key, value in XIELU.items()}
    tensors = embeddings(model)
    for layer in range(config["num_layers"]):
        tensors += layer_tensors(model, layer, name, precise(layer, config["num_layers"]))
    tensors.append(norm_tensor(model.norm("model.norm"), "output_norm.weight"))
    return Architecture(name, metadata, tensors, config, model.head_dim, model.norm_eps, cap_left_out(model))


def architecture_name(model: Outline, file_format: str) -> str:
    """By the feed-forward and QK-norm; every layer has the same, as one config makes them all."""
    if model.norm_kind != "RMSNorm":
        raise refusal(f"layer 0 has a norm of kind {model.norm_kind}", model.norm_kind, file_format)
    qk_norm = model.config["qk_norm"]
    has_bias = any(model.linear(layer, "q").has_bias for layer in range(model.config["num_layers"]))
    if qk_norm and has_bias:
        raise refusal("its projections have biases beside QK-norm", "both", file_format)
    if model.mlp_kind == "SwiGLU":
        return "qwen3" if qk_norm else "llama"
    if model.mlp_kind != "FeedForward":
        raise refusal(f"layer 0 has the feed-forward {model.mlp_kind}", model.mlp_kind, file_format)
    if model.activation != "relu_squared" or model.mlp_has_bias:
        kind = f"{model.activation}{' and biases' if model.mlp_has_bias else ''}"
        raise refusal(f"layer 0 has a feed-forward with {kind} beside RMSNorm", f"{kind} with RMSNorm", file_format)
    if has_bias:
        raise refusal("its projections have biases beside ReLU squared", "both", file_format)
    return "apertus" if qk_norm else "arcee"


def rope(name: str, model: Outline) -> Metadata:
    """What stands of the rotary positions in the file."""
    base, scaling = model.config["rope_base"], model.config["rope_scaling"]
    found: Metadata = {f"{name}.rope.dimension_count": model.head_dim, f"{name}.rope.freq_base": float(base)}
    if scaling is None:
        return found
    return found | {
        f"{name}.rope.scaling.type": scaling["type"],
        f"{name}.rope.scaling.factor": float(scaling["factor"]),
        f"{name}.rope.scaling.original_context_length": scaling["original_max_seq_len"],
    }


def layer_tensors(model: Outline, layer: int, name: str, storage: Storage) -> list[GgufTensor]:
    """One layer; storage: of the values and the last matrix."""
    own, gguf = f"model.layers.{layer}", f"blk.{layer}"
    tensors = [
        norm_tensor(model.norm(f"{own}.input_layernorm"), f"{gguf}.attn_norm.weight"),
        norm_tensor(model.norm(f"{own}.post_attention_layernorm"), f"{gguf}.ffn_norm.weight"),
    ]
    if model.config["qk_norm"]:
        norms = [(part, model.norm(f"{own}.self_attn.{part}_norm", model.head_dim)) for part in "qk"]
        tensors += [norm_tensor(norm, f"{gguf}.attn_{part}_norm.weight") for part, norm in norms]
    feed_forward: list[Projection] = ["gate", "up", "down"] if model.mlp_kind == "SwiGLU" else ["up", "down"]
    for part in feed_forward:
        kind: Storage = storage if part == "down" else "matrix"
        tensors.append(matrix_tensor(f"{gguf}.ffn_{part}.weight", matrix(model.linear(layer, part)), kind))
    attention: list[tuple[Projection, str]] = [("q", "attn_q"), ("k", "attn_k"), ("v", "attn_v"), ("o", "attn_output")]
    for part, gguf_part in attention:
        turned = name in NEIGHBOURS and part in "qk"
        order = partial(interleave_halves, head_dim=model.head_dim) if turned else None
        together = model.head_dim if turned else 1
        linear = model.linear(layer, part)
        kind = storage if part == "v" else "matrix"
        tensors.append(matrix_tensor(f"{gguf}.{gguf_part}.weight", matrix(linear, order, together), kind))
        if linear.has_bias:
            shape, rows = (linear.out_features,), bias(linear, order, together)
            tensors.append(GgufTensor(f"{gguf}.{gguf_part}.bias", shape, (rows,), "f32", f"{linear.name}.bias"))
    return tensors


def interleave_halves(rows: Rows, head_dim: int) -> Rows:
    """Reorder the rows of every head from (0, 1, ..) to (0, D/2, 1, D/2 + 1, ..): [heads * D, ...] -> same."""
    halves = rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def cap_left_out(model: Outline) -> str | None:
    """What is said of a soft cap."""
    cap = model.config["logit_cap"]
    if cap is None:
        return None
    return (
        f"the soft cap of its logits, {cap:g}, has no place in the file: the likeliest token is the same, and to "
        f"sample as Bulba does, put {cap:g} * tanh(logit / {cap:g}) in the place of every logit"
    )
