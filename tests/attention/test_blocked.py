"""Attention in blocks of queries: equal to the formula, its gradients too, in memory linear in the tokens."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bulba.attention import blocked
from bulba.attention.blocked import blocked_attention
from bulba.attention.softmax import reference_attention
from bulba.packing import document_mask
from tests.attention.cases import kept_bytes


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked, "QUERY_BLOCK", 4)


def case(num_tokens: int, kv_heads: int, dtype: torch.dtype, seed: int) -> tuple[list[Tensor], Tensor, Tensor]:
    """q, k, v, the documents, and a gradient of the output."""
    generator = torch.Generator().manual_seed(seed)
    tensors = [
        torch.randn(2, heads, num_tokens, 8, dtype=dtype, generator=generator).requires_grad_()
        for heads in (4, kv_heads, kv_heads)
    ]
    documents = torch.randint(3, (2, num_tokens), generator=generator).sort(1).values
    return tensors, documents, torch.randn(2, 4, num_tokens, 8, dtype=dtype, generator=generator)


def reference(tensors: list[Tensor], documents: Tensor | None) -> Tensor:
    mask = None if documents is None else document_mask(documents)
    q, k, v = tensors
    return reference_attention(q, k, v, mask)


@settings(deadline=None, max_examples=40)
@given(
    num_tokens=st.integers(1, 13),
    kv_heads=st.sampled_from([1, 2, 4]),
    is_packed=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_output_and_gradients_are_those_of_the_formula(
    num_tokens: int, kv_heads: int, is_packed: bool, seed: int
) -> None:
    tensors, packed, grad = case(num_tokens, kv_heads, torch.float64, seed)
    documents = packed if is_packed else None
    out, expected = blocked_attention(*tensors, documents), reference(tensors, documents)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)
    got, wanted = (torch.autograd.grad(value, tensors, grad) for value in (out, expected))
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


def test_compiled_in_bfloat16_is_as_near_to_the_formula_as_the_formula_in_bfloat16() -> None:
    tensors, documents, grad = case(11, 2, torch.bfloat16, seed=1)
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    truth = torch.autograd.grad(reference(exact, documents), exact, grad.double())

    def distances(out: Tensor) -> list[float]:
        found = torch.autograd.grad(out, tensors, grad)
        return [float((a.double() - b).norm() / b.norm()) for a, b in zip(found, truth, strict=True)]

    compiled = torch.compile(lambda q, k, v: blocked_attention(q, k, v, documents), fullgraph=True, dynamic=False)
    for ours, plain in zip(distances(compiled(*tensors)), distances(reference(tensors, documents)), strict=True):
        assert ours < 2 * plain < 0.02


def test_what_is_kept_for_the_backward_pass_grows_with_the_tokens_and_not_with_their_square() -> None:
    found = {}
    for length in (64, 256):
        tensors, documents, _ = case(length, 2, torch.float32, seed=0)
        found[length] = kept_bytes(partial(blocked_attention, *tensors, documents))
    assert found[256] == 4 * found[64]


def test_scores_do_not_overflow() -> None:
    x: Any = torch.full((1, 1, 6, 8), 1e3)
    torch.testing.assert_close(blocked_attention(x, x, x, None), x)
