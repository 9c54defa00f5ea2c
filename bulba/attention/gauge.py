"""Gauge: attention along parallel transport, each token turning the frame of those after it by a rotation it emits.

    A_t = A_0 + scale * W x_t,  U_t = exp(A_t),  P_t = U_t P_(t-1)
    score_ij = q_i . P_i P_j^T k_j / sqrt(D),  y_i = sum_j softmax_j(score_ij) P_i P_j^T v_j
A_t is skew and block diagonal: each of the D / M groups of a key head has M (M - 1) / 2 generators of its own; query
heads of a group share its connection. Scan, gradient, layout and cache: bulba/attention/transport.py.

Why: a choice of coordinates at each token is a gauge. Turn all of them, q -> g q, k -> g k, v -> g v and
U_t -> g_t U_t g_(t-1)^T, and y becomes g y: what is computed does not depend on the choice. Rotary positions (Su et al.
2021, arXiv 2104.09864) are the case of constant generators that commute, with values left alone; PaTH (Yang et al.
2025, arXiv 2505.16381) is another relative, with Householder-like steps that are no rotations. The mathematics is that
of lattice gauge theory (Wilson 1974), on a line.

Chosen: the exponential and not Cayley's form, so that a constant generator is an angle per token and the rotary case is
exact. M = 2 has commuting rotations. M = 4 has none of that and still a closed form: so(4) is two copies of so(3) that
commute, the self-dual and the anti-self-dual half, and each half squares to a multiple of the identity, so that
exp(S) = cos|S| + sin|S| / |S| S. Any other M runs torch's matrix_exp, which is many times slower.
Positions: A_0 learns, and starts at rotary frequencies (`rope_base`) or at 0. The model's own scheme works beside it:
rotary positions turn what is seen from the document's start (see there), ALiBi takes its slope off the scores.

Cost per layer beside standard attention: H G D (M - 1) / 2 weights, O(T D M) for each of about 20 passes.
Not done: generators that are not block diagonal (low rank, Householder); GGUF, as llama.cpp has no such layer.
"""

from __future__ import annotations

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bulba.attention.base import AttentionContext, MixerShape
from bulba.attention.transport import TransportMixer, identity, product, running_products, transpose
from bulba.errors import ConfigError


class GaugeAttention(TransportMixer):
    """block_size: M. transport_values: turn values as well as keys. scale: of the generators that tokens emit, radians.

    rope_base: the constant generators start at rotary frequencies of this base; None: at 0.
    Raises ConfigError for blocks that do not fill a head.
    """

    def __init__(
        self, shape: MixerShape, block_size: int, transport_values: bool, scale: float, rope_base: float | None
    ) -> None:
        super().__init__(shape)
        if block_size < 2 or shape.head_dim % block_size:
            raise ConfigError(
                f"attention.block_size={block_size} must be at least 2 and divide the head width, which is "
                f"{shape.head_dim}."
            )
        if not scale > 0:
            raise ConfigError(f"attention.scale={scale} must be above 0.")
        if rope_base is not None and not rope_base > 0:
            raise ConfigError(
                f"attention.rope_base={rope_base} must be above 0, or null for generators that start at 0."
            )
        self.block_size, self.transport_values, self.scale = block_size, transport_values, scale
        num_pairs, num_groups = block_size * (block_size - 1) // 2, shape.head_dim // block_size
        self.generator_proj = nn.Linear(shape.hidden_size, shape.num_kv_heads * num_pairs * num_groups, bias=False)
        self.generator_shape = (shape.num_kv_heads, num_pairs, num_groups)
        constant_GAL = torch.zeros(self.generator_shape)
        if rope_base is not None:
            constant_GAL += rotary_generators(block_size, num_groups, rope_base)
        self.constant = nn.Parameter(constant_GAL.flatten())  # flat as biases are, for optimizers

    def steps(self, x_BTH: Tensor) -> Tensor:
        return rotation(self.generators(x_BTH), self.block_size)

    def generators(self, x_BTH: Tensor) -> Tensor:
        """The M (M - 1) / 2 entries of every A_t, [B, G, T, A, L]."""
        emitted_BTA = self.generator_proj(x_BTH)
        wide = torch.promote_types(emitted_BTA.dtype, torch.float32)
        generators_BTA = self.scale * emitted_BTA.to(wide) + self.constant.to(wide)
        return generators_BTA.unflatten(-1, self.generator_shape).transpose(1, 2)

    @torch.no_grad()
    def figures(self, x_BTH: Tensor, context: AttentionContext) -> dict[str, Tensor]:
        """In radians, for every key head, token and group.

        turn: of the frame since the document's start. step: of the token's own rotation. holonomy: what is left after
        the closed loop of this token and the one before it, once in each order; 0 where rotations commute.
        """
        steps, documents_BT = self.steps(x_BTH), context.documents_BT
        one, other = steps[:, :, 1:], steps[:, :, :-1]
        holonomy = angle(product(product(one, other), transpose(product(other, one))))
        if documents_BT is not None:
            holonomy = holonomy * (documents_BT[:, 1:] == documents_BT[:, :-1])[:, None, :, None]
        return {
            "turn_BGTL": angle(running_products(steps, documents_BT)),
            "step_BGTL": angle(steps),
            "holonomy_BGTL": F.pad(holonomy, (0, 0, 1, 0)),  # the first token has none before it
        }


def rotary_generators(block_size: int, num_groups: int, base: float) -> Tensor:
    """Constant generators [A, L] for which P^T turns as rotary positions do, coordinate m of a group with m + M / 2.

    An odd block leaves its last coordinate alone.
    """
    half = block_size // 2
    generators_AL = torch.zeros(block_size * (block_size - 1) // 2, num_groups)
    exponents = torch.arange(half * num_groups) / (half * num_groups)
    frequencies_NL = (1.0 / base**exponents).unflatten(0, (half, num_groups))
    for number, (first, second) in enumerate(combinations(range(block_size), 2)):
        if second == first + half and first < half:
            generators_AL[number] = -frequencies_NL[first]
    return generators_AL


def skew(generators: Tensor, block_size: int) -> Tensor:
    """[..., A, L] -> [..., M, M, L], the skew matrix with the generators below its diagonal, by columns."""
    entries = dict(zip(combinations(range(block_size), 2), generators.unbind(-2), strict=True))
    zero = torch.zeros_like(generators[..., 0, :])
    rows = [
        torch.stack(
            [
                zero if row == column else entries[column, row] if row > column else -entries[row, column]
                for column in range(block_size)
            ],
            -2,
        )
        for row in range(block_size)
    ]
    return torch.stack(rows, -3)


def rotation(generators: Tensor, block_size: int) -> Tensor:
    """exp of the skew matrices of [..., A, L]: [..., M, M, L]."""
    if block_size == 2:
        return exp_of_conformal(generators, 2)
    if block_size == 4:
        a10, a20, a30, a21, a31, a32 = generators.unbind(-2)
        dual = torch.stack([a32, -a31, a21, a30, -a20, a10], -2)
        halves = (0.5 * (generators + dual), 0.5 * (generators - dual))
        return product(*(exp_of_conformal(half, 4) for half in halves))
    matrices = skew(generators, block_size).movedim(-1, -3).contiguous()
    return torch.linalg.matrix_exp(matrices).movedim(-3, -1)


def exp_of_conformal(generators: Tensor, block_size: int) -> Tensor:
    """exp of skew matrices that square to -n^2 times the identity, n the length of their first column."""
    # The tiny number keeps the gradient of the root finite at 0; below it cos and sin / n are 1 anyway.
    length = (generators[..., : block_size - 1, :].square().sum(-2) + 1e-30).sqrt()[..., None, None, :]
    return length.cos() * identity_like(generators, block_size) + length.sin() / length * skew(generators, block_size)


def identity_like(generators: Tensor, block_size: int) -> Tensor:
    """[M, M, 1] in the dtype and on the device of the generators."""
    return torch.eye(block_size, dtype=generators.dtype, device=generators.device)[..., None]


def angle(rotations: Tensor) -> Tensor:
    """By how much [..., M, M, L] turn, [..., L] in radians: exact where all planes turn alike, else a mean of them."""
    distance = (rotations - identity(rotations)).square().sum((-2, -3)).sqrt()
    return 2 * (distance / (2 * rotations.shape[-2] ** 0.5)).clamp(max=1).asin()
