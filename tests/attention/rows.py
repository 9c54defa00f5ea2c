"""The row of every attention in the contract tests: what its weights, products and memory come to, by formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bulba.attention.base import MixerShape


@dataclass(frozen=True)
class Row:
    """What the tests hold an attention against.

    params: number of weights. forward_flops: of the matrix products of one row of T tokens, a multiply-add being two,
    with kernel `reference` if there is one. memory_exponent: bound on e, where a training step holds about T^e bytes,
    with kernel `flash` if there is one. bf16_error: bound on the relative error of the output under autocast. lr: of
    AdamW in the test of learning. differentiable: false where a hard choice has gradients by straight-through alone.
    """

    params: Callable[[MixerShape], int]
    forward_flops: Callable[[MixerShape, int], int]
    memory_exponent: float = 1.05
    bf16_error: float = 0.03
    lr: float = 1e-2
    differentiable: bool = True


def widths(shape: MixerShape) -> tuple[int, int]:
    """Of all query heads and of all key heads together."""
    return shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim


def projections(shape: MixerShape) -> int:
    """Weights of dense q, k, v and output projections."""
    width, kv_width = widths(shape)
    return 2 * shape.hidden_size * (width + kv_width)


def pairs_flops(shape: MixerShape, num_tokens: int) -> int:
    """Scores of all pairs of tokens, and values weighted by them."""
    return 4 * num_tokens**2 * widths(shape)[0]


def simplicial_params(shape: MixerShape) -> int:
    """Two more projections of key heads."""
    return projections(shape) + 2 * shape.hidden_size * widths(shape)[1]


def simplicial_flops(shape: MixerShape, num_tokens: int) -> int:
    """Scores of all pairs of keys in windows of 32 and 8 tokens, and their values."""
    pairs = min(num_tokens, 32) * min(num_tokens, 8)
    return 2 * num_tokens * simplicial_params(shape) + 4 * num_tokens * pairs * widths(shape)[0]


ROWS = {
    "simplicial": Row(params=simplicial_params, forward_flops=simplicial_flops),
    "standard": Row(
        params=projections,
        forward_flops=lambda shape, tokens: 2 * tokens * projections(shape) + pairs_flops(shape, tokens),
    ),
}
