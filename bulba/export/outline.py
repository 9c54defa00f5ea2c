"""What a model is made of, as its config says (model.json), so that a file is written without torch.

Here stands of the modules in bulba/model and bulba/attention what other programs must know; tests hold it against the
modules themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bulba.model.pattern import mixer_nodes

Projection = Literal["q", "k", "v", "o", "gate", "up", "down"]
# What older checkpoints do not say; the defaults of bulba.model.gpt.GPT.
DEFAULTS: dict[str, Any] = {
    "norm_placement": "pre",
    "position": "rope",
    "rope_scaling": None,
    "attention_bias": False,
    "qk_norm": False,
    "logit_cap": None,
}


@dataclass(frozen=True)
class Linear:
    """A projection, by its name in the checkpoint.

    num_components: of the numbers that it is linear over (bulba/attention/hypercomplex.py), 1 for real ones.
    """

    name: str
    in_features: int
    out_features: int
    has_bias: bool
    num_components: int = 1


@dataclass(frozen=True)
class Norm:
    """A norm over `size` numbers, by its name in the checkpoint. has_gain: whether it learns one, or gain and bias."""

    name: str
    size: int
    has_gain: bool


class Outline:
    """The model of a config as `GPT.get_model_config` gives it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config: dict[str, Any] = DEFAULTS | dict(config)
        self.head_dim: int = self.config["hidden_size"] // self.config["num_heads"]
        self.mixers = mixer_nodes(self.config["attention"], self.config["num_layers"])
        mlp, norm = self.config["mlp"], self.config["norm"]
        self.mlp_kind, self.norm_kind = class_name(mlp), class_name(norm)
        self.activation: str = mlp.get("activation", "silu")
        self.mlp_has_bias: bool = mlp.get("bias", False)
        self.norm_eps = float(norm["eps"])
        self.norms_have_gain: bool = norm.get("affine", True)

    def norm(self, name: str, size: int | None = None) -> Norm:
        """The norm of that name; size: None for the width of the model."""
        return Norm(name, size or self.config["hidden_size"], self.norms_have_gain)

    def linear(self, layer: int, part: Projection) -> Linear:
        """A projection of attention or feed-forward of a layer whose attention `num_components` knows."""
        config, node = self.config, self.mixers[layer]
        hidden, ffn = config["hidden_size"], config["intermediate_size"]
        if part in ("gate", "up"):
            return Linear(f"model.layers.{layer}.mlp.{part}_proj", hidden, ffn, self.mlp_has_bias)
        if part == "down":
            return Linear(f"model.layers.{layer}.mlp.{part}_proj", ffn, hidden, self.mlp_has_bias)
        width = self.head_dim * config["num_kv_heads" if part in "kv" else "num_heads"]
        sizes = (width, hidden) if part == "o" else (hidden, width)
        has_bias = config["attention_bias"] or node.get("bias", False)
        count = num_components(node)
        assert count is not None, "asked for beforehand"
        return Linear(f"model.layers.{layer}.self_attn.{part}_proj", *sizes, has_bias, count)


def num_components(mixer: Mapping[str, Any]) -> int | None:
    """Components of the numbers that an attention projects to; None for one that is not softmax attention even when
    its matrices are written out, so that llama.cpp cannot run it.
    """
    match mixer["_target_"].removeprefix("bulba.attention."):
        case "standard.StandardAttention":
            return 1
        case "surreal.SurrealAttention" if mixer["omega"] is None:  # one level
            return 1
        case "quaternion.QuaternionAttention" if not mixer["rotor_gate"]:
            return 4
        case "octonion.OctonionAttention" if not mixer["rotor_gate"]:
            return 8
    return None


def class_name(node: Mapping[str, Any]) -> str:
    """The class that a node of the config names."""
    return str(node["_target_"].rpartition(".")[2])
