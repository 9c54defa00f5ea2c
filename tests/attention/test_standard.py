"""Softmax attention against its formula, and grouped heads against the multi-head attention they stand for."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bulba.attention import softmax
from bulba.attention.base import Kernel, MixerShape
from bulba.attention.softmax import causal_mask, flash_attention, reference_attention
from bulba.attention.standard import StandardAttention
from bulba.errors import UnsupportedError
from bulba.packing import document_mask
from tests.model.tiny import packed, tiny_gpt, tokens

Attend = Callable[[Tensor, Tensor, Tensor, "Tensor | None"], Tensor]


def by_loops(q_BNTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, mask_BTS: Tensor | None) -> Tensor:
    """The formula, one query at a time, in float64."""
    batch_size, num_heads, num_queries, head_dim = q_BNTD.shape
    num_keys, groups = k_BGSD.shape[2], num_heads // k_BGSD.shape[1]
    out = torch.zeros_like(q_BNTD)
    for b in range(batch_size):
        for n in range(num_heads):
            for t in range(num_queries):
                limit = t + 1 + num_keys - num_queries
                read = [s for s in range(limit) if mask_BTS is None or mask_BTS[b, t, s]]
                keys, values = k_BGSD[b, n // groups, read], v_BGSD[b, n // groups, read]
                weights = (keys @ q_BNTD[b, n, t] / math.sqrt(head_dim)).exp()
                out[b, n, t] = (weights / weights.sum()) @ values
    return out


@pytest.mark.parametrize("attend", [reference_attention, flash_attention])
@settings(deadline=None, max_examples=25)
@given(
    kv_heads=st.sampled_from([1, 2, 4]),
    num_queries=st.integers(1, 6),
    num_cached=st.integers(0, 5),
    is_packed=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equals_the_formula(
    attend: Attend, kv_heads: int, num_queries: int, num_cached: int, is_packed: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    num_keys = num_queries if is_packed else num_queries + num_cached
    q, k, v = (
        torch.randn(2, heads, length, 8, dtype=torch.float64, generator=generator)
        for heads, length in ((4, num_queries), (kv_heads, num_keys), (kv_heads, num_keys))
    )
    documents = torch.randint(3, (2, num_queries), generator=generator).sort(1).values if is_packed else None
    mask = None if documents is None else document_mask(documents)
    torch.testing.assert_close(attend(q, k, v, mask), by_loops(q, k, v, mask), rtol=1e-10, atol=1e-10)


def test_scores_do_not_overflow() -> None:
    q = torch.full((1, 1, 3, 8), 1e3)
    for attend in (reference_attention, flash_attention):
        torch.testing.assert_close(attend(q, q, q, None), q)


def test_the_last_query_stands_at_the_last_key() -> None:
    expected = torch.tensor([[True, True, True, False], [True, True, True, True]])
    assert torch.equal(causal_mask(2, 4, torch.device("cpu")), expected)


@pytest.mark.parametrize("kernel", ["reference", "flash"])
@pytest.mark.parametrize("kv_heads", [1, 2, 3])
def test_grouped_heads_equal_multi_head_attention_with_repeated_rows(kv_heads: int, kernel: str) -> None:
    grouped, whole = (tiny_gpt(kernel=kernel, num_kv_heads=heads) for heads in (kv_heads, 6))
    weights = grouped.state_dict()
    for name, weight in weights.items():
        if "k_proj" in name or "v_proj" in name:
            weights[name] = weight.view(kv_heads, 8, 48).repeat_interleave(6 // kv_heads, 0).reshape(48, 48)
    whole.load_state_dict(weights)
    with torch.no_grad():
        torch.testing.assert_close(grouped(tokens(2, 20)), whole(tokens(2, 20)), rtol=0, atol=2e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch lists its reasons as warnings
def test_flash_never_falls_back_to_the_unfused_kernel() -> None:
    # Values of another width than the keys have no fused kernel on a CPU, only torch's T x T one.
    q, v = torch.randn(1, 1, 4, 8), torch.randn(1, 1, 4, 6)
    assert torch.nn.functional.scaled_dot_product_attention(q, q, v, is_causal=True).shape == v.shape
    with pytest.raises(
        UnsupportedError, match=r"no fused attention kernel on cpu for 1 rows of 4 tokens, 1 heads over 1"
    ):
        flash_attention(q, q, v, None)


def attention(num_kv_heads: int) -> StandardAttention:
    return StandardAttention(MixerShape(hidden_size=48, num_heads=6, num_kv_heads=num_kv_heads, head_dim=8))


def choose(mixer: StandardAttention, kernel: Kernel = "flash") -> str:
    return mixer.choose_backend(kernel, False, 2, 16, torch.bfloat16, torch.device("cpu"))


def test_the_backend_is_the_one_that_runs() -> None:
    assert choose(attention(2)) == "cpu flash"
    assert choose(attention(2), "reference") == "reference"
    model = tiny_gpt(kernel="flash")
    assert model.choose_backend(False, 2, 16, torch.float32, torch.device("cpu")) == "cpu flash"
    with torch.profiler.profile() as profile:
        model(tokens(2, 16), *packed(6, 10))
    ran = {event.key for event in profile.key_averages() if "scaled_dot_product" in event.key}
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in ran
    assert not any("math" in name for name in ran)


def test_a_device_without_any_fused_kernel_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "fused_backend", lambda *tensors: None)
    message = (
        r"no fused attention kernel on cpu for 2 rows of 16 tokens, 6 heads over 2 key/value heads of width 8, in "
        r"bfloat16: choose mode=eager or mode=compile, or another trainer\.precision or model\.num_heads\."
    )
    with pytest.raises(UnsupportedError, match=message):
        choose(attention(2))


def test_where_no_fused_kernel_takes_grouped_heads_they_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def without_grouped_heads(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> str | None:
        seen.append((q.shape[1], k.shape[1], mask.shape))
        return "efficient" if q.shape[1] == k.shape[1] == v.shape[1] else None

    monkeypatch.setattr(softmax, "fused_backend", without_grouped_heads)
    model, plain = tiny_gpt(kernel="flash"), tiny_gpt(kernel="flash")
    repeated = model.choose_backend(False, 2, 16, torch.float32, torch.device("cpu"))
    assert repeated == "efficient, key/value heads repeated"
    assert seen[:2] == [(6, 2, (2, 16, 16)), (6, 6, (2, 16, 16))]
    rows, packing = tokens(1, 16), packed(6, 10)
    results = []
    for one in (model, plain):
        hidden = one(rows, *packing)
        results.append([hidden, *torch.autograd.grad(hidden.square().sum(), list(one.parameters()))])
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)
