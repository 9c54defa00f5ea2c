"""Ultrametric attention: the kernel alpha^LCP exactly, by a tree, in time that grows with the tokens."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.utils import counters

from bulba.attention import bucket_sums
from bulba.attention.bucket_sums import tree_sums
from bulba.attention.ultrametric import longest_common_prefix, reference_sums
from bulba.errors import ConfigError
from bulba.packing import document_mask
from tests.attention.cases import time_exponent
from tests.model.tiny import packed, tiny_gpt, tokens

NODE: dict[str, Any] = {
    "_target_": "bulba.attention.ultrametric.UltrametricAttention",
    "base": 3,
    "num_digits": 3,
    "initial_alpha": 6.0,
}


@pytest.fixture(autouse=True)
def _small_chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks so short that tests reach the tables between them."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(bucket_sums, "CHUNK", 4)


def model_with(**changes: Any) -> Any:
    return tiny_gpt(**{"attention": NODE, "kernel": "flash"} | changes)


def case(num_tokens: int, kv_heads: int, base: int, num_digits: int, seed: int) -> tuple[list[Tensor], Tensor]:
    """Soft digits of 4 query heads and of key heads, values with their 1, alpha; the documents."""
    draw = torch.Generator().manual_seed(seed)
    digits = [
        (3 * torch.randn(2, heads, num_tokens, num_digits, base, dtype=torch.float64, generator=draw)).softmax(-1)
        for heads in (4, kv_heads)
    ]
    v = torch.randn(2, kv_heads, num_tokens, 5, dtype=torch.float64, generator=draw)
    v = torch.cat([v, torch.ones_like(v[..., :1])], -1)
    alpha = 1 + 4 * torch.rand(4, dtype=torch.float64, generator=draw)
    documents = torch.randint(3, (2, num_tokens), generator=draw).sort(1).values
    return [*digits, v, alpha], documents


def telescoped(alpha_N: Tensor, num_digits: int) -> Tensor:
    powers = alpha_N[:, None] ** torch.arange(num_digits + 1, dtype=alpha_N.dtype)
    return torch.cat([powers[:, :1], powers.diff(dim=-1)], -1)


def by_loops(q_BNTLP: Tensor, k_BGTLP: Tensor, v_BGTE: Tensor, alpha_N: Tensor, documents_BT: Tensor) -> Tensor:
    """sum_j alpha^LCP(i, j) v_j, one pair at a time."""
    batch_size, num_heads, num_tokens = q_BNTLP.shape[:3]
    q, k = q_BNTLP.argmax(-1).tolist(), k_BGTLP.argmax(-1).tolist()
    out = torch.zeros(batch_size, num_heads, num_tokens, v_BGTE.shape[-1], dtype=v_BGTE.dtype)
    for b in range(batch_size):
        for n in range(num_heads):
            g = n // (num_heads // len(k[b]))
            for i in range(num_tokens):
                for j in range(i + 1):
                    if documents_BT[b, i] == documents_BT[b, j]:
                        lcp = 0
                        while lcp < len(q[b][n][i]) and q[b][n][i][lcp] == k[b][g][j][lcp]:
                            lcp += 1
                        out[b, n, i] += alpha_N[n] ** lcp * v_BGTE[b, g, j]
    return out


CASES = {
    "num_tokens": st.integers(1, 13),
    "kv_heads": st.sampled_from([1, 2, 4]),
    "base": st.integers(2, 4),
    "num_digits": st.integers(1, 3),
    "seed": st.integers(0, 1000),
}


@settings(deadline=None, max_examples=25)
@given(**CASES)
def test_the_tree_is_the_kernel(num_tokens: int, kv_heads: int, base: int, num_digits: int, seed: int) -> None:
    (q, k, v, alpha), documents = case(num_tokens, kv_heads, base, num_digits, seed)
    expected = by_loops(q, k, v, alpha, documents)
    weights = telescoped(alpha, num_digits)
    for sums in (
        tree_sums(q, k, v, weights, documents),
        reference_sums(q, k, v, weights, document_mask(documents)),
    ):
        torch.testing.assert_close(sums, expected, rtol=1e-11, atol=1e-11)


@settings(deadline=None, max_examples=25)
@given(is_packed=st.booleans(), **CASES)
def test_its_gradients_are_those_of_the_straight_through_kernel(
    num_tokens: int, kv_heads: int, base: int, num_digits: int, seed: int, is_packed: bool
) -> None:
    (q, k, v, alpha), documents = case(num_tokens, kv_heads, base, num_digits, seed)
    inputs = [one.requires_grad_() for one in (q, k, v, telescoped(alpha, num_digits))]
    sums = tree_sums(*inputs, documents if is_packed else None)
    expected = reference_sums(*inputs, document_mask(documents) if is_packed else None)
    grad = torch.randn(sums.shape, dtype=sums.dtype, generator=torch.Generator().manual_seed(seed))
    got, wanted = (torch.autograd.grad(value, inputs, grad) for value in (sums, expected))
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=50)
@given(base=st.integers(2, 5), num_digits=st.integers(1, 6), seed=st.integers(0, 10_000))
def test_distances_are_ultrametric(base: int, num_digits: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    leaves = torch.randint(base, (12, num_digits), generator=draw)
    lcp = longest_common_prefix(leaves[:, None], leaves)
    distance = torch.where(lcp == num_digits, 0.0, float(base) ** -lcp)
    assert torch.equal(distance, distance.T)
    # Of the three sides of a triangle the two longest are equal: [x, 1, z] <= max([x, y, 1], [1, y, z]).
    assert (distance[:, None] <= torch.maximum(distance[:, :, None], distance[None])).all()


@settings(deadline=None, max_examples=25)
@given(excess=st.floats(0.01, 50), num_digits=st.integers(1, 6))
def test_the_weights_of_the_levels_add_up_to_powers_of_alpha(excess: float, num_digits: int) -> None:
    node = NODE | {"base": 2, "num_digits": num_digits, "initial_alpha": 1 + excess}
    mixer = tiny_gpt(attention=node, num_layers=1, seed=0).mixers()[0].double()
    mixer.log_excess.data.fill_(math.log(excess))
    weights = mixer.level_weights().detach()
    assert (weights > 0).all()
    expected = (1 + excess) ** torch.arange(-num_digits, 1, dtype=torch.float64)
    torch.testing.assert_close(weights.cumsum(-1), expected.expand_as(weights))


@settings(deadline=None, max_examples=8)
@given(place=st.integers(1, 21), seed=st.integers(0, 100))
def test_what_is_behind_changes_no_bit_across_chunks(place: int, seed: int) -> None:
    model, rows = model_with(), tokens(2, 22, seed=seed)
    changed = rows.clone()
    changed[:, place] += 1 - 2 * (changed[:, place] == 102).long()
    with torch.no_grad():
        before, after = model(rows), model(changed)
    assert torch.equal(before[:, :place], after[:, :place])


def test_documents_that_span_chunks_are_as_alone() -> None:
    lengths, model = (3, 9, 1, 1, 6, 14), model_with()
    row = tokens(1, sum(lengths))
    with torch.no_grad():
        together = model(row, *packed(*lengths)).split(lengths, 1)
        for document, hidden in zip(row.split(lengths, 1), together, strict=True):
            torch.testing.assert_close(hidden, model(document), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kernel", ["reference", "flash"])
def test_decoding_keeps_bucket_sums_alone(kernel: str) -> None:
    model = model_with(kernel=kernel)
    row = tokens(2, 23)
    with torch.no_grad():
        caches = [model.new_cache(2, length) for length in (23, 60)]
        pieces = [model(piece, cache=caches[0]) for piece in row.split([9, 1, 1, 6, 1, 5], 1)]
        torch.testing.assert_close(torch.cat(pieces, 1), model(row), rtol=0, atol=2e-5)
    assert caches[0].layers[0].num_bytes == caches[1].layers[0].num_bytes


def test_compiled_across_chunks_it_is_the_same_without_a_recompile() -> None:
    model, plain = model_with(), model_with()
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=False)
    for lengths in ((5, 1, 10), (16,), (2, 14)):
        row = (tokens(1, 16), *packed(*lengths))
        got, expected = (one(*row) for one in (compiled, plain))
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
        grads = [
            torch.autograd.grad(out.square().sum(), list(one.parameters()))
            for out, one in ((got, model), (expected, plain))
        ]
        torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-3)
    assert counters["stats"]["unique_graphs"] == 1


def test_only_differences_of_positions_count() -> None:
    model, row = model_with(), tokens(1, 16)
    places = torch.arange(16)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(row, places + 31), model(row, places), rtol=1e-4, atol=1e-4)


def test_its_figures_are_a_tree() -> None:
    model, seen = model_with(num_layers=1), []
    mixer = model.mixers()[0]
    mixer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[:2]))
    with torch.no_grad():
        model(tokens(1, 10), *packed(4, 6))
    figures = mixer.figures(*seen[0])
    assert figures["key_digits_BGTL"].shape == (1, 2, 10, 3)
    assert (figures["lcp_BNTS"][0, :, 5, :4] == -1).all()
    own = longest_common_prefix(figures["query_digits_BNTL"][0, 5, 9], figures["key_digits_BGTL"][0, 1, 6])
    assert figures["lcp_BNTS"][0, 5, 9, 6] == own


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": 1}, "base must be at least 2"),
        ({"num_digits": 0}, "num_digits at least 1"),
        ({"base": 4, "num_digits": 7}, "4\\^7 leaves"),
        ({"initial_alpha": 1.0}, "initial_alpha=1.0 must be above 1"),
    ],
)
def test_trees_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_gpt(attention=NODE | changes)


@pytest.mark.slow
def test_time_grows_with_the_tokens() -> None:
    assert time_exponent(NODE | {"base": 4, "num_digits": 4}) < 1.25
