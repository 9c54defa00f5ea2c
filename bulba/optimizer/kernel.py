"""Which of torch's implementations of an optimizer step runs: `fused` where it can, else `foreach`."""

from __future__ import annotations

import torch
from torch.optim import Optimizer

from bulba.optimizer.groups import NamedParameters

FUSED_DEVICES = ("cpu", "cuda")
FUSED_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def choose_kernel(named_parameters: NamedParameters) -> dict[str, bool]:
    """Options of a torch optimizer: `fused` where every weight allows it, else `foreach`."""
    parameters = [parameter for _, parameter in named_parameters]
    fused = all(p.device.type in FUSED_DEVICES and p.dtype in FUSED_DTYPES for p in parameters)
    return {"fused": True} if fused else {"foreach": True}


def unscale_before_step(optimizer: Optimizer) -> None:
    """Have fp16 gradients unscaled before the step, as clipping needs it, not inside the fused kernel."""
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
