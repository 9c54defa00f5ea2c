"""Braid: attention along the braid that the tokens weave, one crossing each, in its unitary Burau representation.

Each token and key head emits one of 2n - 1 crossings of n strands: none, s_a or its inverse, a = 1 .. n-1. B_t is its
matrix, P_t = B_t P_(t-1), so that P_i P_j^-1 is the braid between j and i, and
    score_ij = (P_i^-1 q_i) . (P_j^-1 k_j) / sqrt(D),  y_i = P_i sum_j softmax_j(score_ij) P_j^-1 v_j
The relations of the braid group, s_a s_(a+1) s_a = s_(a+1) s_a s_(a+1) (Yang-Baxter) and s_a s_b = s_b s_a for
|a - b| > 1 (Artin 1947), hold for the matrices: it counts which braid was woven, not how it is spelled.
Scan, gradient, layout and cache: bulba/attention/transport.py.

The matrices: the reduced Burau matrix (Burau 1936) of s_a differs from the identity in row a alone: t, -t, 1 around the
diagonal. With s^2 = t, and coordinate a measured in units of s^a, it is 1 - s e_a e_a^T H, where H has s + 1/s on its
diagonal and -1 beside it: Squier's form (1984). For t = exp(i theta), |theta| < 2 pi / n, H is real and positive
definite, H = C^T C. In the basis of C the crossing is
    s_a = 1 - s c_a c_a^T,  c_a . c_a = 2 cos(theta / 2),  c_a . c_(a+1) = -1,  all others 0,
a complex reflection: -t along c_a, 1 across it. It is unitary by that formula; C is taken bidiagonal (Cholesky). Real
and imaginary parts side by side make it orthogonal, M = 2 (n - 1), and it acts alike on each of the D / M groups.

Choice: argmax of a projection in fp32 at least; gradients go straight through to its softmax, in which each crossing
gets the gradient of its own matrix (Bengio et al. 2013, arXiv 1308.3432). `none_bias` keeps early frames calm.
Under autocast the choice is still made in fp32, yet on inputs that were rounded: a token whose two best crossings are
nearly equal may choose otherwise, and then all braids across it differ. The test's bound says by how much.

Positions: rotary ones turn what is seen from the document's start (transport.py); ALiBi takes its slope off the scores.
Cost per layer beside standard attention: H G (2n - 1) weights, O(T D M) for the transports.
Not done: the representation is not faithful for n >= 5 (Bigelow 1999), so that some different braids look alike; theta
does not learn; GGUF, as llama.cpp has no such layer.
"""

from __future__ import annotations

import cmath
import math

import torch
from torch import Tensor, nn

from bulba.attention.base import AttentionContext, MixerShape
from bulba.attention.transport import TransportMixer
from bulba.errors import ConfigError


class BraidAttention(TransportMixer):
    """num_strands: n. angle_frac: theta as a share of its bound 2 pi / n. none_bias: added to the score of no crossing.

    Raises ConfigError for strands that do not fill a head and angles without a definite form.
    """

    transport_values = True

    def __init__(self, shape: MixerShape, num_strands: int, angle_frac: float, none_bias: float) -> None:
        super().__init__(shape)
        if num_strands < 2 or shape.head_dim % (2 * (num_strands - 1)):
            raise ConfigError(
                f"attention.num_strands={num_strands} takes groups of {2 * (num_strands - 1)} coordinates, which must "
                f"divide the head width, {shape.head_dim}."
            )
        if not 0 < abs(angle_frac) < 1:
            raise ConfigError(
                f"attention.angle_frac={angle_frac} must be between -1 and 1, where the form is definite, and not 0, "
                "where a crossing is its own inverse."
            )
        self.num_strands = num_strands
        # Plain numbers: a buffer would be rounded with the weights.
        self.crossings = crossing_matrices(num_strands, angle_frac * 2 * math.pi / num_strands)
        num_crossings = len(self.crossings)
        self.crossing_proj = nn.Linear(shape.hidden_size, shape.num_kv_heads * num_crossings, bias=False)
        bias_GC = torch.zeros(shape.num_kv_heads, num_crossings)
        bias_GC[:, 0] = none_bias
        self.crossing_bias = nn.Parameter(bias_GC.flatten())  # flat as biases are, for optimizers

    def steps(self, x_BTH: Tensor) -> Tensor:
        scores_BGTC = self.scores(x_BTH)
        shares_BGTC = scores_BGTC.softmax(-1)
        hard_BGTC = torch.zeros_like(shares_BGTC).scatter(-1, scores_BGTC.argmax(-1, keepdim=True), 1.0)
        # What is added is exactly 0: the gradient of the shares, the value of the choice.
        return self.matrices(hard_BGTC + (shares_BGTC - shares_BGTC.detach()))

    def scores(self, x_BTH: Tensor) -> Tensor:
        """Of every crossing, [B, G, T, C]: none, s_1 .. s_(n-1), then their inverses."""
        wide = torch.promote_types(x_BTH.dtype, torch.float32)
        with torch.autocast(x_BTH.device.type, enabled=False):
            weight, bias = self.crossing_proj.weight.to(wide), self.crossing_bias.to(wide)
            scores = nn.functional.linear(x_BTH.to(wide), weight, bias)
        return scores.unflatten(-1, (self.shape.num_kv_heads, -1)).transpose(1, 2)

    def matrices(self, choices_BGTC: Tensor) -> Tensor:
        """Of one-hot choices: [B, G, T, C] -> [B, G, T, M, M, 1]."""
        size = len(self.crossings[0])
        table = torch.tensor(self.crossings, dtype=choices_BGTC.dtype, device=choices_BGTC.device)
        with torch.autocast(choices_BGTC.device.type, enabled=False):
            return (choices_BGTC @ table.flatten(1)).unflatten(-1, (size, size, 1))

    @torch.no_grad()
    def figures(self, x_BTH: Tensor, context: AttentionContext) -> dict[str, Tensor]:
        """word: of every token and key head the crossing +-a, or 0 for none. margin: by which score it was chosen."""
        scores_BGTC = self.scores(x_BTH)
        best = scores_BGTC.topk(2, -1).values
        return {
            "word_BGT": letter(scores_BGTC.argmax(-1), self.num_strands),
            "margin_BGT": best[..., 0] - best[..., 1],
        }


def letter(choice: Tensor, num_strands: int) -> Tensor:
    """The crossing of a choice: 0 for none, a for s_a, -a for its inverse."""
    return torch.where(choice < num_strands, choice, num_strands - 1 - choice)


def crossing_matrices(num_strands: int, theta: float) -> list[list[list[float]]]:
    """Orthogonal matrices of none, s_1 .. s_(n-1) and their inverses, [2n - 1, M, M]."""
    size, s = num_strands - 1, cmath.exp(0.5j * theta)
    columns = squier_columns(num_strands, theta)
    matrices = [real([[complex(row == column) for column in range(size)] for row in range(size)])]
    for factor in (s, s.conjugate()):
        for c in columns:
            matrices.append(
                real([[(row == column) - factor * c[row] * c[column] for column in range(size)] for row in range(size)])
            )
    return matrices


def squier_columns(num_strands: int, theta: float) -> list[list[float]]:
    """The vectors c_1 .. c_(n-1), whose inner products are Squier's form."""
    size = num_strands - 1
    columns = [[0.0] * size for _ in range(size)]
    for a in range(size):
        if a:
            columns[a][a - 1] = -1 / columns[a - 1][a - 1]
        columns[a][a] = math.sqrt(2 * math.cos(theta / 2) - (columns[a][a - 1] ** 2 if a else 0.0))
    return columns


def real(matrix: list[list[complex]]) -> list[list[float]]:
    """[[X, -Y], [Y, X]] of X + i Y."""
    upper = [[z.real for z in row] + [-z.imag for z in row] for row in matrix]
    return upper + [[z.imag for z in row] + [z.real for z in row] for row in matrix]
