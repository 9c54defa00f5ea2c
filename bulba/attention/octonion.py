"""Attention over octonions: projections with an eighth of the weights, and perhaps values turned by unit rotors.

Formula: as bulba/attention/quaternion.py, with 8 components and the Cayley-Dickson product of octonions (Wu et al.
2020, "Deep octonion networks", arXiv 1903.08478): a head of width D is M = D / 8 octonions,
    score_ij = sum_m Re(q_im* k_jm) / sqrt(D),   y_i = sum_j A_ij v_j,   or with a rotor gate sum_j A_ij (r_i v_j) r_i*.
Re(q* k) is the dot product of the eight components here too, and |u q| = |q|, so that one unit octonion that multiplies
all q and k from the left changes no score.

What is not as with quaternions: (x y) z is not x (y z). Each projection is one product of two numbers, w x, and needs
no brackets. Two projections one after the other are not one octonion-linear map, W (V x) != (W V) x, while
quaternion-linear maps are closed under composition. The gate has three factors but two generators, and (r v) r* =
r (v r*) by Artin's theorem, so that its brackets are free.

Cost for a layer: the products of standard attention, and the dense matrices expanded from an eighth of the weights once
a pass, or not at all for few tokens. The gate adds an orthogonal 8 x 8 matrix for each head and token. Memory as in
bulba/attention/softmax.py.

Chosen where the literature leaves freedom: as for quaternions; the initial weights of Wu et al. are the same rule with
8 degrees of freedom. The octonions are those of the doubling (a, b)(c, d) = (a c - d* b, d a + b c*), one of 480 tables
that differ by names and signs of the units alone.

It does not keep octonions through norms and the feed-forward, and embeddings are real.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bulba.attention.base import AttentionContext
from bulba.attention.hypercomplex import HypercomplexMixer, product


class OctonionAttention(HypercomplexMixer):
    """Softmax attention of octonions; see bulba/attention/hypercomplex.py for its parts."""

    num_components = 8

    @torch.no_grad()
    def figures(self, x_BTH: Tensor, context: AttentionContext) -> dict[str, Tensor]:
        """As for quaternions, and associator: |(q k) v - q (k v)| / |q k v|, mean of a head, [B, N, T].

        It is 0 where query, key and value of a token lie in one copy of the quaternions, and at most 2.
        """
        q_BNTMC, k_BNTMC, v_BNTMC = (
            x_BNTD.repeat_interleave(self.shape.num_heads // x_BNTD.shape[1], 1).unflatten(-1, (-1, 8))
            for x_BNTD in self.queries_keys_values(x_BTH, context)
        )
        lengths_BNTM = q_BNTMC.norm(dim=-1) * k_BNTMC.norm(dim=-1) * v_BNTMC.norm(dim=-1)
        gaps_BNTM = associator(q_BNTMC, k_BNTMC, v_BNTMC).norm(dim=-1) / lengths_BNTM.clamp_min(1e-30)
        return super().figures(x_BTH, context) | {"associator": gaps_BNTM.mean(-1)}


def associator(x_XC: Tensor, y_XC: Tensor, z_XC: Tensor) -> Tensor:
    """(x y) z - x (y z)."""
    return product(product(x_XC, y_XC), z_XC) - product(x_XC, product(y_XC, z_XC))
