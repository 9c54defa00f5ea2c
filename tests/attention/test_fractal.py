"""Fractal attention: a window and a dyadic tree of blocks, against loops; a map that contracts; addresses apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bulba.attention.base import AttentionContext
from bulba.attention.dyadic import Contraction, document_positions, norm_bound
from bulba.attention.fractal import FractalAttention
from bulba.attention.standard import StandardAttention
from bulba.demo import fractal as demo
from bulba.demo.run import watch
from bulba.errors import ConfigError
from tests.attention.cases import time_exponent
from tests.model.tiny import packed, tiny_gpt, tokens

NODE: dict[str, Any] = {"_target_": "bulba.attention.fractal.FractalAttention", "window": 3, "contraction": 0.9}


def model_with(**changes: Any) -> Any:
    return tiny_gpt(**{"attention": NODE, "kernel": "flash"} | changes)


def by_loops(mixer: Any, q_ND: Tensor, k_TGD: Tensor, v_TGD: Tensor, token: int) -> Tensor:
    """What the token reads, in a document of its own: [N, D]."""

    def block(values_TGD: Tensor, pool: Callable[[Tensor, Tensor], Tensor], first: int, size: int) -> Tensor:
        if size == 1:
            return values_TGD[first]
        half = size // 2
        return pool(block(values_TGD, pool, first, half), block(values_TGD, pool, first + half, half))

    first_near = max(token - mixer.window + 1, 0)
    read = [(k_TGD[j], v_TGD[j], 0) for j in range(first_near, token + 1)]
    begin = 0
    for level in reversed(range(20)):
        if first_near - begin >= 2**level:
            pools = ((k_TGD, mixer.pool_k), (v_TGD, mixer.pool_v))
            read.append((*(block(values, pool, begin, 2**level) for values, pool in pools), level))
            begin += 2**level
    assert begin == first_near
    heads = []
    for n, q_D in enumerate(q_ND):
        g = n // (len(q_ND) // k_TGD.shape[1])
        scores = [q_D @ k[g] / math.sqrt(len(q_D)) + mixer.level_bias[n] * level for k, _, level in read]
        heads.append(sum(weight * v[g] for weight, (_, v, _) in zip(torch.stack(scores).softmax(0), read, strict=True)))
    return torch.stack(heads)


def mixer_of(window: int, kv_heads: int, seed: int) -> Any:
    """A mixer of 4 heads in float64 whose maps are no longer the mean they start as."""
    sizes = {"num_heads": 4, "num_kv_heads": kv_heads, "num_layers": 1, "hidden_size": 32}
    mixer = model_with(attention=NODE | {"window": window}, seed=seed, **sizes).mixers()[0].double()
    with torch.no_grad():
        for pool in (mixer.pool_k, mixer.pool_v):
            pool.weight.add_(0.3 * torch.randn_like(pool.weight))
            pool.offset.normal_()
    return mixer


@pytest.mark.parametrize("kernel", ["reference", "flash"])
@settings(deadline=None, max_examples=12)
@given(
    lengths=st.lists(st.integers(1, 14), min_size=1, max_size=3),
    window=st.integers(1, 5),
    kv_heads=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 1000),
)
def test_equals_the_tree_by_loops(kernel: Any, lengths: list[int], window: int, kv_heads: int, seed: int) -> None:
    mixer, num_tokens = mixer_of(window, kv_heads, seed), sum(lengths)
    draw = torch.Generator().manual_seed(seed)
    inputs = [
        torch.randn(1, num_tokens, heads, 8, dtype=torch.float64, generator=draw).requires_grad_()
        for heads in (4, kv_heads, kv_heads)
    ]
    _, documents_BT = packed(*lengths)
    context = AttentionContext(lambda x: x, documents_BT, None, None, kernel)
    y_TND = mixer.attend(*inputs, context)[0]
    q, k, v = (one[0] for one in inputs)
    expected, first = [], 0
    for length in lengths:
        part = slice(first, first + length)
        expected += [by_loops(mixer, q[part][i], k[part], v[part], i) for i in range(length)]
        first += length
    torch.testing.assert_close(y_TND, torch.stack(expected), rtol=1e-10, atol=1e-10)
    learned = [*inputs, *(weight for name, weight in mixer.named_parameters() if "proj" not in name)]
    grad = torch.randn(y_TND.shape, dtype=y_TND.dtype, generator=draw)
    got, wanted = (
        torch.autograd.grad(value, learned, grad, allow_unused=True, materialize_grads=True)
        for value in (y_TND, torch.stack(expected))
    )
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(size=st.integers(1, 9), factor=st.floats(0.05, 0.99), scale=st.floats(0.01, 100), seed=st.integers(0, 1000))
def test_the_map_contracts_whatever_its_weights_and_ends_at_its_fixed_point(
    size: int, factor: float, scale: float, seed: int
) -> None:
    torch.manual_seed(seed)
    pool = Contraction(size, factor).double()
    with torch.no_grad():
        pool.weight.copy_(scale * torch.randn(size, 2 * size))
        pool.offset.normal_()
        left, right = pool.matrix().chunk(2, 1)
        for matrix in (left, right):
            assert torch.linalg.matrix_norm(matrix, 2) <= norm_bound(matrix) * (1 + 1e-9)
        assert sum(torch.linalg.matrix_norm(matrix, 2) for matrix in (left, right)) <= factor + 1e-9
        one, other = (torch.randn(2, size).double() for _ in range(2))
        apart = (one - other).norm(dim=-1).max()
        assert (pool(*one) - pool(*other)).norm() <= (factor + 1e-9) * apart
        fixed = torch.linalg.solve(torch.eye(size).double() - left - right, pool.offset)
        starts = 100 * torch.randn(5, size).double()
        steps = math.ceil(math.log(1e-12) / math.log(factor))
        for _ in range(steps):
            starts = pool(starts, starts)
    torch.testing.assert_close(starts, fixed.expand_as(starts), rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=10)
@given(token=st.integers(0, 15), seed=st.integers(0, 100))
def test_a_block_knows_its_own_addresses_alone_and_each_the_less_the_higher_it_is(token: int, seed: int) -> None:
    mixer = mixer_of(3, 2, seed)
    positions = torch.arange(24)[None]
    draw = torch.Generator().manual_seed(seed)
    k = torch.randn(1, 24, 2, 8, dtype=torch.float64, generator=draw)
    moved = k.clone()
    moved[:, token] += torch.randn(2, 8, dtype=torch.float64, generator=draw)
    with torch.no_grad():
        change = (mixer.blocks(moved, k, positions)[0] - mixer.blocks(k, k, positions)[0]).norm(dim=-1)[0]
    offset = 0
    for level in range(mixer.num_levels(24)):
        closed = change[offset : offset + (24 >> level)]
        under = torch.arange(24 >> level) == token >> level
        assert (closed[~under] == 0).all()
        assert (closed[under] <= 0.9**level * change[token] + 1e-12).all()
        offset += -(-24 // 2**level)


@settings(deadline=None, max_examples=25)
@given(num_tokens=st.integers(1, 300), window=st.integers(1, 40))
def test_every_query_reads_the_tokens_behind_its_window_once_in_as_many_blocks_as_the_number_has_bits(
    num_tokens: int, window: int
) -> None:
    mixer = mixer_of(window, 1, 0)
    ends = torch.arange(num_tokens)[None]
    reads, blocks = mixer.far_reads(ends)
    offsets = [0]
    for level in range(reads.shape[-1]):
        offsets.append(offsets[-1] + -(-num_tokens // 2**level))
    for token in range(num_tokens):
        behind = max(token - window + 1, 0)
        assert reads[0, token].sum() == behind.bit_count()
        seen = sorted(
            place
            for level in reads[0, token].nonzero().flatten().tolist()
            for place in range(
                (int(blocks[0, token, level]) - offsets[level]) * 2**level,
                (int(blocks[0, token, level]) - offsets[level] + 1) * 2**level,
            )
        )
        assert seen == list(range(behind))


@settings(deadline=None, max_examples=6)
@given(pieces=st.lists(st.integers(1, 9), min_size=1, max_size=6), window=st.integers(1, 5))
def test_decoding_keeps_a_window_and_the_bits_of_a_counter(pieces: list[int], window: int) -> None:
    model, row = model_with(attention=NODE | {"window": window}), tokens(2, sum(pieces))
    cache = model.new_cache(2, 60)
    with torch.no_grad():
        found = [model(piece, cache=cache) for piece in row.split(pieces, 1)]
        torch.testing.assert_close(torch.cat(found, 1), model(row), rtol=0, atol=2e-5)
    tokens_kept = cache.layers[0].num_bytes / (2 * 2 * 2 * 8 * 4)
    assert tokens_kept == window + (60 - window).bit_length()


@settings(deadline=None, max_examples=8)
@given(place=st.integers(1, 21), window=st.integers(1, 6))
def test_what_is_behind_changes_no_bit(place: int, window: int) -> None:
    model, rows = model_with(attention=NODE | {"window": window}), tokens(2, 22)
    changed = rows.clone()
    changed[:, place] += 1 - 2 * (changed[:, place] == 102).long()
    with torch.no_grad():
        before, after = model(rows), model(changed)
    assert torch.equal(before[:, :place], after[:, :place])


def test_positions_are_counted_from_the_start_of_each_document() -> None:
    assert document_positions(torch.tensor([[4, 4, 4, 7, 9, 9]])).tolist() == [[0, 1, 2, 0, 0, 1]]


def test_its_figures_are_the_weight_of_every_level_and_the_norms_of_its_maps() -> None:
    seen = watch(model_with(num_layers=1), tokens(1, 14))[0]
    figures = seen.mixer.figures(seen.x_BTH, seen.context)
    far_BTNh = figures["far_weight_BTNh"]
    assert far_BTNh.shape == (1, 14, 6, 4)
    for token in range(14):
        levels = [level for level in range(4) if far_BTNh[0, token, 0, level] > 0]
        assert sum(2**level for level in levels) == max(token - 2, 0)
    assert (figures["pool_norms"] < 0.9 + 1e-6).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"window": 0}, "window=0 must be at least 1"), ({"contraction": 1.0}, "above 0 and below 1")],
)
def test_what_is_no_contraction_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_gpt(attention=NODE | changes)


@pytest.mark.slow
def test_a_task_at_other_addresses_disturbs_it_less_than_standard() -> None:
    lost = {}
    for name, make in (
        ("fractal", lambda: FractalAttention(demo.SHAPE, window=4, contraction=0.95)),
        ("standard", lambda: StandardAttention(demo.SHAPE)),
    ):
        accuracies = [demo.forgetting(make, seed) for seed in range(10, 15)]
        assert all(before > 1 / demo.KINDS for before, _ in accuracies)
        lost[name] = statistics.mean(before - after for before, after in accuracies)
    assert lost["fractal"] < lost["standard"] / 1.5


@pytest.mark.slow
def test_time_grows_with_the_tokens() -> None:
    assert time_exponent(NODE | {"window": 64}) < 1.25
