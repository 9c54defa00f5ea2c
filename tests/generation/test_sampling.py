"""The filters are those of transformers, in their order, and the draw follows the distribution."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, LogitsProcessorList

from bulba.generation.sampling import draw, filter_logits, keep_top_k, keep_top_p, penalize_repetition

OFF: dict[str, Any] = {
    "temperature": 1.0,
    "top_k": None,
    "top_p": None,
    "repetition_penalty": 1.0,
    "repetition_window": None,
}
VOCAB_SIZE = 50


def random_logits(rows: int, seed: int) -> Tensor:
    return 3 * torch.randn(rows, VOCAB_SIZE, generator=Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    config: Any = LlamaConfig
    return LlamaForCausalLM(
        config(vocab_size=VOCAB_SIZE, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    )


@given(
    seed=st.integers(0, 10**6),
    temperature=st.sampled_from([1.0, 0.3, 0.7, 1.9]),
    top_k=st.sampled_from([None, 1, 5, 49, 500]),
    top_p=st.sampled_from([None, 0.05, 0.5, 0.9, 0.999]),
    penalty=st.sampled_from([1.0, 1.2, 0.8, 5.0]),
)
def test_all_filters_together_equal_transformers_in_its_order(
    llama: Any, seed: int, temperature: float, top_k: int | None, top_p: float | None, penalty: float
) -> None:
    logits = random_logits(3, seed)
    seen = torch.randint(VOCAB_SIZE, (3, 12), generator=Generator().manual_seed(seed))
    config = GenerationConfig(
        do_sample=True, temperature=temperature, top_k=top_k or 0, top_p=top_p or 1.0, repetition_penalty=penalty
    )
    llama._prepare_special_tokens(config)
    theirs = llama._get_logits_processor(
        generation_config=config, input_ids_seq_length=12, logits_processor=LogitsProcessorList()
    )(seen, logits.clone())
    options = OFF | {"temperature": temperature, "top_k": top_k, "top_p": top_p, "repetition_penalty": penalty}
    ours = filter_logits(logits, seen, **options)
    torch.testing.assert_close(ours, theirs)
    for row in range(3):
        torch.testing.assert_close(filter_logits(logits[row], seen[row], **options), theirs[row])


@given(seed=st.integers(0, 10**6), p=st.floats(0.001, 0.999))
def test_top_p_keeps_the_fewest_tokens_with_mass_p(seed: int, p: float) -> None:
    logits = random_logits(1, seed)[0]
    kept = keep_top_p(logits, p).isfinite()
    probabilities = logits.double().softmax(-1)
    mass = probabilities[kept].sum()
    assert mass >= p - 1e-6
    assert mass - probabilities[kept].min() < p + 1e-6
    assert kept.any()
    assert kept.all() or probabilities[kept].min() >= probabilities[~kept].max()


@given(k=st.integers(1, 60), ties=st.booleans(), seed=st.integers(0, 10**6))
def test_top_k_keeps_exactly_k_even_with_ties(k: int, ties: bool, seed: int) -> None:
    logits = random_logits(2, seed)
    logits = logits.round() if ties else logits
    kept = keep_top_k(logits, k).isfinite()
    assert (kept.sum(-1) == min(k, VOCAB_SIZE)).all()
    for row, mask in zip(logits, kept, strict=True):
        assert mask.all() or row[mask].min() >= row[~mask].max()


def test_penalty_of_one_is_the_identity_and_a_window_forgets() -> None:
    logits = torch.tensor([2.0, -2.0, 1.0])
    seen = torch.tensor([0, 1, 2])
    assert torch.equal(penalize_repetition(logits, seen, 1.0), logits)
    assert penalize_repetition(logits, seen, 2.0).tolist() == [1.0, -4.0, 0.5]
    assert penalize_repetition(logits, seen, 2.0, window=1).tolist() == [2.0, -2.0, 0.5]
    assert penalize_repetition(logits, seen, 2.0, window=9).tolist() == [1.0, -4.0, 0.5]


def test_a_token_seen_twice_is_penalized_once() -> None:
    assert penalize_repetition(torch.tensor([8.0, 1.0]), torch.tensor([0, 0, 0]), 2.0).tolist() == [4.0, 1.0]


def test_draws_follow_the_distribution_and_never_take_what_was_filtered() -> None:
    logits = torch.tensor([0.0, 1.0, -torch.inf, 2.0, -torch.inf]).expand(40_000, 5)
    counts = draw(logits, Generator().manual_seed(0)).bincount(minlength=5) / 40_000
    expected = logits[0].softmax(-1)
    assert (counts - expected).abs().max() < 0.01
    assert counts[2] == counts[4] == 0


def test_a_low_temperature_is_greedy() -> None:
    logits, seen = random_logits(200, seed=1), torch.zeros(200, 1, dtype=torch.int64)
    cold = filter_logits(logits, seen, **OFF | {"temperature": 1e-4})
    assert torch.equal(draw(cold, Generator().manual_seed(0)), logits.argmax(-1))


def test_the_largest_uniform_number_still_draws_a_possible_token(monkeypatch: pytest.MonkeyPatch) -> None:
    almost_one = 1 - 2**-53
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.full((1,), almost_one, dtype=torch.float64))
    logits = torch.cat([torch.randn(1, 30_000), torch.full((1, 5), -torch.inf)], -1)
    assert logits[0, draw(logits, Generator())].isfinite()


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    logits = random_logits(4, seed=2)
    together = draw(logits, [Generator().manual_seed(row) for row in range(4)])
    alone = [draw(logits[row], Generator().manual_seed(row)) for row in range(4)]
    assert together.tolist() == [int(token) for token in alone]
