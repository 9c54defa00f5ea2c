"""Positions: a query meets a rotated key by their distance alone; the other schemes equal their published forms."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bulba.attention.standard import StandardAttention
from bulba.errors import ConfigError, UnsupportedError
from bulba.model.position import alibi_slopes, rotary_tables, rotate, sinusoidal
from tests.model.tiny import packed, tiny_gpt, tokens


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


def test_sinusoids_equal_the_published_form_and_have_no_weights() -> None:
    table = sinusoidal(torch.tensor([[0, 3, 70]]), 6, 1e4)[0]
    for row, position in enumerate((0, 3, 70)):
        for pair in range(3):
            angle = position / 1e4 ** (2 * pair / 6)
            assert table[row, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert table[row, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)
    model, plain = tiny_gpt(position="sinusoidal"), tiny_gpt(position="none", rope_base=None)
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_learned_positions_are_a_table() -> None:
    model = tiny_gpt(position="learned", rope_base=None)
    assert model.embed_positions.weight.shape == (64, 48)
    rows = tokens(1, 5)
    with torch.no_grad():
        before = model(rows)
        model.embed_positions.weight[3] += 1
        after = model(rows)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before[:, 3], after[:, 3])


@pytest.mark.parametrize(("heads", "expected"), [(8, [2**-n for n in range(1, 9)]), (1, [2**-8])])
def test_alibi_slopes_are_the_published_sequence(heads: int, expected: list[float]) -> None:
    assert alibi_slopes(heads, torch.device("cpu")).tolist() == expected


def test_alibi_slopes_of_other_numbers_of_heads() -> None:
    assert alibi_slopes(6, torch.device("cpu")).tolist() == [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]


@pytest.mark.parametrize("kernel", ["reference", "flash"])
def test_alibi_takes_the_slope_times_the_distance_off_every_score(kernel: str) -> None:
    """With equal keys and distinct values, a head reads the token at distance d with weight e^(-slope d)."""
    model = tiny_gpt(position="alibi", rope_base=None, num_layers=1, kernel=kernel)
    mixer = model.mixers()[0]
    seen: list[Tensor] = []
    mixer.o_proj.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        mixer.k_proj.weight.zero_()
        mixer.v_proj.register_forward_hook(lambda module, inputs, out: torch.eye(16).expand(1, 16, 16))
        model(tokens(1, 16), *packed(6, 10))
    for head, slope in enumerate(alibi_slopes(6, torch.device("cpu")).tolist()):
        for query, start in ((3, 0), (5, 0), (6, 6), (15, 6)):
            weights = [math.exp(-slope * (query - key)) if start <= key <= query else 0.0 for key in range(16)]
            first = 0 if head < 3 else 8  # values of a key head are 8 of the 16 columns
            read = seen[0][0, query, 8 * head : 8 * head + 8]
            expected = torch.tensor(weights)[first : first + 8] / sum(weights)
            torch.testing.assert_close(read, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("position", ["sinusoidal", "learned", "alibi", "none"])
@pytest.mark.parametrize("kernel", ["reference", "flash"])
def test_every_scheme_keeps_documents_apart_and_decodes(position: Any, kernel: str) -> None:
    base = 1e4 if position == "sinusoidal" else None
    model = tiny_gpt(position=position, rope_base=base, kernel=kernel)
    rows = tokens(1, 16)
    with torch.no_grad():
        alone = [model(piece) for piece in rows.split([6, 10], 1)]
        torch.testing.assert_close(model(rows, *packed(6, 10)), torch.cat(alone, 1), rtol=0, atol=2e-5)
        cache = model.new_cache(1, 16)
        steps = [model(piece, cache=cache) for piece in rows.split([7, 1, 1, 6, 1], 1)]
        torch.testing.assert_close(torch.cat(steps, 1), model(rows), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position": "polar"}, r"model\.position=polar must be one of rope, sinusoidal, learned, alibi, none"),
        ({"position": "alibi"}, r"model\.rope_base=10000\.0 does nothing with model\.position=alibi: set model"),
        ({"rope_base": None}, r"model\.rope_base=None must be above 0 for model\.position=rope"),
        (
            {"position": "none", "rope_base": None, "rope_scaling": {"type": "linear"}},
            r"model\.rope_scaling does nothing with model\.position=none: set it to null",
        ),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "and original_max_seq_len is missing or unknown"),
        (
            {"rope_scaling": {"type": "ntk", "factor": 2.0, "original_max_seq_len": 64}},
            r"rope_scaling\.type=ntk must be linear or yarn",
        ),
        (
            {"rope_scaling": {"type": "yarn", "factor": 0.5, "original_max_seq_len": 64}},
            r"rope_scaling\.factor=0\.5 must be at least 1",
        ),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2.0, "original_max_seq_len": 0}},
            r"rope_scaling\.original_max_seq_len=0 must be above 0",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_gpt(**changes)


def test_an_attention_without_slopes_refuses_alibi(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = dataclasses.replace(StandardAttention.capabilities, alibi=False)
    monkeypatch.setattr(StandardAttention, "capabilities", declared)
    with pytest.raises(UnsupportedError, match=r"layer 0 \(StandardAttention\) cannot take the slopes of ALiBi"):
        tiny_gpt(position="alibi", rope_base=None)
