"""The row of every attention in the contract tests: what its weights, products and memory come to, by formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bulba.attention.base import MixerShape


@dataclass(frozen=True)
class Row:
    """What the tests hold an attention against.

    params: number of weights. forward_flops: of the matrix products of one row of T tokens, a multiply-add being two,
    with kernel `reference` if there is one. memory_exponent: bound on e, where a training step holds about T^e bytes,
    with kernel `flash` if there is one. bf16_error: bound on the relative error of the output under autocast. lr: of
    AdamW in the test of learning. differentiable: false where a hard choice has gradients by straight-through alone.
    options: of the attention, other than in its YAML, where the short rows of the tests would not reach all of it.
    """

    params: Callable[[MixerShape], int]
    forward_flops: Callable[[MixerShape, int], int]
    memory_exponent: float = 1.05
    bf16_error: float = 0.03
    lr: float = 1e-2
    differentiable: bool = True
    options: dict[str, Any] = field(default_factory=dict)


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


def surreal_params(shape: MixerShape) -> int:
    """Two levels of q, k and v, one output projection, one omega a head."""
    width, kv_width = widths(shape)
    return shape.hidden_size * (3 * width + 4 * kv_width) + shape.num_heads


def ultrametric_flops(shape: MixerShape, tokens: int, levels: int = 4, base: int = 4) -> int:
    """Projections, logits of the digits, their matches at every level, and values with their normaliser."""
    width, kv_width = widths(shape)
    digits = 2 * tokens * (width + kv_width) * levels * base
    matches = 2 * tokens**2 * shape.num_heads * levels * base
    return 2 * tokens * projections(shape) + digits + matches + 2 * tokens**2 * (width + shape.num_heads)


def fractal_flops(shape: MixerShape, tokens: int, window: int = 4) -> int:
    """Projections, two maps [D, 2 D] for each block of the tree, scores and values of all tokens and blocks."""
    width, kv_width = widths(shape)
    blocks = [-(-tokens // 2**level) for level in range(max(tokens - window, 0).bit_length())]
    tree = 8 * shape.head_dim * kv_width * sum(blocks[1:])
    return 2 * tokens * projections(shape) + tree + 4 * tokens * (tokens + sum(blocks)) * width


def simplicial_params(shape: MixerShape) -> int:
    """Two more projections of key heads."""
    return projections(shape) + 2 * shape.hidden_size * widths(shape)[1]


def simplicial_flops(shape: MixerShape, num_tokens: int) -> int:
    """Scores of all pairs of keys in windows of 32 and 8 tokens, and their values."""
    pairs = min(num_tokens, 32) * min(num_tokens, 8)
    return 2 * num_tokens * simplicial_params(shape) + 4 * num_tokens * pairs * widths(shape)[0]


ROWS = {
    "standard": Row(
        params=projections,
        forward_flops=lambda shape, tokens: 2 * tokens * projections(shape) + pairs_flops(shape, tokens),
    ),
    "tropical": Row(
        params=projections,
        forward_flops=lambda shape, tokens: 2 * tokens * projections(shape),
    ),
    "ultrametric": Row(
        params=lambda shape: projections(shape) + shape.head_dim * 16 + shape.num_heads,
        forward_flops=ultrametric_flops,
        # A layer alone errs by 0.006; rounding before a second one sends a few tokens to other leaves.
        bf16_error=0.2,
        differentiable=False,
    ),
    "simplicial": Row(params=simplicial_params, forward_flops=simplicial_flops),
    # The products are those of the dense matrices, whichever way they are done.
    "quaternion": Row(
        params=lambda shape: projections(shape) // 4,
        forward_flops=lambda shape, tokens: 2 * tokens * projections(shape) + pairs_flops(shape, tokens),
    ),
    "octonion": Row(
        params=lambda shape: projections(shape) // 8,
        forward_flops=lambda shape, tokens: 2 * tokens * projections(shape) + pairs_flops(shape, tokens),
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
    "fractal": Row(
        params=lambda shape: projections(shape) + 2 * shape.head_dim * (2 * shape.head_dim + 1) + shape.num_heads,
        forward_flops=fractal_flops,
        options={"window": 4},
    ),
    "surreal": Row(
        params=surreal_params,
        # Of two numbers with two levels three products of levels are kept.
        forward_flops=lambda shape, tokens: (
            2 * tokens * (surreal_params(shape) - shape.num_heads) + 3 * pairs_flops(shape, tokens)
        ),
    ),
    # With standard inside; its memory does not grow with the depth either (test_reversible.py).
    "reversible": Row(
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
}
