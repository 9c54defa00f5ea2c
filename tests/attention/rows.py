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


ROWS = {
    "standard": Row(
        params=projections,
        forward_flops=lambda shape, tokens: 2 * tokens * projections(shape) + pairs_flops(shape, tokens),
    ),
    # Block size 4: six generators, and a constant one, for each of D / 4 groups of a key head.
    "gauge": Row(
        params=lambda shape: projections(shape) + (shape.hidden_size + 1) * widths(shape)[1] * 6 // 4,
        forward_flops=lambda shape, tokens: (
            2 * tokens * (projections(shape) + shape.hidden_size * widths(shape)[1] * 6 // 4)
            + pairs_flops(shape, tokens)
        ),
    ),
    # Five strands: 9 crossings with a bias each, which choose from a table of 8 x 8 matrices.
    # A choice between two nearly equal crossings may fall otherwise in bf16 (test_braid.py holds it fixed), and
    # differentiates straight through.
    "braid": Row(
        params=lambda shape: projections(shape) + (shape.hidden_size + 1) * shape.num_kv_heads * 9,
        forward_flops=lambda shape, tokens: (
            2 * tokens * (projections(shape) + shape.num_kv_heads * 9 * (shape.hidden_size + 64))
            + pairs_flops(shape, tokens)
        ),
        bf16_error=0.15,
        differentiable=False,
    ),
}
