"""What the attentions ask of the device: the folder has no Triton kernels, so torch computes the same without them."""

from __future__ import annotations

import torch


def runs_triton(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether Triton kernels take tensors of this kind."""
    return False
