"""FLOPs against a formula written by hand, and against the products that real tensors go through."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bulba.attention.base import Capabilities
from bulba.attention.standard import StandardAttention
from bulba.model.gpt import GPT
from bulba.stage.flops import FORMULAS, row_flops
from bulba.stage.losses import token_loss_sum
from tests.model.tiny import TINY, tiny_gpt, tokens


class FlashOnly(StandardAttention):
    capabilities = Capabilities(kernels=frozenset({"flash"}), packing=True, cache=True, gqa=True)


def by_hand(config: dict[str, Any], seq_len: int) -> int:
    """Forward plus two products backward for every product of a Llama-shaped model, a row of `seq_len` tokens."""
    width, layers = config["hidden_size"], config["num_layers"]
    head_dim = width // config["num_heads"]
    projections = 2 * width * width + 2 * width * config["num_kv_heads"] * head_dim
    mlp = 3 * width * config["intermediate_size"]
    head = width * config["vocab_size"]
    attention = 2 * seq_len * width
    return 3 * 2 * seq_len * (layers * (projections + mlp + attention) + head)


@pytest.mark.parametrize(
    "changes",
    [{}, {"num_kv_heads": 6}, {"tie_embeddings": False, "num_layers": 3}, {"norm_placement": "post"}],
)
def test_a_row_takes_the_flops_of_the_formula(changes: dict[str, Any]) -> None:
    model = tiny_gpt(**changes)
    for seq_len in (1, 33, 64):
        assert row_flops(model, seq_len) == by_hand(TINY | changes, seq_len)


def test_the_kernel_chosen_for_training_does_not_change_the_figure() -> None:
    model = tiny_gpt(kernel="flash")
    assert row_flops(model, 64) == by_hand(TINY, 64)
    assert model.kernel == "flash"


def test_a_layer_with_the_flash_kernel_alone_counts_its_second_scores() -> None:
    attention = {"_target_": "bulba.attention.standard.StandardAttention"}
    model = GPT(**(TINY | {"attention": attention}))
    for layer in model.layers:
        layer.self_attn.__class__ = FlashOnly
    model.set_kernel("flash")
    scores = TINY["num_layers"] * 2 * 64 * 64 * TINY["hidden_size"]
    assert row_flops(model, 64) == by_hand(TINY, 64) + scores


@pytest.mark.parametrize("num_rows", [1, 3, 8])
def test_rows_of_real_tensors_take_a_multiple(num_rows: int) -> None:
    model, ids = tiny_gpt(), tokens(num_rows, 64)
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        token_loss_sum(model(ids), model.head, ids).backward()
    assert counter.get_total_flops() == num_rows * row_flops(model, 64)


def test_frozen_weights_need_no_gradient() -> None:
    """Without gradients of the first layer's weights, a third of their products is left out."""
    model = tiny_gpt(tie_embeddings=False)
    whole = row_flops(model, 64)
    model.lm_head.weight.requires_grad_(False)
    assert whole - row_flops(model, 64) == 2 * 64 * TINY["hidden_size"] * TINY["vocab_size"]


def test_what_checkpointing_computes_again_counts_once() -> None:
    plain, model = tiny_gpt(), tiny_gpt()
    model.set_activation_checkpointing("full")
    assert row_flops(model, 64) == row_flops(plain, 64)


def test_counting_touches_no_weight_and_no_random_state() -> None:
    model = tiny_gpt()
    weights, state = [p.clone() for p in model.parameters()], torch.get_rng_state()
    row_flops(model, 16)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(state, torch.get_rng_state())
