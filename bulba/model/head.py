"""The output layer: logits = W h, or cap * tanh(W h / cap) with a soft cap (Gemma Team 2024, arXiv 2408.00118, 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Head:
    """weight_VH: the output matrix. logit_cap: bounds the size of every logit; None for no bound."""

    weight_VH: Tensor
    logit_cap: float | None = None

    def logits(self, hidden: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """[..., H] -> [..., V]; dtype: of the logits, where it is not that of the product."""
        logits = F.linear(hidden, self.weight_VH)
        logits = logits if dtype is None else logits.to(dtype)
        return logits if self.logit_cap is None else soft_cap(logits, self.logit_cap)


def soft_cap(logits: Tensor, cap: float) -> Tensor:
    """Between -cap and cap, with slope 1 at 0."""
    return cap * (logits / cap).tanh()
