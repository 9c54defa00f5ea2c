"""Rotary positions: a query meets a key by their distance alone."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bulba.model.position import rotary_tables, rotate


def rotated(x_D: Tensor, position: int, base: float) -> Tensor:
    tables = rotary_tables(torch.tensor([[position]]), x_D.shape[0], base)
    return rotate(x_D.view(1, 1, 1, -1), *tables).flatten()


@settings(deadline=None)
@given(
    i=st.integers(0, 200),
    j=st.integers(0, 200),
    shift=st.integers(0, 200),
    half_dim=st.integers(1, 16),
    base=st.floats(10, 1e6),
    seed=st.integers(0, 1000),
)
def test_the_product_depends_on_the_distance_only(
    i: int, j: int, shift: int, half_dim: int, base: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 2 * half_dim, dtype=torch.float64, generator=generator)
    here = rotated(q, i, base) @ rotated(k, j, base)
    there = rotated(q, i + shift, base) @ rotated(k, j + shift, base)
    assert abs(here - there) < 5e-5 * q.norm() * k.norm()


@settings(deadline=None)
@given(position=st.integers(0, 100_000), seed=st.integers(0, 1000))
def test_turning_keeps_the_length_and_position_zero_turns_nothing(position: int, seed: int) -> None:
    x = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(rotated(x, position, 1e4).norm(), x.norm(), rtol=1e-6, atol=0)
    assert torch.equal(rotated(x, 0, 1e4), x)


def test_by_hand_dimension_d_turns_with_dimension_d_plus_half() -> None:
    x = torch.tensor([1.0, 0.0, 0.0, 2.0], dtype=torch.float64)
    # base 100, so the frequencies are 1 and 1/10; pairs are (x0, x2) and (x1, x3).
    angles = torch.tensor([3.0, 0.3], dtype=torch.float64)
    cos, sin = angles.cos(), angles.sin()
    expected = torch.stack([cos[0], -2 * sin[1], sin[0], 2 * cos[1]])
    torch.testing.assert_close(rotated(x, 3, 100.0), expected, rtol=1e-6, atol=1e-7)
