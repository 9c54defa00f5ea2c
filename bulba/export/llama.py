"""Which checkpoints are Llama models, and what their tensors are called elsewhere.

A Llama layer is: RMSNorm before softmax attention with rotary positions, RMSNorm before SwiGLU, no other part.
Bulba names its weights as Hugging Face's LlamaForCausalLM does; the names of llama.cpp are those of its arch `llama`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bulba.errors import CheckpointError, UnsupportedError

# What a Llama model has none of (dropout belongs to training alone).
PLAIN_SETTINGS = {"position": "rope", "rope_scaling": None, "qk_norm": False, "logit_cap": None}


@dataclass(frozen=True)
class LlamaShape:
    """The sizes of a Llama model; widths in numbers of elements."""

    vocab_size: int
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_seq_len: int
    rope_base: float
    norm_eps: float
    tie_embeddings: bool
    attention_bias: bool


@dataclass(frozen=True)
class LlamaTensor:
    """One tensor of a Llama model.

    hf_name, gguf_name: its names. shape: rows first. rotary_heads: the number of heads whose rows arch `llama`
    orders in adjacent pairs, 0 where the order stays. default: the value of an absent norm gain, else None.
    """

    hf_name: str
    gguf_name: str
    shape: tuple[int, ...]
    rotary_heads: int = 0
    default: float | None = None


def llama_tensors(shape: LlamaShape) -> list[LlamaTensor]:
    """Every tensor of the model, in the order of the file; a tied head has none."""
    vocab, hidden, ffn = shape.vocab_size, shape.hidden_size, shape.intermediate_size
    width, kv_width = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    tensors = [LlamaTensor("model.embed_tokens.weight", "token_embd.weight", (vocab, hidden))]
    for layer in range(shape.num_layers):
        hf, gguf = f"model.layers.{layer}", f"blk.{layer}"
        tensors += [
            LlamaTensor(f"{hf}.input_layernorm.weight", f"{gguf}.attn_norm.weight", (hidden,), default=1.0),
            LlamaTensor(f"{hf}.post_attention_layernorm.weight", f"{gguf}.ffn_norm.weight", (hidden,), default=1.0),
            LlamaTensor(f"{hf}.mlp.gate_proj.weight", f"{gguf}.ffn_gate.weight", (ffn, hidden)),
            LlamaTensor(f"{hf}.mlp.up_proj.weight", f"{gguf}.ffn_up.weight", (ffn, hidden)),
            LlamaTensor(f"{hf}.mlp.down_proj.weight", f"{gguf}.ffn_down.weight", (hidden, ffn)),
        ]
        for hf_part, gguf_part, rows, columns, rotary_heads in (
            ("q_proj", "attn_q", width, hidden, shape.num_heads),
            ("k_proj", "attn_k", kv_width, hidden, shape.num_kv_heads),
            ("v_proj", "attn_v", kv_width, hidden, 0),
            ("o_proj", "attn_output", hidden, width, 0),
        ):
            hf_name, gguf_name = f"{hf}.self_attn.{hf_part}", f"{gguf}.{gguf_part}"
            tensors.append(LlamaTensor(f"{hf_name}.weight", f"{gguf_name}.weight", (rows, columns), rotary_heads))
            if shape.attention_bias:
                tensors.append(LlamaTensor(f"{hf_name}.bias", f"{gguf_name}.bias", (rows,), rotary_heads))
    tensors.append(LlamaTensor("model.norm.weight", "output_norm.weight", (hidden,), default=1.0))
    if not shape.tie_embeddings:
        tensors.append(LlamaTensor("lm_head.weight", "output.weight", (vocab, hidden)))
    return tensors


def read_llama(checkpoint: Path, file_format: str) -> LlamaShape:
    """The shape of the checkpoint's model.

    file_format: the format asked for, for the message. Raises UnsupportedError naming the first layer that is not a
    Llama layer.
    """
    # Here, so that writing a file needs no torch.
    import torch

    from bulba.model.gpt import GPT

    config = json.loads((checkpoint / "model.json").read_text(encoding="utf-8"))
    # Without memory for the weights: only the kinds of the layers are asked for.
    with torch.device("meta"):
        model = GPT(**config)
    for key, plain in PLAIN_SETTINGS.items():
        if config.get(key, plain) != plain:
            raise _refusal(f"it has model.{key}={config[key]}", f"{key}={config[key]}", file_format)
    layers: list[Any] = list(model.layers)
    last_norm: Any = model.norm
    for index, layer in enumerate(layers):
        _check_layer(layer, index, file_format)
    _check_norm(last_norm, "the last norm", file_format)
    norms = [norm for layer in layers for norm in (layer.input_layernorm, layer.post_attention_layernorm)]
    eps = {float(norm.eps) for norm in (*norms, last_norm)}
    assert len(eps) == 1, "one norm config makes all norms"
    return LlamaShape(
        vocab_size=config["vocab_size"],
        num_layers=config["num_layers"],
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        num_heads=config["num_heads"],
        num_kv_heads=config["num_kv_heads"],
        head_dim=model.head_dim,
        max_seq_len=config["max_seq_len"],
        rope_base=float(config["rope_base"]),
        norm_eps=eps.pop(),
        tie_embeddings=config["tie_embeddings"],
        attention_bias=any(name.endswith("self_attn.q_proj.bias") for name in model.state_dict()),
    )


def check_tensors(
    found: Mapping[str, tuple[int, ...]], tensors: list[LlamaTensor], checkpoint: Path, file_format: str
) -> None:
    """Hold names and shapes in a checkpoint against those of its Llama model; only norm gains may be absent."""
    expected = {tensor.hf_name: tensor.shape for tensor in tensors}
    unknown = sorted(found.keys() - expected.keys())
    if unknown:
        raise _refusal(f"the checkpoint has the weight {unknown[0]}", "that weight", file_format)
    for tensor in tensors:
        shape = found.get(tensor.hf_name, tensor.shape if tensor.default is not None else None)
        if shape != tensor.shape:
            raise CheckpointError(
                f"{checkpoint}: the weight {tensor.hf_name} is {shape or 'absent'} where model.json says "
                f"{tensor.shape}; use another checkpoint of the run."
            )


def _check_layer(layer: Any, index: int, file_format: str) -> None:
    from bulba.model.mlp import SwiGLU

    where = f"layer {index}"
    if not layer.self_attn.capabilities.gguf:
        name = type(layer.self_attn).__name__
        raise _refusal(f"{where} mixes its tokens with {name}", name, file_format)
    if layer.norm_placement != "pre":
        raise _refusal(f"{where} has its norms behind the residual sum", "post-norm", file_format)
    for norm in (layer.input_layernorm, layer.post_attention_layernorm):
        _check_norm(norm, where, file_format)
    if type(layer.mlp) is not SwiGLU:
        name = type(layer.mlp).__name__
        raise _refusal(f"{where} has the feed-forward {name}", name, file_format)


def _check_norm(norm: Any, where: str, file_format: str) -> None:
    from bulba.model.norm import RMSNorm

    if type(norm) is not RMSNorm:
        name = type(norm).__name__
        raise _refusal(f"{where} has a norm of kind {name}", name, file_format)


def _refusal(fact: str, mechanism: str, file_format: str) -> UnsupportedError:
    return UnsupportedError(
        f"this model cannot become {file_format}: {fact}, and both Hugging Face Llama and GGUF hold Llama layers only, "
        f"without {mechanism}; the format that does hold it is Bulba's own checkpoint folder."
    )
