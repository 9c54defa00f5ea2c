"""What stands in for compiled code in the plan of memory has the tensors of the real thing."""

from __future__ import annotations

import pytest
import torch

from bulba.stage.losses import chunk_loss
from bulba.stage.memory import fused_chunk_loss


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("logit_cap", [None, 15.0])
def test_the_compiled_loss_gives_back_what_the_loss_does(dtype: torch.dtype, logit_cap: float | None) -> None:
    hidden_NH, weight_VH = torch.randn(6, 8, dtype=dtype), torch.randn(10, 8, dtype=dtype)
    targets_N = torch.arange(6)
    real = chunk_loss(hidden_NH, weight_VH, targets_N, True, logit_cap)
    planned = fused_chunk_loss(hidden_NH, weight_VH, targets_N, True, logit_cap)
    for one, other in zip(planned, real, strict=True):
        assert one is not None
        assert other is not None
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
