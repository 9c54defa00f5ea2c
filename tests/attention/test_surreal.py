"""Attention of truncated numbers: equal to the Taylor series of ordinary attention, and the laws of the numbers."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import jacfwd

from bulba.attention import surreal
from bulba.attention.base import MixerShape
from bulba.attention.surreal import SurrealAttention, is_less, multiply, surreal_attention
from bulba.errors import ConfigError
from tests.attention.cases import DRAWN, SEEDS, Drawn, assert_equal_with_gradients, assert_same_on_cuda, kept_bytes
from tests.model.tiny import packed, tiny_gpt, tokens

KERNELS = [surreal.reference_attention, surreal_attention]
WIDTH = 4
counts = st.integers(1, 3)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surreal, "QUERY_BLOCK", 4)


def case(seed: int, levels: int, kv_heads: int = 2) -> list[Tensor]:
    """q, k and v, their levels one after another."""
    return Drawn(seed, kv_heads=kv_heads).queries_keys_values(levels * WIDTH)


def at(x: Tensor, levels: int, epsilon: Any) -> Tensor:
    """The number with 1 / omega = epsilon: sum_n epsilon^n x^(n)."""
    powers = torch.stack([torch.as_tensor(epsilon, dtype=x.dtype) ** n for n in range(levels)])
    return (x.unflatten(-1, (levels, -1)) * powers[:, None]).sum(-2)


def ordinary(tensors: list[Tensor], levels: int, documents: Tensor | None, slopes: Tensor | None, eps: Any) -> Tensor:
    """Softmax attention of the numbers at a numeric 1 / omega, by one einsum each."""
    q, k, v = (at(x, levels, eps) for x in tensors)
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    places = torch.arange(k.shape[2])
    distance = places[k.shape[2] - q.shape[2] :, None] - places
    readable = (distance >= 0)[None, None]
    if documents is not None:
        readable = readable & (documents[:, :, None] == documents[:, None])[:, None]
    scores = torch.einsum("bnid,bnjd->bnij", q, k) / math.sqrt(WIDTH)
    if slopes is not None:
        scores = scores - slopes[:, None, None] * distance
    return torch.einsum("bnij,bnjd->bnid", scores.masked_fill(~readable, -torch.inf).softmax(-1), v)


def by_taylor(tensors: list[Tensor], levels: int, documents: Tensor | None, slopes: Tensor | None) -> Tensor:
    """y^(n) is the n-th Taylor coefficient of ordinary attention in 1 / omega, and that is all the theory there is."""

    def run(epsilon: Tensor) -> Tensor:
        return ordinary(tensors, levels, documents, slopes, epsilon)

    coefficients = []
    for n in range(levels):
        coefficients.append(run(torch.zeros((), dtype=torch.float64)) / math.factorial(n))
        run = jacfwd(run)
    return torch.cat(coefficients, -1)


@pytest.mark.parametrize("attend", KERNELS)
@settings(deadline=None, max_examples=10)
@given(levels=counts, drawn=DRAWN)
def test_output_and_gradients_are_those_of_the_taylor_series(attend: Any, levels: int, drawn: Drawn) -> None:
    tensors, rest = drawn.queries_keys_values(levels * WIDTH), (levels, drawn.documents(), drawn.slopes())
    assert_equal_with_gradients(attend(*tensors, *rest), by_taylor(tensors, *rest), tensors, atol=1e-9)


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS)
def test_with_two_levels_it_is_the_formula_of_the_docstring(seed: int) -> None:
    q, k, v = (x.detach() for x in case(seed, 2, kv_heads=4))
    (q0, q1), (k0, k1), (v0, v1) = (x.chunk(2, -1) for x in (q, k, v))
    causal = torch.ones(9, 9, dtype=torch.bool).tril()
    weights = (q0 @ k0.mT / math.sqrt(WIDTH)).masked_fill(~causal, -torch.inf).softmax(-1)
    fine = (q0 @ k1.mT + q1 @ k0.mT) / math.sqrt(WIDTH)
    centred = fine - (weights * fine).sum(-1, keepdim=True)
    expected = torch.cat([weights @ v0, weights @ v1 + (weights * centred) @ v0], -1)
    torch.testing.assert_close(surreal_attention(q, k, v, 2, None, None), expected)


@pytest.mark.parametrize("attend", KERNELS)
@settings(deadline=None, max_examples=15)
@given(levels=st.integers(1, 4), seed=SEEDS)
def test_the_residual_falls_as_omega_to_the_minus_k(attend: Any, levels: int, seed: int) -> None:
    full = [x.detach() for x in case(seed, 5)]  # the numbers have more levels than are kept
    kept = [x.unflatten(-1, (5, -1))[..., :levels, :].flatten(-2) for x in full]
    series = attend(*kept, levels, None, None)
    omegas = 10.0 ** torch.arange(1.5, 3.1, 0.5, dtype=torch.float64)
    residuals = []
    for omega in omegas:
        gap = ordinary(full, 5, None, None, 1 / omega) - at(series, levels, 1 / omega)
        residuals.append(gap.norm())
    x, y = omegas.log(), torch.stack(residuals).log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    assert abs(slope + levels) < 0.2


whole = st.integers(-4, 4).map(float)  # products of them are exact in floating point


@st.composite
def numbers(draw: Any, how_many: int) -> list[list[Tensor]]:
    levels = draw(st.integers(1, 4))
    entries = st.lists(whole, min_size=levels, max_size=levels)
    return [[torch.tensor(x, dtype=torch.float64) for x in draw(entries)] for _ in range(how_many)]


def add(x: list[Tensor], y: list[Tensor]) -> list[Tensor]:
    return [a + b for a, b in zip(x, y, strict=True)]


@settings(deadline=None, max_examples=100)
@given(xyz=numbers(3))
def test_numbers_obey_the_laws_of_a_ring(xyz: Any) -> None:
    x, y, z = xyz
    one = [torch.tensor(float(n == 0), dtype=torch.float64) for n in range(len(x))]
    assert multiply(x, y) == multiply(y, x)
    assert multiply(multiply(x, y), z) == multiply(x, multiply(y, z))
    assert multiply(x, add(y, z)) == add(multiply(x, y), multiply(x, z))
    assert multiply(x, one) == x


@settings(deadline=None, max_examples=100)
@given(xyz=numbers(3))
def test_their_order_is_lexicographic_and_goes_with_the_arithmetic(xyz: Any) -> None:
    x, y, z = xyz
    zero = [torch.zeros(()) for _ in x]
    assert bool(is_less(x, y)) == ([float(a) for a in x] < [float(b) for b in y])
    assert bool(is_less(x, y)) == bool(is_less(add(x, z), add(y, z)))
    if is_less(x, y) and is_less(zero, z):
        assert not is_less(multiply(y, z), multiply(x, z))  # equal where the difference is finer than the last level
    # It is the order of the values for every omega that is large enough.
    value_x, value_y = (sum(a * 1e3**-n for n, a in enumerate(number)) for number in (x, y))
    assert bool(is_less(x, y)) == bool(value_x < value_y)


@pytest.mark.parametrize("attend", KERNELS)
@settings(deadline=None, max_examples=20)
@given(scales=st.lists(st.floats(-15, 15), min_size=2, max_size=2), seed=SEEDS)
def test_over_thirty_orders_of_magnitude_the_leading_level_stays(attend: Any, scales: list[float], seed: int) -> None:
    q, k, v = (x.detach().float() for x in case(seed, 2))
    factors = torch.tensor([10.0**scale for scale in scales]).repeat_interleave(WIDTH)
    lone = torch.tensor([1.0, 0.0]).repeat_interleave(WIDTH)
    whole_y, lone_y = (attend(q, k, v * factors * kept, 2, None, None)[..., :WIDTH] for kept in (torch.ones(8), lone))
    assert torch.equal(whole_y, lone_y)
    expected = ordinary([q.double(), k.double(), (v * factors).double()], 2, None, None, 0.0)
    torch.testing.assert_close(whole_y.double() / factors[0], expected / factors[0].double(), rtol=1e-4, atol=1e-5)
    # A plain float holds both levels in one sum, and loses what is 8 orders smaller; the level of its own does not.
    fine = attend(q * lone, k * lone, v * factors * (1 - lone), 2, None, None)[..., WIDTH:]
    expected = ordinary([q.double() * lone, k.double() * lone, v.double().roll(WIDTH, -1)], 2, None, None, 0.0)
    torch.testing.assert_close(fine.double() / factors[-1], expected, rtol=1e-4, atol=1e-5)


def model_of(levels: int, omega: float | None, **changes: Any) -> Any:
    target = "bulba.attention.surreal.SurrealAttention"
    return tiny_gpt(attention={"_target_": target, "levels": levels, "omega": omega}, **changes)


@pytest.mark.parametrize("position", ["rope", "alibi"])
@pytest.mark.parametrize("kernel", ["reference", "flash"])
def test_one_level_is_standard_attention_to_the_last_bit(kernel: str, position: str) -> None:
    changes = {"position": position, "rope_base": 1e4 if position == "rope" else None, "kernel": kernel}
    ours, standard = model_of(1, None, **changes), tiny_gpt(**changes)
    ours.load_state_dict(standard.state_dict())
    rows, results = tokens(2, 16), []
    for model in (ours, standard):
        hidden = model(rows)
        cache = model.new_cache(2, 16)
        with torch.no_grad():
            steps = [model(piece, cache=cache) for piece in rows.split([9, 1, 6], 1)]
            apart = model(rows[:1], *packed(6, 10))
        results.append([hidden, *steps, apart, *torch.autograd.grad(hidden.square().sum(), list(model.parameters()))])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("kernel", ["reference", "flash"])
def test_without_finer_levels_it_is_standard_attention(kernel: str) -> None:
    standard, ours = tiny_gpt(kernel=kernel), model_of(3, 4.0, kernel=kernel)
    missing, unexpected = ours.load_state_dict(standard.state_dict(), strict=False)
    assert not unexpected
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if name in missing and "fine" in name:
                parameter.zero_()
        torch.testing.assert_close(ours(tokens(2, 12)), standard(tokens(2, 12)), rtol=0, atol=2e-5)


@settings(deadline=None, max_examples=50)
@given(logit=st.floats(-1e30, 1e30), start=st.floats(1.01, 1e4))
def test_omega_starts_where_it_is_told_and_stays_above_one(logit: float, start: float) -> None:
    mixer = SurrealAttention(MixerShape(8, 2, 2, 4), 2, start)
    torch.testing.assert_close(1 / mixer.level_powers[:, 1], torch.full((2,), start), rtol=1e-4, atol=0)
    with torch.no_grad():
        mixer.omega_logit_N.fill_(logit)
    assert (mixer.level_powers[:, 1] >= 0).all()
    assert (mixer.level_powers[:, 1] < 0.9991).all()
    assert torch.autograd.grad(mixer.level_powers.sum(), mixer.omega_logit_N)[0].isfinite().all()


@pytest.mark.parametrize(
    ("levels", "omega", "message"),
    [
        (0, 4.0, r"attention\.levels=0 must be at least 1\."),
        (1, 4.0, r"attention\.omega=4\.0 does nothing with one level: set attention\.omega=null\."),
        (2, None, r"attention\.omega=None must be above 1\.001"),
        (2, 1.0, r"attention\.omega=1\.0 must be above 1\.001"),
        (2, math.nan, r"attention\.omega=nan must be above 1\.001"),
    ],
)
def test_settings_that_mean_nothing_are_refused(levels: int, omega: float | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SurrealAttention(MixerShape(8, 2, 2, 4), levels, omega)


def test_the_figures_say_how_much_the_second_level_moves() -> None:
    model = model_of(2, 4.0, num_layers=1)
    mixer, seen = model.mixers()[0], []
    mixer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    with torch.no_grad():
        model(tokens(2, 10))
    figures = mixer.figures(*seen[0][:2])
    assert figures["moved_BNT"].shape == (2, 6, 10)
    assert (figures["moved_BNT"][:, :, 0].abs() < 1e-6).all()  # a single key has nothing to be moved to
    assert (figures["moved_BNT"][:, :, 1:] > 0).all()
    assert figures["size_NK"].shape == (6, 2)
    # The same from ordinary attention at two large omegas, which reads from the rows of the unit matrix.
    with torch.no_grad():
        q, k, _ = (x.double() for x in mixer.numbers(*seen[0][:2]))
        q = q * math.sqrt(WIDTH / mixer.shape.head_dim)
        unit = torch.cat([torch.eye(10), torch.zeros(10, 10)], 1).double().expand(2, 2, 10, 20)
        weights = [ordinary([q, k, unit], 2, None, None, epsilon) for epsilon in (0.0, 1e-6)]
    moved = (weights[1] - weights[0]).abs().sum(-1) / 2 / 1e-6 / figures["omega_N"][:, None]
    torch.testing.assert_close(figures["moved_BNT"].double(), moved, rtol=1e-3, atol=1e-4)


def test_what_is_kept_for_the_backward_pass_grows_with_the_tokens() -> None:
    short, long = (
        kept_bytes(partial(surreal_attention, *Drawn(0, length).queries_keys_values(2 * WIDTH), 2, None, None))
        for length in (32, 128)
    )
    assert long == 4 * short


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("compiled", [False, True])
def test_on_cuda_it_is_the_same(compiled: bool) -> None:
    assert_same_on_cuda(lambda q, k, v: surreal_attention(q, k, v, 2, None, None), Drawn(0, 40), 2 * WIDTH, compiled)
