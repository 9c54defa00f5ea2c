"""Numbers of C components (quaternions, octonions), linear maps of them, and softmax attention made of such maps.

Product: (a, b)(c, d) = (a c - d* b, d a + b c*), from the reals upwards (Cayley-Dickson; Baez 2002, arXiv
math/0105155, section 2.2). The units obey e_a e_b = +-e_(a xor b). Where a number lies in a tensor its components are
adjacent, so that heads, whose width is a multiple of C, hold whole numbers.

Linear map: y_o = sum_i w_oi x_i, weights on the left. It is the dense matrix whose entry from component b of x_i to
component a of y_o is +-component (a xor b) of w_oi: C times fewer weights, but as many multiplications. `HyperLinear`
expands that matrix for one large product; where the rows are too few to pay for it, as in decoding, it expands x
instead, to C times its size, and multiplies by the component matrices as they are.

Initial weights (Parcollet et al. 2019, arXiv 1806.04418; Wu et al. 2020, arXiv 1903.08478, for octonions):
w = |w| (cos t + u sin t), |w| chi-distributed with C degrees of freedom, t uniform over the circle, u uniform over the
imaginary unit sphere. |w| is scaled so that the dense matrix has the standard deviation that the model asks for.

Letters beside those of base.py: C components, M = D / C numbers in a head, O and I numbers out and in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bulba.attention.base import KERNELS, AttentionContext, Capabilities, MixerShape
from bulba.attention.heads import HeadsMixer
from bulba.errors import ConfigError, UnsupportedError


def conjugate(x: Sequence[Any]) -> list[Any]:
    """x*, of a number given by its components."""
    return [x[0], *(-part for part in x[1:])]


def multiply(x: Sequence[Any], y: Sequence[Any]) -> list[Any]:
    """x y, of numbers given by their components, which may be tensors."""
    half = len(x) // 2
    if not half:
        return [x[0] * y[0]]
    a, b, c, d = x[:half], x[half:], y[:half], y[half:]
    first = zip(multiply(a, c), multiply(conjugate(d), b), strict=True)
    second = zip(multiply(d, a), multiply(b, conjugate(c)), strict=True)
    return [*(left - right for left, right in first), *(left + right for left, right in second)]


def unit_signs(num_components: int) -> list[list[int]]:
    """signs[a][b] of e_a e_b = signs[a][b] e_(a xor b)."""
    places = range(num_components)
    units = [[int(a == b) for b in places] for a in places]
    return [[multiply(units[a], units[b])[a ^ b] for b in places] for a in places]


SIGNS = {n: unit_signs(n) for n in (4, 8)}
# Of the matrices of y -> x y and of y -> y x: entry a, b is signs[a][b] * x_(a xor b).
LEFT = {n: [[signs[a ^ b][b] for b in range(n)] for a in range(n)] for n, signs in SIGNS.items()}
RIGHT = {n: [[signs[b][a ^ b] for b in range(n)] for a in range(n)] for n, signs in SIGNS.items()}
DENSE_ROWS = 32
"""Up to so many rows of x the dense matrix is not expanded."""


def product(x_XC: Tensor, y_XC: Tensor) -> Tensor:
    """x y, of numbers along the last dimension."""
    return torch.stack(multiply(x_XC.unbind(-1), y_XC.unbind(-1)), -1)


def product_matrix(x_CX: Tensor, signs: dict[int, list[list[int]]]) -> Tensor:
    """The matrices [C, C, X] of y -> x y with signs LEFT, of y -> y x with RIGHT.

    a xor b turns over those binary digits of b that are 1 in a, so the copies are made by flips, a few steps instead of
    C x C small ones; that is what keeps graphs small and compiling quick.
    """
    digits = len(x_CX).bit_length() - 1
    copies = x_CX.unflatten(0, (2,) * digits)
    for _ in range(digits):
        copies = torch.stack([copies, copies.flip(digits - 1)])
    copies_CCX = copies.flatten(0, digits - 1).flatten(1, digits)
    # Moved without waiting for the device.
    signs_CC = torch.tensor(signs[len(x_CX)], dtype=torch.int8).to(x_CX.device, non_blocking=True)
    return copies_CCX * signs_CC.view(signs_CC.shape + (1,) * (x_CX.ndim - 1))


def conjugation(rotor_XC: Tensor) -> Tensor:
    """The matrix [..., C, C] of x -> r x r* for a unit r; orthogonal, and 1 on the real part.

    Read as (r x) r*. With octonions r (x r*) is the same: r, r* and x lie in a subalgebra of two generators, and every
    such is associative (Artin's theorem). From r* = 2 Re(r) - r and r x r = 2 (r . x*) r - x* it is
    2 (Re(r) L_r - r r*^T) + the matrix of x -> x*.
    """
    mirror_C = torch.cat([torch.ones_like(rotor_XC[..., :1]), -torch.ones_like(rotor_XC[..., 1:])], -1)
    left_XCC = product_matrix(rotor_XC.movedim(-1, 0), LEFT).movedim((0, 1), (-2, -1))
    outer_XCC = rotor_XC[..., None] * (rotor_XC * mirror_C)[..., None, :]
    return 2 * (rotor_XC[..., :1, None] * left_XCC - outer_XCC) + mirror_C.diag_embed()


def conjugated_by(rotor_XC: Tensor, x_XMC: Tensor) -> Tensor:
    """r x r*, which keeps |x| and the real part of x, for M numbers x to each unit r."""
    return x_XMC @ conjugation(rotor_XC).transpose(-1, -2)


def components(weight: Tensor, num_components: int) -> Tensor:
    """The weight of a HyperLinear by component, [C, O, I]."""
    return weight.unflatten(1, (num_components, -1)).transpose(0, 1)


def dense_matrix(weight: Tensor, num_components: int) -> Tensor:
    """The same map as the weight of an nn.Linear: [O, C I] -> [C O, C I], C rows for each."""
    matrix_CCOI = product_matrix(components(weight, num_components), LEFT)
    return matrix_CCOI.permute(2, 0, 3, 1).flatten(2).flatten(0, 1)


class HyperLinear(nn.Module):
    """y = W x + bias of numbers with `num_components` components each: [..., in] -> [..., out].

    weight: [out / C, in], the component matrices [O, I] side by side. It is kept in two dimensions because optimizers
    take such a `weight` for a matrix: it decays, and Muon makes its updates orthonormal, which bounds the norm of their
    dense matrices by sqrt(C).
    """

    def __init__(self, in_features: int, out_features: int, num_components: int, bias: bool) -> None:
        super().__init__()
        assert in_features % num_components == out_features % num_components == 0
        self.num_components = num_components
        self.weight = nn.Parameter(torch.empty(out_features // num_components, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.init_weights(1 / math.sqrt(in_features))

    def init_weights(self, std: float) -> None:
        """Fill the weights anew; std: of the dense matrix. The model calls it where it fills those of an nn.Linear."""
        blank_COI = torch.empty_like(components(self.weight, self.num_components))
        modulus_1OI = std * torch.randn_like(blank_COI).norm(dim=0, keepdim=True)
        angle_1OI = torch.empty_like(blank_COI[:1]).uniform_(-math.pi, math.pi)
        axis_COI = F.normalize(torch.randn_like(blank_COI[1:]), dim=0)
        with torch.no_grad():
            parts_COI = torch.cat([modulus_1OI * angle_1OI.cos(), modulus_1OI * angle_1OI.sin() * axis_COI])
            self.weight.copy_(parts_COI.transpose(0, 1).flatten(1))
            if self.bias is not None:
                self.bias.zero_()

    def dense(self) -> Tensor:
        """The same map as the weight of an nn.Linear, [out, in]."""
        return dense_matrix(self.weight, self.num_components)

    def forward(self, x_X: Tensor) -> Tensor:
        if x_X.numel() > DENSE_ROWS * x_X.shape[-1]:
            return F.linear(x_X, self.dense(), self.bias)
        y_X = self.by_components(x_X)
        return y_X if self.bias is None else y_X + self.bias

    def by_components(self, x_X: Tensor) -> Tensor:
        """W x without the dense matrix: component a of y is sum_c W_c (what e_c makes of x), one product for all a."""
        x_CXI = x_X.unflatten(-1, (-1, self.num_components)).movedim(-1, 0)
        made_XCCI = product_matrix(x_CXI, RIGHT).movedim((0, 1), (-3, -2))
        return F.linear(made_XCCI.flatten(-2), self.weight).transpose(-1, -2).flatten(-2)


class HypercomplexMixer(HeadsMixer):
    """Softmax attention with projections that are linear over numbers of `num_components`, and perhaps a rotor gate.

    rotor_gate: conjugates the values that head n reads at token i by the unit number r_i = p / |p|, p = 1 + W_n x_i.
    """

    num_components: ClassVar[int]
    capabilities = Capabilities(KERNELS, packing=True, cache=True, gqa=True, alibi=True, dropout=True)

    def __init__(self, shape: MixerShape, rotor_gate: bool) -> None:
        for what, size in (("model.hidden_size", shape.hidden_size), ("the head width", shape.head_dim)):
            if size % self.num_components:
                raise ConfigError(
                    f"{type(self).__name__} needs {what} to be a multiple of {self.num_components}, and it is {size}: "
                    "set model.hidden_size and model.num_heads so that it is."
                )
        super().__init__(shape)
        width = shape.num_heads * self.num_components
        self.rotor_proj = self.make_linear(shape.hidden_size, width) if rotor_gate else None

    def make_linear(self, in_features: int, out_features: int) -> nn.Module:
        return HyperLinear(in_features, out_features, self.num_components, self.shape.bias)

    def forward(self, x_BTH: Tensor, context: AttentionContext, cache: Any | None = None) -> Tensor:
        q_BNTD, k_BGSD, v_BGSD = self.queries_keys_values(x_BTH, context)
        if cache is not None:
            k_BGSD, v_BGSD = cache.write(k_BGSD, v_BGSD, context.start)
        y_BNTD = self.softmax(q_BNTD, k_BGSD, v_BGSD, context, cache is not None, self.training)
        if self.rotor_proj is not None:
            y_BNTD = self.turn(y_BNTD, self.rotors(x_BTH))
        return self.merge(y_BNTD)

    def rotors(self, x_BTH: Tensor) -> Tensor:
        """The unit number of every head and token, [B, N, T, C], in fp32 at least."""
        assert self.rotor_proj is not None
        parts_BNTC = self.rotor_proj(x_BTH).unflatten(-1, (-1, self.num_components)).transpose(1, 2)
        parts_BNTC = parts_BNTC.to(torch.promote_types(parts_BNTC.dtype, torch.float32))
        return F.normalize(torch.cat([parts_BNTC[..., :1] + 1, parts_BNTC[..., 1:]], -1), dim=-1)

    def turn(self, y_BNTD: Tensor, rotors_BNTC: Tensor) -> Tensor:
        """Conjugate every number of a head by the rotor of its token.

        Conjugation is linear, so sum_j A_ij (r_i v_j r_i*) = r_i (sum_j A_ij v_j) r_i*: T conjugations, not T x T.
        """
        y_BNTMC = y_BNTD.unflatten(-1, (-1, self.num_components)).to(rotors_BNTC.dtype)
        return conjugated_by(rotors_BNTC, y_BNTMC).flatten(-2).to(y_BNTD.dtype)

    def dense_weights(self) -> dict[str, Tensor]:
        """The state of the StandardAttention that computes the same; UnsupportedError with a rotor gate."""
        if self.rotor_proj is not None:
            raise UnsupportedError(
                f"{type(self).__name__} with rotor_gate=true is no standard attention, because it turns values: only "
                "the form with rotor_gate=false expands."
            )
        state = self.state_dict()
        for name, module in self.named_modules():
            if isinstance(module, HyperLinear):
                state[f"{name}.weight"] = module.dense().detach()
        return state

    @torch.no_grad()
    def figures(self, x_BTH: Tensor, context: AttentionContext) -> dict[str, Tensor]:
        """turn_deg: the angle between the numbers of query i and key j, mean of a head, [B, N, T, T].

        A score is sum_m |q_m| |k_m| cos(angle_m), so this is the part of it that lengths have no say in; numbers drawn
        at random stand at 90 degrees in the mean. rotor_deg, with a gate: the angle of r, [B, N, T].
        """
        q_BNTD, k_BGTD, _ = self.queries_keys_values(x_BTH, context)
        k_BNTD = k_BGTD.repeat_interleave(self.shape.num_heads // self.shape.num_kv_heads, 1)
        q_MBNTC, k_MBNTC = (
            F.normalize(x.unflatten(-1, (-1, self.num_components)).movedim(-2, 0), dim=-1) for x in (q_BNTD, k_BNTD)
        )
        # One number at a time, so that nothing of T x T x D is held.
        angles = (angle_deg(q @ k.transpose(-2, -1)) for q, k in zip(q_MBNTC, k_MBNTC, strict=True))
        found = {"turn_deg": sum(angles, torch.zeros(())) / len(q_MBNTC)}
        if self.rotor_proj is not None:
            found["rotor_deg"] = angle_deg(self.rotors(x_BTH)[..., 0])
        return found


def angle_deg(cosine: Tensor) -> Tensor:
    return cosine.clamp(-1, 1).acos().rad2deg()
