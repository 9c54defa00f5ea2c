"""Gauge attention: a loop over transports, frames that may be chosen freely, rotary positions as a special case."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bulba.attention.base import MixerShape
from bulba.attention.gauge import GaugeAttention, rotary_generators, rotation, skew
from bulba.attention.softmax import reference_attention
from bulba.attention.transport import product, transpose
from bulba.errors import ConfigError
from bulba.model.position import rotary_frequencies, rotary_tables, rotate
from tests.attention.cases import KERNELS, SEEDS, context, draws

SHAPE = MixerShape(hidden_size=24, num_heads=4, num_kv_heads=2, head_dim=12)


def gauge(seed: int = 0, shape: MixerShape = SHAPE, **changes: Any) -> GaugeAttention:
    options: dict[str, Any] = {"block_size": 4, "transport_values": True, "scale": 1.0, "rope_base": 100.0} | changes
    torch.manual_seed(seed)
    return GaugeAttention(shape, **options).double()


def by_loop(mixer: GaugeAttention, x_BTH: Tensor, documents: Tensor) -> Tensor:
    """One row, as the spec has it: every transport is the product of the steps between."""
    q, k, v = (mixer.heads(proj(x_BTH))[0] for proj in (mixer.q_proj, mixer.k_proj, mixer.v_proj))
    size, width = mixer.block_size, mixer.shape.head_dim
    generators = mixer.generators(x_BTH)[0]
    small = torch.linalg.matrix_exp(skew(generators, size).movedim(-1, -3).contiguous())  # [G, T, L, M, M]
    rows = []
    for head in range(mixer.shape.num_heads):
        key_head = head * mixer.shape.num_kv_heads // mixer.shape.num_heads
        for i in range(x_BTH.shape[1]):
            readable = [j for j in range(i + 1) if documents[0, j] == documents[0, i]]
            scores, values = [], []
            for j in readable:
                transport = torch.eye(width, dtype=x_BTH.dtype)
                for t in range(j + 1, i + 1):
                    transport = by_groups(small[key_head, t]) @ transport
                scores.append(q[head, i] @ transport @ k[key_head, j] / width**0.5)
                values.append((transport if mixer.transport_values else torch.eye(width).double()) @ v[key_head, j])
            rows.append(torch.stack(scores).softmax(0) @ torch.stack(values))
    return mixer.merge(torch.stack(rows).unflatten(0, (mixer.shape.num_heads, -1))[None])


def by_groups(blocks_LMM: Tensor) -> Tensor:
    """The D x D matrix of a head: block l acts on coordinates l, l + L, l + 2 L, ..."""
    num_groups, size, _ = blocks_LMM.shape
    order = torch.arange(num_groups * size).view(size, num_groups).T.flatten()
    matrix = torch.zeros(num_groups * size, num_groups * size, dtype=blocks_LMM.dtype)
    return matrix.index_put((order[:, None], order), torch.block_diag(*blocks_LMM))


@settings(deadline=None, max_examples=6)
@given(size=st.sampled_from([2, 3, 4]), values=st.booleans(), kernel=KERNELS, seed=SEEDS)
def test_equals_a_loop_over_transports_with_gradients(size: int, values: bool, kernel: str, seed: int) -> None:
    mixer = gauge(seed, block_size=size, transport_values=values)
    x = draws(seed, 1, 7, 24).requires_grad_()
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    weights = (x, *mixer.parameters())
    results = []
    for out in (mixer(x, context(documents, kernel)), by_loop(mixer, x, documents)):
        results.append((out, *torch.autograd.grad(out.square().sum(), weights)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-8, atol=1e-9)


@settings(deadline=None, max_examples=15)
@given(size=st.sampled_from([2, 3, 4, 8]), length=st.sampled_from([0.0, 1e-9, 1e-3, 1.0, 30.0]), seed=SEEDS)
def test_steps_are_exponentials_and_rotations(size: int, length: float, seed: int) -> None:
    generators = (length * draws(seed, 5, size * (size - 1) // 2, 3)).requires_grad_()
    steps = rotation(generators, size)
    expected = torch.linalg.matrix_exp(skew(generators, size).movedim(-1, -3).contiguous()).movedim(-3, -1)
    torch.testing.assert_close(steps, expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(
        product(steps, transpose(steps)), torch.eye(size).double()[:, :, None].expand_as(steps), rtol=0, atol=1e-11
    )
    grad = draws(seed + 1, *steps.shape)
    got, wanted = (torch.autograd.grad(out, generators, grad)[0] for out in (steps, expected))
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)


def turned(changes: Tensor, x: Tensor) -> Tensor:
    """g x, with one g for the query heads of each key head; changes [B, G, T, M, M, L]."""
    wide = x.unflatten(-1, (changes.shape[-2], -1)).unflatten(1, (changes.shape[1], -1))
    return torch.einsum("bgtmkl,bghtkl->bghtml", changes, wide).flatten(-2).flatten(1, 2)


@settings(deadline=None, max_examples=15)
@given(size=st.sampled_from([2, 3, 4]), rope=st.booleans(), kernel=KERNELS, seed=SEEDS)
def test_other_frames_turn_the_output_and_change_nothing_else(size: int, rope: bool, kernel: str, seed: int) -> None:
    mixer, num_tokens = gauge(block_size=size), 40
    documents = (torch.arange(num_tokens) >= 13).long().expand(2, -1)
    q, k, v = (draws(seed + n, 2, heads, num_tokens, 12) for n, heads in enumerate((4, 2, 2)))
    pairs, groups = size * (size - 1) // 2, 12 // size
    steps, changes = (rotation(draws(seed + n, 2, 2, num_tokens, pairs, groups), size) for n in (3, 4))
    before = changes.roll(1, 2)  # at the start of a document any frame will do ...
    if rope:  # ... unless positions turn what is seen from there
        for start in (0, 13):
            before[:, :, start] = torch.eye(size)[..., None]
    new_steps = product(product(changes, steps), transpose(before))
    cos, sin = rotary_tables(torch.arange(num_tokens)[None], 12, 100.0)
    seen = context(documents, kernel, partial(rotate, cos_B1TK=cos, sin_B1TK=sin) if rope else lambda x: x)
    y = mixer.attend(q, k, v, steps, seen)
    new_y = mixer.attend(*(turned(changes, x) for x in (q, k, v)), new_steps, seen)
    torch.testing.assert_close(new_y, turned(changes, y), rtol=0, atol=1e-6 if rope else 1e-12)


@settings(deadline=None, max_examples=8)
@given(size=st.sampled_from([2, 4, 8]), base=st.sampled_from([100.0, 1e4]), seed=SEEDS)
def test_constant_commuting_generators_are_rotary_positions(size: int, base: float, seed: int) -> None:
    shape = MixerShape(hidden_size=64, num_heads=4, num_kv_heads=2, head_dim=16)
    mixer = gauge(shape=shape, block_size=size, transport_values=False, rope_base=base)
    torch.nn.init.zeros_(mixer.generator_proj.weight)
    x = draws(seed, 1, 200, 64)
    q, k, v = (mixer.heads(proj(x)) for proj in (mixer.q_proj, mixer.k_proj, mixer.v_proj))
    # The tables of position.py are fp32; the same angles in float64 take the comparison to its end.
    angles = torch.arange(200).double()[:, None] * rotary_frequencies(16, base, None, x.device).double()
    for cos, sin, atol in (
        (angles.cos(), angles.sin(), 1e-11),
        (*rotary_tables(torch.arange(200)[None], 16, base), 1e-5),
    ):
        expected = mixer.merge(reference_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, None))
        torch.testing.assert_close(mixer(x, context()), expected, rtol=0, atol=atol)


def test_its_first_constants_are_the_frequencies_of_rotary_positions() -> None:
    generators = rotary_generators(2, 8, 1e4)
    assert torch.equal(-generators[0], rotary_frequencies(16, 1e4, None, generators.device))


@settings(deadline=None, max_examples=10)
@given(shift=st.integers(1, 500), seed=SEEDS)
def test_with_rotary_positions_only_their_differences_count(shift: int, seed: int) -> None:
    mixer, x, results = gauge(), draws(seed, 1, 20, 24), []
    for first in (0, shift):
        angles = (
            torch.arange(first, first + 20).double()[:, None] * rotary_frequencies(12, 1e4, None, x.device).double()
        )
        turn = partial(rotate, cos_B1TK=angles.cos(), sin_B1TK=angles.sin())
        results.append(mixer(x, context(rotate=turn)))
    torch.testing.assert_close(*results, rtol=0, atol=1e-10)


def test_figures() -> None:
    x, documents = draws(0, 1, 9, 24), torch.tensor([[0] * 4 + [1] * 5])
    for size in (2, 4):
        figures = gauge(block_size=size).figures(x, context(documents))
        assert all(figure.shape == (1, 2, 9, 12 // size) and not figure.requires_grad for figure in figures.values())
        assert torch.equal(figures["turn_BGTL"][:, :, 4], figures["step_BGTL"][:, :, 4])
        assert figures["holonomy_BGTL"][:, :, [0, 4]].max() == 0
        assert (figures["holonomy_BGTL"].max() > 0.1) == (size == 4)
    mixer = gauge(block_size=2)
    torch.nn.init.zeros_(mixer.generator_proj.weight)
    torch.testing.assert_close(mixer.figures(x, context())["step_BGTL"][0, 0, 0], mixer.constant[:6].detach().abs())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_size": 5}, r"attention\.block_size=5 must be at least 2 and divide the head width, which is 12"),
        ({"block_size": 1}, r"attention\.block_size=1 must be at least 2"),
        ({"scale": 0.0}, r"attention\.scale=0\.0 must be above 0"),
        ({"rope_base": -1.0}, r"attention\.rope_base=-1\.0 must be above 0, or null"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        gauge(**changes)
