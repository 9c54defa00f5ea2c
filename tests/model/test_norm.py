"""Norms against their formulas in float64, in every dtype that a model can have."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bulba.model.norm import LayerNorm, RMSNorm

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2e-2}


def expected(norm: Any, x: Tensor) -> Tensor:
    x = x.double()
    if isinstance(norm, RMSNorm):
        y = x / (x.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    else:
        centred = x - x.mean(-1, keepdim=True)
        y = centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    if norm.weight is not None:
        y = y * norm.weight.double()
    return y + norm.bias.double() if getattr(norm, "bias", None) is not None else y


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", [RMSNorm, LayerNorm])
def test_equals_the_formula(kind: Any, affine: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm = kind(32, eps=1e-5, affine=affine)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    norm = norm.to(dtype)
    x = (3 + 5 * torch.randn(4, 7, 32)).to(dtype)
    y = norm(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), expected(norm, x), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("kind", [RMSNorm, LayerNorm])
def test_eps_counts_where_the_input_is_small(kind: Any) -> None:
    norm = kind(2, eps=1.0)
    x = torch.tensor([[1e-3, -1e-3]])
    torch.testing.assert_close(norm(x), x, rtol=1e-5, atol=0)


def test_gainless_norms_have_no_weights() -> None:
    assert not list(RMSNorm(8, eps=1e-5, affine=False).parameters())
    assert not list(LayerNorm(8, eps=1e-5, affine=False).parameters())


def test_rms_norm_computes_in_fp32_even_in_bfloat16() -> None:
    # 300 squared is exact in fp32; in bfloat16 the mean of these squares would be off by far more than one step.
    x = torch.tensor([[300.0, 1.0, 301.0, 2.0]]).bfloat16()
    exact = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(RMSNorm(4, eps=1e-6).bfloat16()(x), exact.bfloat16(), rtol=0, atol=0)
