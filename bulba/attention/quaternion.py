"""Attention over quaternions: projections with a quarter of the weights, and perhaps values turned by unit rotors.

Formula: q, k and v are quaternion-linear, q_o = sum_i w_oi x_i with the Hamilton product (Parcollet et al. 2019, arXiv
1806.04418; Tay et al. 2019, arXiv 1906.04393, for Transformers), and so is the output projection. A head of width D is
M = D / 4 quaternions q_m, and
    score_ij = sum_m Re(q_im* k_jm) / sqrt(D),   A = softmax over j <= i of score,
    y_i = sum_j A_ij v_j,   or with a rotor gate   y_i = sum_j A_ij r_i v_j r_i*,   r_i = p / |p|, p = 1 + W x_i.
Re(q* k) is the dot product of the four components, so the scores are those of softmax attention on the flattened heads
and its kernels serve: this is standard attention with projections of a certain form, which `dense_weights` writes out.
Multiplying all q and k from the left by one unit quaternion changes no score.

Cost for a layer: the products of standard attention, and the dense matrices expanded from a quarter of the weights once
a pass, or not at all for few tokens. The gate adds an orthogonal 4 x 4 matrix for each head and token. Memory as in
bulba/attention/softmax.py.

Chosen where the literature leaves freedom:
- weights stand on the left of the inputs, as in Parcollet et al.;
- four adjacent features are one quaternion, so that a head holds whole ones (in Parcollet et al. and Tay et al. the
  components are four separate quarters of the features, of which a head would hold one kind only);
- rotary positions and QK-norm act on q and k after their projections, on the D flattened components, as in `standard`,
  so that scores depend on distances alone. The rotation has another frequency for each component and does not commute
  with a product from the left, so that the invariance above is one of the rotated q and k;
- the gate has one rotor for each head and query. It is off unless asked for: what was measured in the papers has none,
  and without it the layer is a Llama layer;
- a bias is one number for each feature; QK-norm gains likewise.

It does not normalise or activate quaternion by quaternion (feed-forward and norms of the block are the model's), and
embeddings are real.
"""

from __future__ import annotations

from bulba.attention.hypercomplex import HypercomplexMixer


class QuaternionAttention(HypercomplexMixer):
    """Softmax attention of quaternions; see bulba/attention/hypercomplex.py for its parts."""

    num_components = 4
