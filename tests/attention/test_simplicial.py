"""2-simplicial attention: equal to the naive cubic formula, true to RoPE, its windows, its memory, the 3-way match."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from bulba.attention import pair_blocks, simplicial
from bulba.attention.base import AttentionContext, MixerShape
from bulba.attention.pair_blocks import blocked_attention
from bulba.attention.simplicial import SimplicialAttention, flash_attention, reference_attention
from bulba.demo.simplicial import Kind, learn, match_rows, matches, one_layer, pair_scores
from bulba.errors import ConfigError
from bulba.model.position import rotary_frequencies, rotate
from bulba.stage.memory import StorageCounter
from tests.model.tiny import packed, tiny_gpt, tokens

Attend = Callable[..., Tensor]
KERNELS: list[Attend] = [reference_attention, blocked_attention]
KINDS: tuple[Kind, Kind] = ("standard", "simplicial")
windows = st.tuples(st.integers(1, 7), st.integers(1, 7))


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_blocks, "TILE", 2)
    monkeypatch.setattr(pair_blocks, "BLOCK", 6)


def complex_of(x: Tensor) -> Tensor:
    return torch.complex(*x.chunk(2, -1))


def naive(
    q: Tensor, keys_values: Any, sizes: tuple[int, int], documents: Tensor | None = None, slopes: Tensor | None = None
) -> Tensor:
    """The cubic formula: all triples of tokens at once, windows and documents by a mask."""
    k, v, k2, v2 = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in keys_values)
    num_queries = q.shape[2]
    back, back2 = (
        torch.arange(x.shape[2] - num_queries, x.shape[2])[:, None] - torch.arange(x.shape[2]) for x in (k, k2)
    )
    scores = torch.einsum("bnic,bnjc,bnkc->bnijk", complex_of(q).conj(), complex_of(k), complex_of(k2)).real
    scores = scores / math.sqrt(q.shape[-1])
    if slopes is not None:
        scores = scores - slopes[:, None, None, None] * (back[:, :, None] + back2[:, None, :])
    readable = ((back >= 0) & (back < sizes[0]))[:, :, None] & ((back2 >= 0) & (back2 < sizes[1]))[:, None, :]
    readable = readable[None]
    if documents is not None:
        same = documents[:, :, None] == documents[:, None]
        readable = readable & same[:, :, :, None] & same[:, :, None, :]
    weights = scores.masked_fill(~readable[:, None], -torch.inf).flatten(-2).softmax(-1).view_as(scores)
    return torch.einsum("bnijk,bnjd,bnkd->bnid", weights, v, v2)


def case(
    num_tokens: int, kv_heads: int, seed: int, before: tuple[int, int] = (0, 0), head_dim: int = 8
) -> tuple[Tensor, tuple[Tensor, ...], torch.Generator]:
    """q; k, v, k' and v' with so many tokens of a cache before them; a generator for the rest."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(4, num_tokens)] + [(kv_heads, num_tokens + n) for n in (before[0],) * 2 + (before[1],) * 2]
    q, *keys_values = (
        torch.randn(2, heads, length, head_dim, dtype=torch.float64, generator=generator).requires_grad_()
        for heads, length in sizes
    )
    return q, tuple(keys_values), generator


@pytest.mark.parametrize("attend", KERNELS)
@settings(deadline=None, max_examples=40)
@given(
    num_tokens=st.integers(1, 13),
    before=st.tuples(st.integers(0, 8), st.integers(0, 8)),
    kv_heads=st.sampled_from([1, 2, 4]),
    sizes=windows,
    kind=st.sampled_from(["plain", "packed", "alibi"]),
    seed=st.integers(0, 1000),
)
def test_output_and_gradients_are_those_of_the_cubic_formula(
    attend: Attend,
    num_tokens: int,
    before: tuple[int, int],
    kv_heads: int,
    sizes: tuple[int, int],
    kind: str,
    seed: int,
) -> None:
    q, keys_values, generator = case(num_tokens, kv_heads, seed, (0, 0) if kind == "packed" else before)
    documents = torch.randint(3, (2, num_tokens), generator=generator).sort(1).values if kind == "packed" else None
    slopes = torch.rand(4, dtype=q.dtype, generator=generator) if kind == "alibi" else None
    out, expected = (f(q, keys_values, sizes, documents, slopes) for f in (attend, naive))
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-11)
    grad = torch.randn(out.shape, dtype=out.dtype, generator=generator)
    got, wanted = (torch.autograd.grad(one, (q, *keys_values), grad) for one in (out, expected))
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)


def mixer(sizes: tuple[int, int], **changes: Any) -> SimplicialAttention:
    torch.manual_seed(0)
    options: dict[str, Any] = {"hidden_size": 16, "num_heads": 2, "num_kv_heads": 1, "head_dim": 8}
    made = SimplicialAttention(MixerShape(**(options | changes)), *sizes).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def at(positions: Tensor, kernel: Any = "flash") -> AttentionContext:
    """Rotary positions in float64."""
    angles = positions[None, None, :, None] * rotary_frequencies(8, 1e4, None, torch.device("cpu")).double()
    turn = partial(rotate, cos_B1TK=angles.cos(), sin_B1TK=angles.sin())
    return AttentionContext(turn, None, None, None, kernel)


@settings(deadline=None, max_examples=20)
@given(sizes=windows, shift=st.floats(-5000, 5000), seed=st.integers(0, 1000))
def test_scores_depend_on_differences_of_positions_only(sizes: tuple[int, int], shift: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 9, 16, dtype=torch.float64, generator=generator)
    positions = torch.rand(9, dtype=torch.float64, generator=generator).cumsum(0)
    here, there = (mixer(sizes).weights(x, at(places)) for places in (positions, positions + shift))
    torch.testing.assert_close(here, there, rtol=0, atol=1e-9)


def test_and_on_the_distances_of_both_keys() -> None:
    """What a plain trilinear product of turned factors does not keep, and what is not thrown away with it."""
    x = torch.randn(1, 9, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(9, dtype=torch.float64)
    made = mixer((9, 9))
    q, (k, _, k2, _) = made.project(x, at(positions))
    _, (_, _, moved_k2, _) = made.project(x, at(positions * 1.1))
    _, (moved_k, _, _, _) = made.project(x, at(positions * 1.1))
    weigh = lambda *keys: simplicial.pair_weights(q, *keys, (9, 9), None, None)  # noqa: E731
    assert (weigh(moved_k, k2) - weigh(k, k2)).abs().max() > 1e-3
    assert (weigh(k, moved_k2) - weigh(k, k2)).abs().max() > 1e-3
    turned = [at(places).rotate for places in (positions, positions + 1)]
    plain = [torch.einsum("bnid,bnjd,bnkd->bnijk", *map(turn, (q[:, :1], k, k2))) for turn in turned]
    assert (plain[0] - plain[1]).abs().max() > 1e-3


@pytest.mark.parametrize("kernel", ["reference", "flash"])
@settings(deadline=None, max_examples=20)
@given(sizes=windows, changed=st.integers(0, 15), seed=st.integers(0, 1000))
def test_nothing_beyond_the_windows_is_read(kernel: str, sizes: tuple[int, int], changed: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # So small that no weight is lost beside the others.
    x = 0.3 * torch.randn(1, 16, 16, dtype=torch.float64, generator=generator)
    other = x.clone()
    other[:, changed] = 0.3 * torch.randn(16, dtype=torch.float64, generator=generator)
    before, after = (mixer(sizes)(rows, at(torch.arange(16), kernel)) for rows in (x, other))
    differs = (before != after).any(-1)[0]
    expected = torch.zeros(16, dtype=torch.bool)
    expected[changed : changed + max(sizes)] = True
    assert torch.equal(differs, expected)


@settings(deadline=None, max_examples=15)
@given(num_tokens=st.integers(1, 12), sizes=windows, seed=st.integers(0, 1000))
def test_with_a_second_key_that_is_one_it_is_ordinary_attention_in_a_window(
    num_tokens: int, sizes: tuple[int, int], seed: int
) -> None:
    q, (k, v, k2, v2), _ = case(num_tokens, 4, seed)
    one = torch.cat([torch.ones_like(k2[..., :4]), torch.zeros_like(k2[..., 4:])], -1)
    got = blocked_attention(q, (k, v, one, torch.ones_like(v2)), sizes)
    inside = torch.ones(num_tokens, num_tokens, dtype=torch.bool).tril().triu(1 - sizes[0])
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=inside)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=15)
@given(num_tokens=st.integers(1, 12), sizes=windows, seed=st.integers(0, 1000))
def test_weights_are_a_distribution_whose_keys_inform_on_each_other(
    num_tokens: int, sizes: tuple[int, int], seed: int
) -> None:
    x = torch.randn(2, num_tokens, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    made, context = mixer(sizes), at(torch.arange(num_tokens))
    weights, figures = made.weights(x, context), made.figures(x, context)
    torch.testing.assert_close(weights.sum((-2, -1)), torch.ones(2, 2, num_tokens, dtype=torch.float64))
    assert (figures["mutual_information_BNT"] > -1e-9).all()
    assert (figures["entropy_BNT"] <= math.log(min(sizes[0], num_tokens) * min(sizes[1], num_tokens)) + 1e-9).all()
    torch.nn.init.zeros_(made.k2_proj.weight)  # every pair alike: the choice of one key says nothing of the other
    alone = made.figures(x, context)["mutual_information_BNT"]
    torch.testing.assert_close(alone, torch.zeros_like(alone), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kernel", ["reference", "flash"])
def test_windows_shorter_than_the_text_keep_documents_apart_and_decode_from_a_short_cache(kernel: str) -> None:
    node = {"_target_": "bulba.attention.simplicial.SimplicialAttention", "window1_tokens": 5, "window2_tokens": 3}
    model = tiny_gpt(attention=node, kernel=kernel).double()
    rows = tokens(1, 40)
    with torch.no_grad():
        whole = model(rows)
        cache = model.new_cache(1, 40)
        steps = [model(piece, cache=cache) for piece in rows.split([11, 1, 1, 2, 9, *[1] * 16], 1)]
        torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=0, atol=1e-5)
        alone = torch.cat([model(piece) for piece in rows.split([13, 1, 26], 1)], 1)
        torch.testing.assert_close(model(rows, *packed(13, 1, 26)), alone, rtol=0, atol=1e-5)
    assert [x.shape[2] for x in cache.layers[0].kept] == [4, 4, 2, 2]
    assert cache.layers[0].num_bytes == 2 * 2 * (4 + 2) * 8 * 8


def test_what_is_kept_grows_with_the_tokens_and_the_weights_of_all_pairs_never_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()  # the blocks of real use

    def peak_bytes(num_tokens: int) -> int:
        with FakeTensorMode(), StorageCounter() as counter:
            q, *rest = (torch.empty(1, n, num_tokens, 32, requires_grad=True) for n in (4, 2, 2, 2, 2))
            with counter.during("forward"):
                out = blocked_attention(q, tuple(rest), (64, 16))
            out.sum().backward()
        return max(peak["activations"] + peak["temporary"] for peak in counter.peaks.values())

    few, many = peak_bytes(512), peak_bytes(2048)
    assert many < 2 * few  # the weights of one block are most of it
    assert many - few < 4 * 4 * (2048 - 512) * 64 * 16 / 2  # bytes of half of the weights of all pairs


def test_scores_do_not_overflow() -> None:
    x = torch.full((1, 1, 9, 8), 1e3)
    for attend in KERNELS:
        torch.testing.assert_close(attend(x, (x, x, x, torch.ones_like(x)), (4, 3)), x)


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"attention\.window2_tokens=0 must be at least 1: a token always reads"):
        mixer((4, 0))


@settings(deadline=None, max_examples=30)
@given(modulus=st.integers(2, 200), num_tokens=st.integers(3, 12), seed=st.integers(0, 1000))
def test_one_head_of_width_two_sees_every_three_way_match(modulus: int, num_tokens: int, seed: int) -> None:
    numbers = torch.randint(modulus, (50, num_tokens), generator=torch.Generator().manual_seed(seed))
    expected = [any((c + a + b) % modulus == 0 for a, b in combinations(others, 2)) for *others, c in numbers.tolist()]
    assert matches(numbers, modulus).tolist() == expected
    is_one = pair_scores(numbers, modulus)[:, :-1, :-1] > 1 - 1e-9
    assert is_one.triu(1).flatten(1).any(1).tolist() == expected


def test_rows_of_the_match_are_half_and_half() -> None:
    numbers, truth = match_rows(100, 6, 11, torch.Generator().manual_seed(0))
    assert torch.equal(matches(numbers, 11), truth)
    assert truth.sum() == 50


@pytest.mark.slow
def test_one_layer_learns_the_three_way_match_that_one_standard_layer_of_its_size_does_not() -> None:
    sizes = {kind: one_layer(kind, 11, 6).get_num_params() for kind in KINDS}
    assert sizes["simplicial"] <= sizes["standard"]
    right = {kind: learn(kind, 11, 6, steps=800, rows=256)[-1][1] for kind in KINDS}
    assert right["simplicial"] > 0.93, right
    assert right["standard"] < 0.8, right


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("attend", [flash_attention, blocked_attention])
def test_on_a_card_it_is_as_near_to_the_formula_as_the_formula_in_its_dtype(
    attend: Attend, dtype: torch.dtype, compiled: bool
) -> None:
    q, keys_values, generator = case(200, 2, 0, head_dim=32)
    documents = torch.randint(3, (2, 200), generator=generator).sort(1).values.cuda()
    grad = torch.randn(q.shape, generator=generator).cuda()

    def run(attend: Attend, kind: torch.dtype) -> Tensor:
        tensors = [x.detach().to("cuda", kind).requires_grad_() for x in (q, *keys_values)]
        out = attend(tensors[0], tuple(tensors[1:]), (64, 16), documents)
        gradients = torch.autograd.grad(out, tensors, grad.to(kind))
        return torch.cat([x.double().flatten() for x in (out, *gradients)])

    fast = torch.compile(attend, fullgraph=True, dynamic=False) if compiled else attend
    truth = run(reference_attention, torch.float64)
    near, got = run(reference_attention, dtype), run(fast, dtype)
    assert (got - truth).norm() <= 1.5 * (near - truth).norm() + 1e-6 * truth.norm()
