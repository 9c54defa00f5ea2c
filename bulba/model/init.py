"""Initial weights: normal(0, std); the two projections that write into the residual stream get std / sqrt(2 * layers).

Source: GPT-2 (Radford et al. 2019, section 2.3). Norm gains start at 1 and biases at 0.
"""

from __future__ import annotations

import math

from torch import nn

RESIDUAL_PROJECTIONS = ("o_proj", "down_proj")


def init_weights(model: nn.Module, std: float, num_layers: int) -> None:
    """Fill every Linear and Embedding of `model` in place, in module order, from torch's global generator."""
    for name, module in model.named_modules():
        scale = 1 / math.sqrt(2 * num_layers) if name.endswith(RESIDUAL_PROJECTIONS) else 1.0
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std * scale)
        elif fill := getattr(module, "init_weights", None):  # a projection with another distribution of the same std
            fill(std * scale)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
