"""Max-plus attention: equal to its formula, and the theorems of the semiring on random inputs."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bulba.attention import maxplus, tropical
from bulba.attention.base import MixerShape
from bulba.attention.maxplus import Rule, block_scores, largest_parts, widen
from bulba.attention.tropical import TropicalAttention, choices, tropical_attention
from bulba.errors import ConfigError
from tests.attention.cases import DRAWN, SEEDS, Drawn, assert_equal_with_gradients, assert_same_on_cuda, kept_bytes
from tests.model.tiny import tiny_gpt, tokens

KERNELS = [tropical.reference_attention, tropical_attention]
RULES = [Rule("hilbert", 0.0), Rule("maxplus", 0.0), Rule("hilbert", 0.3), Rule("maxplus", 0.3)]
rules = st.sampled_from(RULES)
WIDTH = 8


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maxplus, "QUERY_BLOCK", 4)
    monkeypatch.setattr(maxplus, "CHANNELS", 3)


def case(seed: int) -> list[Tensor]:
    """q, k and v."""
    return Drawn(seed).queries_keys_values(WIDTH)


def by_loops(tensors: list[Tensor], rule: Rule, documents: Tensor | None, slopes: Tensor | None) -> Tensor:
    """The formula, one query at a time."""
    q, k, v = tensors
    rows, cached = [], k.shape[2] - q.shape[2]
    for b in range(q.shape[0]):
        for n in range(q.shape[1]):
            keys, values = k[b, n * k.shape[1] // q.shape[1]], v[b, n * k.shape[1] // q.shape[1]]
            for i in range(q.shape[2]):
                read = [j for j in range(cached + i + 1) if documents is None or documents[b, i] == documents[b, j]]
                if rule.score == "hilbert":
                    gap = q[b, n, i] - keys[read]
                    scores = gap.min(-1).values - gap.max(-1).values
                else:
                    scores = (q[b, n, i] + keys[read]).max(-1).values
                if slopes is not None:
                    scores = scores - slopes[n] * (cached + i - torch.tensor(read))
                sums = scores[:, None] + values[read]
                tau = rule.temperature
                rows.append(tau * (sums / tau).logsumexp(0) if tau else sums.max(0).values)
    return torch.stack(rows).view_as(q)


@pytest.mark.parametrize("attend", KERNELS)
@settings(deadline=None, max_examples=15)
@given(rule=rules, drawn=DRAWN)
def test_output_and_gradients_are_those_of_the_formula(attend: Any, rule: Rule, drawn: Drawn) -> None:
    tensors, rest = drawn.queries_keys_values(WIDTH), (rule, drawn.documents(), drawn.slopes())
    assert_equal_with_gradients(attend(*tensors, *rest), by_loops(tensors, *rest), tensors, atol=1e-10)


def scores_of(tensors: list[Tensor], rule: Rule) -> Tensor:
    q, k, _ = widen(*tensors)
    return block_scores(q, k, rule, None, None, 0, q.shape[-2])


@pytest.mark.parametrize("attend", KERNELS)
@settings(deadline=None, max_examples=25)
@given(rule=rules, size=st.sampled_from([1e-6, 0.1, 10.0]), seed=SEEDS)
def test_it_moves_no_more_than_scores_and_values_together(attend: Any, rule: Rule, size: float, seed: int) -> None:
    first = case(seed)
    second = [x + size * torch.randn_like(x) for x in first]
    moved = (attend(*first, rule, None, None) - attend(*second, rule, None, None)).abs().max()
    before, after = (scores_of(tensors, rule) for tensors in (first, second))
    score_change = (before - after)[before.isfinite()].abs().max()
    assert moved <= score_change + (first[2] - second[2]).abs().max() + 1e-12


@pytest.mark.parametrize("attend", KERNELS)
@settings(deadline=None, max_examples=25)
@given(rule=rules, constant=st.floats(-50, 50), seed=SEEDS)
def test_constants_pass_through_values_and_vanish_in_the_projective_metric(
    attend: Any, rule: Rule, constant: float, seed: int
) -> None:
    q, k, v = case(seed)
    y = attend(q, k, v, rule, None, None)
    torch.testing.assert_close(attend(q, k, v + constant, rule, None, None), y + constant)
    kept = 0.0 if rule.score == "hilbert" else constant
    torch.testing.assert_close(attend(q + constant, k, v, rule, None, None), y + kept)
    # Hence the gradients: values share out all that comes in, channels of a query add up to nothing (or to all).
    grad = torch.randn_like(y)
    grad_q, _, grad_v = torch.autograd.grad(y, (q, k, v), grad)
    torch.testing.assert_close(grad_v.sum((1, 2)), grad.sum((1, 2)))
    expected = 0 * grad.sum(-1) if rule.score == "hilbert" else grad.sum(-1)
    torch.testing.assert_close(grad_q.sum(-1), expected)


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS)
def test_the_score_is_minus_a_metric_of_the_projective_space(seed: int) -> None:
    x = torch.randn(1, 1, 7, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    points = torch.cat([x, x + torch.randn(1, 1, 7, 1, dtype=torch.float64)], 2)[:, :, None]
    parts = largest_parts(points, points, Rule("hilbert", 0.0))
    distance = (parts[0] + parts[1]).squeeze()
    torch.testing.assert_close(distance, distance.T)
    torch.testing.assert_close(distance.diagonal(7), torch.zeros(7, dtype=torch.float64))
    assert (distance[:7, :7] + torch.eye(7) > 1e-6).all()
    assert (distance[:, None] <= distance[:, :, None] + distance[None] + 1e-12).all()


@settings(deadline=None, max_examples=25)
@given(score=st.sampled_from(["hilbert", "maxplus"]), seed=SEEDS)
def test_no_change_below_half_the_margin_changes_the_choice(score: Any, seed: int) -> None:
    tensors, rule = case(seed), Rule(score, 0.0)
    chosen, margin = choices(*tensors, rule, None, None)
    with torch.no_grad():
        v = widen(*tensors)[2]
        sums = (scores_of(tensors, rule)[..., None] + v[..., None, :, :]).flatten(1, 2)
    best = sums.topk(2, -2)
    assert torch.equal(best.indices[..., 0, :], chosen)
    torch.testing.assert_close(best.values[..., 0, :] - best.values[..., 1, :], margin)
    assert margin[:, :, 0].isinf().all()
    assert margin[:, :, 1:].isfinite().all()
    radius = margin.clamp(max=1e3)[..., None, :] / 2
    change = radius * 0.999 * (2 * torch.rand_like(sums) - 1).sign()
    assert torch.equal((sums + change).argmax(-2), chosen)
    # And no larger radius would do: half the margin taken from the best and given to the next changes it.
    against = torch.zeros_like(sums).scatter(-2, best.indices, torch.cat([-radius, radius], -2) * 1.001)
    assert ((sums + against).argmax(-2) != chosen)[:, :, 1:].all()
    # The same by way of the values, within the least margin of each channel.
    least = margin.unflatten(1, (2, 2)).amin((2, 3))[:, :, None]
    values = tensors[2] + 0.499 * least * (2 * torch.rand_like(tensors[2]) - 1)
    assert torch.equal(choices(*tensors[:2], values, rule, None, None)[0], chosen)


@pytest.mark.parametrize("attend", KERNELS)
@settings(deadline=None, max_examples=25)
@given(rule=rules, temperature=st.floats(1e-9, 10), seed=SEEDS)
def test_the_semiring_is_the_limit_of_low_temperatures(attend: Any, rule: Rule, temperature: float, seed: int) -> None:
    tensors = case(seed)
    exact = attend(*tensors, replace(rule, temperature=0.0), None, None)
    above = attend(*tensors, replace(rule, temperature=temperature), None, None) - exact
    counts = torch.arange(1, 10, dtype=torch.float64)[:, None]
    assert (above >= -1e-12).all()
    assert (above <= temperature * counts.log() + 1e-12).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("attend", KERNELS)
def test_of_equal_keys_one_alone_gets_the_gradient(attend: Any, rule: Rule) -> None:
    q, k, v = (torch.zeros(1, 1, 5, 8, requires_grad=True) for _ in range(3))
    grads = torch.autograd.grad(attend(q, k, v, rule, None, None), (q, k, v), torch.ones(1, 1, 5, 8))
    assert grads[2].sum() == pytest.approx(40)
    if not rule.temperature:
        assert torch.equal(grads[2], grads[2].round())  # none is split


@pytest.mark.parametrize("rule", RULES)
def test_what_is_kept_for_the_backward_pass_grows_with_the_tokens(rule: Rule) -> None:
    short, long = (
        kept_bytes(partial(tropical_attention, *Drawn(0, length).queries_keys_values(WIDTH), rule, None, None))
        for length in (32, 128)
    )
    assert long == 4 * short


@pytest.mark.parametrize(
    ("score", "temperature", "message"),
    [
        ("hubert", 0.0, r"attention\.score=hubert must be hilbert or maxplus\."),
        ("hilbert", -0.1, r"attention\.temperature=-0\.1 must be at least 0 and finite\."),
        ("hilbert", math.nan, r"attention\.temperature=nan must be"),
    ],
)
def test_settings_that_mean_nothing_are_refused(score: Any, temperature: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TropicalAttention(MixerShape(16, 2, 2, 8), score, temperature)


@pytest.mark.parametrize("score", ["hilbert", "maxplus"])
@pytest.mark.parametrize("temperature", [0.0, 0.2])
@pytest.mark.parametrize("kernel", ["reference", "flash"])
def test_every_rule_decodes_in_a_model(score: str, temperature: float, kernel: str) -> None:
    target = "bulba.attention.tropical.TropicalAttention"
    model = tiny_gpt(attention={"_target_": target, "score": score, "temperature": temperature}, kernel=kernel)
    cache, rows = model.new_cache(1, 12), tokens(1, 12)
    with torch.no_grad():
        steps = [model(piece, cache=cache) for piece in rows.split([5, 1, 6], 1)]
        torch.testing.assert_close(torch.cat(steps, 1), model(rows), rtol=0, atol=2e-5)


def test_operations_are_counted() -> None:
    shape = MixerShape(16, 2, 1, 8)
    for score, temperature, each in (("hilbert", 0.0, 5), ("maxplus", 0.0, 4), ("hilbert", 1.0, 14)):
        assert TropicalAttention(shape, score, temperature).other_flops(10) == each * 100 * 16  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("compiled", [False, True])
def test_on_cuda_it_is_the_same(rule: Rule, compiled: bool) -> None:
    assert_same_on_cuda(lambda q, k, v: tropical_attention(q, k, v, rule, None, None), Drawn(0, 40), WIDTH, compiled)
