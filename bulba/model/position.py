"""Rotary positions (Su et al. 2021, arXiv 2104.09864), in the half-split layout of Hugging Face Llama.

Dimension d of a head is paired with d + D/2; the pair is turned by position * base^(-2d/D). Angles are
fp32, the turn at least. It does not scale positions for longer contexts.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_tables(positions_BT: Tensor, head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin, [B, 1, T, D/2] fp32, of the angle of every pair of dimensions at every position."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions_BT.device) / head_dim
    frequencies = 1.0 / base**exponents
    angles_B1TK = positions_BT[:, None, :, None].float() * frequencies
    return angles_B1TK.cos(), angles_B1TK.sin()


def rotate(x_BNTD: Tensor, cos_B1TK: Tensor, sin_B1TK: Tensor) -> Tensor:
    """Turn q or k, [B, heads, T, D], by the tables of `rotary_tables`."""
    wide_BNTD = x_BNTD.to(torch.promote_types(x_BNTD.dtype, cos_B1TK.dtype))
    first, second = wide_BNTD.chunk(2, -1)
    turned = (first * cos_B1TK - second * sin_B1TK, second * cos_B1TK + first * sin_B1TK)
    return torch.cat(turned, -1).to(x_BNTD.dtype)
