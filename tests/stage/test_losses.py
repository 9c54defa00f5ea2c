"""The training loss and its gradients against plain cross-entropy, and the figures derived from it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bulba.errors import DataError, UnsupportedError
from bulba.model.head import Head
from bulba.stage import losses
from bulba.stage.losses import (
    IGNORE_INDEX,
    ChunkedCrossEntropy,
    bits_per_byte,
    perplexity,
)


def token_loss_sum(hidden: Any, weight: Any, targets: Any, chunk: Any = None, logit_cap: float | None = None) -> Tensor:
    return losses.token_loss_sum(hidden, Head(weight, logit_cap), targets, chunk)


def per_token_losses(hidden: Any, weight: Any, targets: Any, logit_cap: float | None = None) -> Tensor:
    return losses.per_token_losses(hidden, Head(weight, logit_cap), targets)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks, the last one shorter, even for the small tensors of these tests."""
    monkeypatch.setattr(losses, "CHUNK_ROWS", 4)
    monkeypatch.setattr(losses, "CHUNK_BYTES_CPU", 1)


def inputs(
    dtype: torch.dtype = torch.float32, shape: Any = (3, 5), vocab_size: int = 17, hidden_size: int = 8, seed: int = 0
) -> tuple[Any, Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    hidden_BTH = torch.randn(*shape, hidden_size, generator=generator).to(dtype).requires_grad_()
    head_VH = torch.randn(vocab_size, hidden_size, generator=generator).to(dtype).requires_grad_()
    targets_BT = torch.randint(vocab_size, shape, generator=generator)
    targets_BT[0, 1] = targets_BT[2, 3] = IGNORE_INDEX
    return hidden_BTH, head_VH, targets_BT


def reference(hidden_BTH: Tensor, head_VH: Tensor, targets_BT: Tensor) -> tuple[Any, Any, Any]:
    """Plain cross-entropy in float64 and its gradients."""
    hidden, head = (tensor.detach().double().requires_grad_() for tensor in (hidden_BTH, head_VH))
    logits = F.linear(hidden, head).flatten(0, 1)
    loss = F.cross_entropy(logits, targets_BT.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
    loss.backward()
    return loss.detach(), hidden.grad, head.grad


def test_by_hand_two_words_and_one_ignored_target() -> None:
    hidden = torch.tensor([[[1.0], [0.0], [5.0]]], requires_grad=True)
    head = torch.tensor([[0.0], [math.log(3.0)]], requires_grad=True)
    # First token: logits 0 and ln 3, so p = 1/4 and 3/4. Second token: logits 0 and 0, so p = 1/2 each.
    loss = token_loss_sum(hidden, head, torch.tensor([[0, 1, IGNORE_INDEX]]))
    assert loss.item() == pytest.approx(math.log(4) + math.log(2))
    loss.backward()
    # d loss / d logits = p - onehot = (-3/4, 3/4) and (1/2, -1/2); times the head and the hidden state.
    torch.testing.assert_close(hidden.grad, torch.tensor([[[0.75 * math.log(3)], [-0.5 * math.log(3)], [0.0]]]))
    torch.testing.assert_close(head.grad, torch.tensor([[-0.75], [0.75]]))
    per_token = per_token_losses(hidden, head, torch.tensor([[0, 1, IGNORE_INDEX]]))
    torch.testing.assert_close(per_token, torch.tensor([[math.log(4), math.log(2), 0.0]]))


@pytest.mark.parametrize("rows_per_chunk", [1, 4, 1000])
def test_loss_and_gradients_equal_plain_cross_entropy(rows_per_chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK_ROWS", rows_per_chunk)
    hidden, head, targets = inputs()
    loss = token_loss_sum(hidden, head, targets)
    (loss * 0.25).backward()
    expected, hidden_grad, head_grad = reference(hidden, head, targets)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(hidden.grad.double(), hidden_grad / 4, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head.grad.double(), head_grad / 4, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cap", [None, 1.5])
def test_gradients_in_float64(cap: float | None) -> None:
    hidden, head, targets = inputs(torch.float64, vocab_size=5, hidden_size=3)
    assert torch.autograd.gradcheck(lambda a, b: token_loss_sum(a, b, targets, logit_cap=cap), (hidden, head))
    logits = Head(head, cap).logits(hidden).flatten(0, 1)
    plain = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
    torch.testing.assert_close(token_loss_sum(hidden, head, targets, logit_cap=cap), plain)
    torch.testing.assert_close(per_token_losses(hidden, head, targets, cap).sum(), plain.detach())
    assert token_loss_sum(hidden, head, targets).dtype == torch.float64


def test_the_loss_is_a_sum_so_pieces_of_a_batch_add_up() -> None:
    hidden, head, targets = inputs()
    whole = token_loss_sum(hidden, head, targets)
    pieces = torch.stack([token_loss_sum(hidden[[row]], head, targets[[row]]) for row in range(3)]).sum()
    torch.testing.assert_close(whole, pieces)
    whole.backward()
    grads = hidden.grad.clone(), head.grad.clone()
    hidden.grad = head.grad = None
    pieces.backward()
    torch.testing.assert_close((hidden.grad, head.grad), grads)


@pytest.mark.parametrize("filler", [0.0, 1e4, math.nan])
def test_padding_changes_neither_loss_nor_gradients(filler: float) -> None:
    hidden, head, targets = inputs()
    loss = token_loss_sum(hidden, head, targets)
    loss.backward()
    padded: Any = torch.cat([hidden.detach(), torch.full((3, 6, 8), filler)], 1).requires_grad_()
    padded_head = head.detach().clone().requires_grad_()
    padded_targets = torch.cat([targets, torch.full((3, 6), IGNORE_INDEX)], 1)
    padded_loss = token_loss_sum(padded, padded_head, padded_targets)
    padded_loss.backward()
    torch.testing.assert_close(padded_loss, loss)
    torch.testing.assert_close(padded.grad[:, :5], hidden.grad)
    assert torch.equal(padded.grad[:, 5:], torch.zeros(3, 6, 8))
    torch.testing.assert_close(padded_head.grad, head.grad)


def test_nothing_to_predict_is_a_loss_of_zero_with_zero_gradients() -> None:
    hidden, head, targets = inputs()
    loss = token_loss_sum(hidden, head, torch.full_like(targets, IGNORE_INDEX))
    loss.backward()
    assert loss.item() == 0
    assert not hidden.grad.any()
    assert not head.grad.any()


def test_under_autocast_the_loss_stays_fp32_and_the_gradients_close() -> None:
    hidden, head, targets = inputs(shape=(8, 64), vocab_size=300, hidden_size=32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = token_loss_sum(hidden, head, targets)
        per_token = per_token_losses(hidden, head, targets)
    # The products are in bfloat16, as those of a Linear layer are.
    assert loss == token_loss_sum(hidden.bfloat16(), head.bfloat16(), targets) != token_loss_sum(hidden, head, targets)
    loss.backward()
    expected, hidden_grad, head_grad = reference(hidden, head, targets)
    assert (loss.dtype, per_token.dtype) == (torch.float32, torch.float32)
    assert (hidden.grad.dtype, head.grad.dtype) == (torch.float32, torch.float32)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    assert per_token.sum().item() == pytest.approx(loss.item(), rel=1e-5)
    for grad, exact in ((hidden.grad, hidden_grad), (head.grad, head_grad)):
        assert (grad - exact).norm() < 0.01 * exact.norm()


def test_bfloat16_weights_give_an_fp32_loss_and_bfloat16_gradients() -> None:
    hidden, head, targets = inputs(torch.bfloat16)
    loss = token_loss_sum(hidden, head, targets)
    loss.backward()
    assert (loss.dtype, hidden.grad.dtype, head.grad.dtype) == (torch.float32, torch.bfloat16, torch.bfloat16)
    assert loss.item() == pytest.approx(reference(hidden, head, targets)[0].item(), rel=1e-2)


def test_large_logits_neither_overflow_nor_lose_the_loss() -> None:
    hidden: Any = torch.tensor([[[1.0]]], requires_grad=True)
    head = torch.tensor([[0.0], [500.0]], requires_grad=True)
    loss = token_loss_sum(hidden, head, torch.tensor([[0]]))
    loss.backward()
    assert loss.item() == 500
    assert hidden.grad.item() == 500


@pytest.mark.parametrize("frozen", ["hidden", "head"])
def test_a_frozen_side_gets_no_gradient(frozen: str) -> None:
    hidden, head, targets = inputs()
    (hidden if frozen == "hidden" else head).requires_grad_(False)
    token_loss_sum(hidden, head, targets).backward()
    _, hidden_grad, head_grad = reference(hidden, head, targets)
    if frozen == "hidden":
        assert hidden.grad is None
        torch.testing.assert_close(head.grad.double(), head_grad, rtol=1e-5, atol=1e-6)
    else:
        assert head.grad is None
        torch.testing.assert_close(hidden.grad.double(), hidden_grad, rtol=1e-5, atol=1e-6)


def test_without_gradients_the_loss_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, head, targets = inputs()
    with_grad = token_loss_sum(hidden, head, targets)
    monkeypatch.setattr(ChunkedCrossEntropy, "apply", None)  # would compute gradients that nobody wants
    with torch.no_grad():
        torch.testing.assert_close(token_loss_sum(hidden, head, targets), with_grad.detach())


def test_a_compiled_chunk_gives_the_same_loss_and_gradients() -> None:
    compiled = torch.compile(losses.chunk_loss, fullgraph=True, dynamic=False)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.02)):
        hidden, head, targets = inputs(dtype)
        expected, hidden_grad, head_grad = reference(hidden, head, targets)
        loss = token_loss_sum(hidden, head, targets, compiled)
        loss.backward()
        torch.testing.assert_close(loss.detach().double(), expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(hidden.grad.double(), hidden_grad, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(head.grad.double(), head_grad, rtol=tolerance, atol=tolerance)


def test_a_second_derivative_is_refused() -> None:
    hidden, head, targets = inputs()
    loss = token_loss_sum(hidden, head, targets)
    with pytest.raises(UnsupportedError, match=r"no second derivative: take cross_entropy of GPT.logits"):
        torch.autograd.grad(loss, hidden, create_graph=True)


def test_a_target_outside_the_vocabulary_is_not_taken_for_padding() -> None:
    hidden, head, targets = inputs()
    for wrong in (-1, 17):
        targets[1, 1] = wrong
        with pytest.raises((IndexError, RuntimeError)):
            token_loss_sum(hidden, head, targets)


def test_per_token_losses_have_no_gradient_and_the_shape_of_the_targets() -> None:
    hidden, head, targets = inputs()
    per_token = per_token_losses(hidden, head, targets)
    logits = F.linear(hidden, head).flatten(0, 1)
    expected = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE_INDEX, reduction="none")
    torch.testing.assert_close(per_token, expected.view(3, 5).detach(), rtol=1e-5, atol=1e-6)
    assert not per_token.requires_grad
    assert per_token[0, 1] == 0


def test_bits_per_byte_does_not_depend_on_the_tokenizer() -> None:
    # A model that gives every byte probability 1/8, whether its tokens are single bytes or pairs of them.
    single_nats, pair_nats = 12 * math.log(8), 6 * math.log(64)
    assert bits_per_byte(single_nats, 12) == pytest.approx(3)
    assert bits_per_byte(pair_nats, 12) == pytest.approx(3)
    assert perplexity(single_nats / 12) == pytest.approx(8)
    assert perplexity(pair_nats / 6) == pytest.approx(64)


def test_perplexity_of_a_diverged_run_is_infinite_or_nan_and_no_crash() -> None:
    assert perplexity(1e4) == math.inf
    assert math.isnan(perplexity(math.nan))


def test_bits_per_byte_of_no_text_are_refused() -> None:
    with pytest.raises(DataError, match="bits per byte need at least one byte of text"):
        bits_per_byte(1.0, 0)
