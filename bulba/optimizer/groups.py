"""Which weights an optimizer decays, and the list of what is in which group.

Only matrices of Linear layers decay, the untied head among them. Embeddings (so also a tied head, which is
the embedding), norm gains, biases and every other vector do not; embeddings, because decay shrinks them until
training becomes unstable (OLMo 2, arXiv 2501.00656). Roles are read from parameter names, which are those of
Hugging Face Llama. Frozen weights are in no group.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from bulba.errors import ConfigError

Role = Literal["embedding", "head", "lora", "matrix", "vector"]
NamedParameters = list[tuple[str, nn.Parameter]]

DECAYED_ROLES = ("matrix", "head", "lora")


def role_of(name: str, parameter: nn.Parameter) -> Role:
    """What a weight is to an optimizer; anything that is not the matrix of a Linear layer is a `vector`."""
    modules = name.split(".")
    if any(module.startswith("embed_") for module in modules):
        return "embedding"
    if not (name.endswith(".weight") and parameter.ndim == 2):
        return "vector"
    if "lm_head" in modules:
        return "head"
    if any(module.startswith("lora_") for module in modules):
        return "lora"
    return "matrix"


def trained(named_parameters: NamedParameters) -> NamedParameters:
    """Those that are not frozen."""
    return [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]


def decay_groups(
    named_parameters: NamedParameters, weight_decay: float, prefix: str = "", **options: Any
) -> list[dict[str, Any]]:
    """Parameter groups `decay` and `no_decay`, the non-empty ones, each with `name` and `options`."""
    decayed = [pair for pair in named_parameters if role_of(*pair) in DECAYED_ROLES]
    kept = [pair for pair in named_parameters if role_of(*pair) not in DECAYED_ROLES]
    groups = [
        {"name": f"{prefix}decay", "params": decayed, "weight_decay": weight_decay, **options},
        {"name": f"{prefix}no_decay", "params": kept, "weight_decay": 0.0, **options},
    ]
    return [group for group in groups if group["params"]]


def check_decays(weight_decay: float, named_parameters: NamedParameters) -> None:
    """ConfigError for a weight decay that no weight would feel."""
    if weight_decay and not any(role_of(*pair) in DECAYED_ROLES for pair in named_parameters):
        raise ConfigError(
            f"optimizer.weight_decay={weight_decay} would do nothing, because no trained weight is a matrix: "
            "set optimizer.weight_decay=0."
        )


def describe_groups(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Every group in plain values: name, algorithm, kernel, peak_lr, weight_decay, num_params, parameters."""
    return [
        {
            "name": group["name"],
            "algorithm": group["algorithm"],
            "kernel": next((kernel for kernel in ("fused", "foreach") if group.get(kernel)), "single"),
            "peak_lr": group.get("initial_lr", group["lr"]),
            "weight_decay": group["weight_decay"],
            "num_params": sum(parameter.numel() for parameter in group["params"]),
            "parameters": list(group["param_names"]),
        }
        for group in optimizer.param_groups
    ]
