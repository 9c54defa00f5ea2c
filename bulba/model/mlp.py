"""Feed-forward layers.

SwiGLU: down(silu(gate(x)) * up(x)) (Shazeer 2020, arXiv 2002.05202), three matrices. FeedForward: down(f(up(x))), two
matrices, with f one of ReLU (Vaswani et al. 2017), GELU (Hendrycks and Gimpel 2016, arXiv 1606.08415; exact, not the
tanh form) and ReLU squared (So et al. 2021, arXiv 2109.08668).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from bulba.errors import ConfigError


class SwiGLU(nn.Module):
    """[..., hidden_size] -> [..., hidden_size] through `intermediate_size`, without biases."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "relu_squared": lambda x: F.relu(x).square(),
}


class FeedForward(nn.Module):
    """[..., hidden_size] -> [..., hidden_size] through `intermediate_size`; bias: of both matrices."""

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        activation: Literal["relu", "gelu", "relu_squared"],
        bias: bool,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ConfigError(f"model.mlp.activation={activation} must be one of {', '.join(ACTIVATIONS)}.")
        self.activation = activation
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=bias)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(ACTIVATIONS[self.activation](self.up_proj(x)))
