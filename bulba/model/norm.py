"""Normalisation layers: RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467) and LayerNorm (Ba et al. 2016).

RMSNorm: y = x / sqrt(mean(x^2) + eps) * weight. Both compute in fp32 at least, whatever
the input is, as Llama does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """RMSNorm over the last dimension; `affine=False` has no gain (nanochat style)."""

    def __init__(self, size: int, eps: float, affine: bool = True) -> None:
        super().__init__()
        self.size, self.eps = size, eps
        self.weight = nn.Parameter(torch.ones(size)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        normed = F.rms_norm(at_least_fp32(x), (self.size,), eps=self.eps).to(x.dtype)
        return normed if self.weight is None else normed * self.weight.to(x.dtype)


class LayerNorm(nn.Module):
    """LayerNorm over the last dimension, with gain and bias; `affine=False` has neither."""

    def __init__(self, size: int, eps: float, affine: bool = True) -> None:
        super().__init__()
        self.size, self.eps = size, eps
        self.weight = nn.Parameter(torch.ones(size)) if affine else None
        self.bias = nn.Parameter(torch.zeros(size)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        wide = at_least_fp32(x)
        gain, bias = (None if p is None else p.to(wide.dtype) for p in (self.weight, self.bias))
        return F.layer_norm(wide, (self.size,), gain, bias, self.eps).to(x.dtype)


def at_least_fp32(x: Tensor) -> Tensor:
    """bf16 and fp16 widened; fp32 and fp64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
