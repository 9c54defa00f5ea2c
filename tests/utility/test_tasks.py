"""The tasks are what they claim: every row has the answer in it, by brute force."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bulba.utility import forgetting, gradients, length, match, memory, noise, recall
from bulba.utility.learning import NOT_ASKED, Lesson, Marks, Rows, examine, learn, seeded, share_of_peak
from bulba.utility.suite import TASKS
from bulba.utility.task import Lab

STANDARD = {"_target_": "bulba.attention.standard.StandardAttention"}
seeds = st.integers(0, 2**32)
few = settings(deadline=None, max_examples=15)


def drawn(draw: Any, seed: int, **options: Any) -> list[tuple[list[int], list[int]]]:
    rows = draw(3, torch.Generator().manual_seed(seed), **options)
    return list(zip(rows.inputs_BT.tolist(), rows.targets_BT.tolist(), strict=True))


@given(seed=seeds, pairs=st.integers(1, recall.KEYS))
@few
def test_recall_asks_every_key_once_for_the_value_that_followed_it(seed: int, pairs: int) -> None:
    for inputs, targets in drawn(recall.draw_recall, seed, pairs=pairs):
        told, asked = inputs[: 2 * pairs], inputs[2 * pairs :]
        facts = dict(zip(told[::2], told[1::2], strict=True))
        assert len(facts) == pairs
        assert sorted(asked) == sorted(facts)
        assert targets == [NOT_ASKED] * 2 * pairs + [facts[key] for key in asked]
        assert all(key < recall.KEYS for key in facts)
        assert all(recall.KEYS <= value < recall.KEYS + recall.VALUES for value in facts.values())


@given(seed=seeds)
@few
def test_match_asks_for_triples_that_sum_to_nothing(seed: int) -> None:
    for inputs, targets in drawn(match.draw_match, seed):
        for place, number in enumerate(inputs):
            seen = inputs[: place + 1]
            found = any((number + a + b) % match.MODULUS == 0 for a, b in itertools.product(seen, seen))
            assert targets[place] == (match.YES if found else match.NO)


def test_match_has_enough_of_both_answers() -> None:
    rows = match.draw_match(2000, torch.Generator().manual_seed(0))
    assert 0.35 < (rows.targets_BT == match.YES).double().mean() < 0.65


def test_balanced_accuracy_by_hand() -> None:
    yes, no = match.YES, match.NO
    # Two of three yeses and one of one no.
    marks = Marks(torch.tensor([yes, yes, no, no]), torch.tensor([yes, yes, yes, no]))
    assert match.balanced_accuracy(marks) == pytest.approx((2 / 3 + 1) / 2)
    assert match.balanced_accuracy(Marks(torch.full((4,), yes), marks.right_N)) == 0.5


@given(seed=seeds, num_tokens=st.sampled_from(length.LENGTHS))
@few
def test_length_hides_one_answer_among_fillers(seed: int, num_tokens: int) -> None:
    for inputs, targets in drawn(length.draw_needle, seed, num_tokens=num_tokens):
        answers = [token for token in inputs if token < length.ANSWERS]
        assert len(inputs) == num_tokens
        assert len(answers) == 1
        assert targets == [NOT_ASKED] * (num_tokens - length.ASKED) + answers * length.ASKED


@given(seed=seeds)
@few
def test_the_facts_of_a_and_b_have_addresses_of_their_own(seed: int) -> None:
    firsts: list[set[int]] = [set(), set()]
    for task, answers in enumerate(forgetting.tables(seed % 2**31)):
        for inputs, targets in drawn(forgetting.draw_facts, seed, answers_FS=answers, task=task):
            firsts[task] |= set(inputs[::2])
            for first, second, target in zip(inputs[::2], inputs[1::2], targets[1::2], strict=True):
                assert target == answers[first - task * forgetting.FIRSTS, second - 2 * forgetting.FIRSTS]
            assert targets[::2] == [NOT_ASKED] * forgetting.FACTS_IN_A_ROW
    assert not firsts[0] & firsts[1]


def test_the_same_seed_draws_the_same_rows_and_the_examination_others() -> None:
    first, again = (recall.draw_recall(4, seeded(3, 1, "recall")) for _ in range(2))
    assert torch.equal(first.inputs_BT, again.inputs_BT)
    for seed, purpose, name in ((4, 1, "recall"), (3, 2, "recall"), (3, 1, "match")):
        assert not torch.equal(first.inputs_BT, recall.draw_recall(4, seeded(seed, purpose, name)).inputs_BT)


def test_the_learning_rate_rises_and_falls() -> None:
    assert [share_of_peak(step, 20) for step in (0, 1, 2, 11, 19)] == pytest.approx([0.5, 1, 1, 0.5, 1 / 18])
    assert share_of_peak(0, 1) == 1


def test_a_lesson_is_learned_and_examined() -> None:
    """An answer that is the token itself: every attention can, in a few steps."""

    def draw(num_rows: int, generator: torch.Generator) -> Rows:
        inputs = torch.randint(8, (num_rows, 8), generator=generator)
        return Rows(inputs, inputs)

    lesson = Lesson("echo", draw, {"vocab_size": 8, "max_seq_len": 8}, steps=60, rows=16, lr=1e-2)
    lab = Lab("standard", STANDARD, seed=1)
    assert examine(lab.model(**lesson.model), draw, seed=1).accuracy < 0.5
    model, cost = lab.learned(lesson)
    assert examine(model, draw, seed=1).accuracy == 1.0
    assert (cost.steps, cost.tokens, cost.params) == (60, 60 * 16 * 8, model.get_num_params())
    assert lab.learned(lesson)[0] is model


def test_a_loss_that_is_no_number_ends_the_lesson() -> None:
    from bulba.errors import TrainingError

    lab = Lab("standard", STANDARD, seed=1)
    model = lab.model(**recall.LESSON.model)
    with torch.no_grad():
        model.norm.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="diverged: loss nan, gradient norm nan at step 1"):
        learn(model, recall.LESSON, 3, seed=1, flops=1)


def test_noise_has_the_size_that_it_claims_and_goes_away() -> None:
    model = Lab("standard", STANDARD, seed=1).model(vocab_size=8, max_seq_len=8)
    tokens = torch.zeros(64, 64, dtype=torch.int64)
    clean = model.embed_tokens(tokens)
    with noise.noisy_embeddings(model, 0.5, seed=1):
        disturbed = model.embed_tokens(tokens) - clean
    rms = model.embed_tokens.weight.square().mean().sqrt()
    assert (disturbed.square().mean().sqrt() / rms).item() == pytest.approx(0.5, rel=0.02)
    assert torch.equal(model.embed_tokens(tokens), clean)
    with noise.noisy_embeddings(model, 0.0, seed=1):
        assert torch.equal(model.embed_tokens(tokens), clean)


def test_gradient_norms_by_hand() -> None:
    model = Lab("standard", STANDARD, seed=1).model(vocab_size=gradients.VOCAB_SIZE, max_seq_len=8, num_layers=3)
    tokens = torch.randint(gradients.VOCAB_SIZE, (2, 9))
    norms = gradients.layer_norms(model, Rows(tokens[:, :-1], tokens[:, 1:]))
    for layer, norm in zip(model.layers, norms, strict=True):
        squares = sum(float(parameter.grad.square().sum()) for parameter in layer.parameters())
        assert norm == pytest.approx(squares**0.5, rel=1e-5)


def test_the_cache_of_standard_attention_holds_keys_and_values() -> None:
    model = Lab("standard", STANDARD, seed=1).model(vocab_size=8, max_seq_len=64)
    # Two layers of keys and values of 64 fp32 numbers a token.
    assert memory.cache_bytes(model, 40) == 40 * 2 * 2 * 64 * 4


def test_memory_of_standard_attention_is_linear() -> None:
    figures = TASKS["memory"].measure(Lab("standard", STANDARD, seed=1)).figures
    assert figures["step_exponent"] == pytest.approx(1, abs=0.05)
