"""2-simplicial attention: every query weighs pairs of keys, so that three tokens meet in one score.

Formula: y_i = sum_jk A_ijk (v_j * v'_k), an elementwise product; A_i is the softmax of <q_i, k_j, k'_k> / sqrt(D) over
all pairs (j, k) with i - w1 < j <= i and i - w2 < k <= i in the document of i. k' and v' are further projections.
Sources: Clift et al. 2019 (arXiv 1909.00668); windows and grouped heads as in Roy et al. 2025 (arXiv 2507.02754).

Chosen here: the trilinear form. A plain sum_d q_d k_d k'_d depends on absolute positions once RoPE turns its factors;
the determinants of Roy et al. do not, but want head widths divisible by 3. RoPE makes of a head D/2 complex numbers
anyway (d paired with d + D/2), so the form is the complex one,
    <q, k, k'> = Re sum_c conj(q_c) k_c k'_c,
with q turned in every pair c, k in the even pairs alone and k' in the odd ones: the phase is p_j - p_i in even pairs
and p_k - p_i in odd ones. So the score depends on differences of positions only, on those of both keys, and every term
has two turned factors as in ordinary attention, which keeps the meaning of scaled rotary tables. With q_c = e^(-iax),
k_c = e^(iay) and k'_c = e^(iaz) a term is cos(a (x + y + z)): the 3-way match of Sanford et al. 2023, arXiv 2306.02896.
ALiBi takes slope * ((i - j) + (i - k)) off a score.

Cost per layer: 4 T w1 w2 N D operations for scores and values. Memory: kernel `reference` holds all T w1 w2 weights;
`flash` makes them again in the backward pass and keeps O(T D). It is
- the Triton kernels of bulba/kernels/simplicial.py on CUDA in fp32, bf16 and fp16, where heads are at most 256 wide;
- bulba/attention/pair_blocks.py elsewhere.
The decode cache keeps w1 - 1 and w2 - 1 tokens.

It does not do dropout of weights, and reads nothing beyond its windows: deeper layers reach farther through others.

Letters beside those of base.py: J and U are the first and the second window, oldest key first.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from bulba.attention.base import KERNELS, AttentionContext, Capabilities, DocumentForm, Kernel, MixerShape
from bulba.attention.heads import HeadsMixer
from bulba.attention.pair_blocks import Four, blocked_attention, times_conj
from bulba.attention.softmax import repeat_heads
from bulba.device import runs_triton
from bulba.errors import ConfigError

MAX_HEAD_DIM = 256
"""Of the Triton kernels: tiles of wider heads do not fit into the memory of a block."""


class SimplicialAttention(HeadsMixer):
    """window1_tokens, window2_tokens: w1 and w2, how many tokens the two keys of a pair are chosen from."""

    capabilities = Capabilities(KERNELS, packing=True, cache=True, gqa=True, alibi=True)

    def __init__(self, shape: MixerShape, window1_tokens: int, window2_tokens: int) -> None:
        super().__init__(shape)
        for name, size in (("window1_tokens", window1_tokens), ("window2_tokens", window2_tokens)):
            if size < 1:
                raise ConfigError(f"attention.{name}={size} must be at least 1: a token always reads itself.")
        self.windows = (window1_tokens, window2_tokens)
        kv_width = shape.num_kv_heads * shape.head_dim
        self.k2_proj = self.make_linear(shape.hidden_size, kv_width)
        self.v2_proj = self.make_linear(shape.hidden_size, kv_width)
        self.k2_norm = shape.make_qk_norm(shape.head_dim) if shape.make_qk_norm else nn.Identity()

    def forward(self, x_BTH: Tensor, context: AttentionContext, cache: Any | None = None) -> Tensor:
        q_BNTD, keys_values = self.project(x_BTH, context)
        if cache is not None:
            keys_values = cache.write(keys_values)
        attend = reference_attention if context.kernel == "reference" else flash_attention
        return self.merge(attend(q_BNTD, keys_values, self.windows, context.documents_BT, context.slopes_N))

    def project(self, x_BTH: Tensor, context: AttentionContext) -> tuple[Tensor, Four]:
        """q [B, N, T, D] and k, v, k', v' [B, G, T, D], normed and turned."""
        q_BNTD, k_BGTD, v_BGTD, k2_BGTD, v2_BGTD = (
            self.heads(proj(x_BTH)) for proj in (self.q_proj, self.k_proj, self.v_proj, self.k2_proj, self.v2_proj)
        )
        k_BGTD, k2_BGTD = self.k_norm(k_BGTD), self.k2_norm(k2_BGTD)
        is_even_D = torch.arange(self.shape.head_dim, device=x_BTH.device) % (self.shape.head_dim // 2) % 2 == 0
        k_BGTD = torch.where(is_even_D, context.rotate(k_BGTD), k_BGTD)
        k2_BGTD = torch.where(is_even_D, k2_BGTD, context.rotate(k2_BGTD))
        return context.rotate(self.q_norm(q_BNTD)), (k_BGTD, v_BGTD, k2_BGTD, v2_BGTD)

    def new_cache(self, batch_size: int, max_tokens: int, dtype: torch.dtype, device: torch.device) -> Any:
        shape = (batch_size, self.shape.num_kv_heads, 0, self.shape.head_dim)
        return WindowCache(self.windows, torch.empty(shape, dtype=dtype, device=device))

    def reads(self, kernel: Kernel) -> DocumentForm:
        return "documents_BT"

    def choose_backend(
        self, kernel: Kernel, compiled: bool, num_rows: int, num_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> str:
        if kernel == "reference":
            return kernel
        return "simplicial triton" if takes_triton(dtype, device, self.shape.head_dim) else "simplicial blocked"

    @torch.no_grad()
    def weights(self, x_BTH: Tensor, context: AttentionContext) -> Tensor:
        """A of every query over its pairs, [B, N, T, U, J]: the keys k and j, oldest first, the query itself last."""
        q_BNTD, (k_BGTD, _, k2_BGTD, _) = self.project(x_BTH, context)
        return pair_weights(q_BNTD, k_BGTD, k2_BGTD, self.windows, context.documents_BT, context.slopes_N)

    @torch.no_grad()
    def figures(self, x_BTH: Tensor, context: AttentionContext) -> dict[str, Tensor]:
        """entropy_BNT of A_i over its pairs, and mutual_information_BNT of its two keys, in nats.

        The latter is 0 where A_ijk = a_ij b_ik, which two ordinary attentions could do as well.
        """
        weights = self.weights(x_BTH, context)
        entropies = [torch.special.entr(x).sum((-2, -1)) for x in (weights.sum(-2, True), weights.sum(-1, True))]
        both = torch.special.entr(weights).sum((-2, -1))
        return {"entropy_BNT": both, "mutual_information_BNT": sum(entropies) - both}


class WindowCache:
    """The last w1 - 1 tokens of k and v and the last w2 - 1 of k' and v': no later query reads more."""

    def __init__(self, windows: tuple[int, int], nothing_BG0D: Tensor) -> None:
        self.sizes = (windows[0] - 1,) * 2 + (windows[1] - 1,) * 2
        self.kept = [nothing_BG0D] * 4

    def write(self, fresh: Four) -> Four:
        """What was kept with the new tokens behind it; the queries are the last ones."""
        joined = [torch.cat(pair, 2) for pair in zip(self.kept, fresh, strict=True)]
        self.kept = [x[:, :, max(x.shape[2] - size, 0) :].clone() for x, size in zip(joined, self.sizes, strict=True)]
        return cast("Four", tuple(joined))

    @property
    def num_bytes(self) -> int:
        return sum(x.nbytes for x in self.kept)


def takes_triton(dtype: torch.dtype, device: torch.device, head_dim: int) -> bool:
    """Whether kernel `flash` is bulba/kernels/simplicial.py for such values, and not blocks of queries."""
    return runs_triton(dtype, device) and head_dim <= MAX_HEAD_DIM


def flash_attention(
    q_BNTD: Tensor,
    keys_values: Four,
    windows: tuple[int, int],
    documents_BT: Tensor | None = None,
    slopes_N: Tensor | None = None,
) -> Tensor:
    """The same as `reference_attention` in memory O(T D); slopes_N get no gradient."""
    if takes_triton(q_BNTD.dtype, q_BNTD.device, q_BNTD.shape[-1]):
        from bulba.kernels.simplicial import simplicial_attention

        return simplicial_attention(q_BNTD, keys_values, windows, documents_BT, slopes_N)
    return blocked_attention(q_BNTD, keys_values, windows, documents_BT, slopes_N)


def reference_attention(
    q_BNTD: Tensor,
    keys_values: Four,
    windows: tuple[int, int],
    documents_BT: Tensor | None = None,
    slopes_N: Tensor | None = None,
) -> Tensor:
    """The formula written out: [B, N, T, D] and k, v [B, G, S, D], k', v' [B, G, S', D] -> [B, N, T, D].

    The last query stands at the last key; S and S' are T, or more with keys of a cache before them.
    """
    k, v, k2, v2 = keys_values
    weights_BNTUJ = pair_weights(q_BNTD, k, k2, windows, documents_BT, slopes_N)
    v_BNTJD, v2_BNTUD = (
        repeat_heads(q_BNTD, x)[:, :, window_places(q_BNTD, x, window).clamp(0)]
        for x, window in zip((v, v2), windows, strict=True)
    )
    return ((weights_BNTUJ.to(v.dtype) @ v_BNTJD) * v2_BNTUD).sum(3)


def pair_weights(
    q_BNTD: Tensor,
    k_BGSD: Tensor,
    k2_BGSD: Tensor,
    windows: tuple[int, int],
    documents_BT: Tensor | None,
    slopes_N: Tensor | None,
) -> Tensor:
    """A, in fp32 at least, 0 where a key may not be read; [B, N, T, U, J]."""
    places = [window_places(q_BNTD, x, window) for x, window in zip((k_BGSD, k2_BGSD), windows, strict=True)]
    k_BNTJD, k2_BNTUD = (
        repeat_heads(q_BNTD, x)[:, :, place.clamp(0)] for x, place in zip((k_BGSD, k2_BGSD), places, strict=True)
    )
    rows_BNTUD = times_conj(q_BNTD[:, :, :, None], k2_BNTUD)
    products = rows_BNTUD @ k_BNTJD.transpose(-2, -1)
    scores = products.to(torch.promote_types(products.dtype, torch.float32)) / math.sqrt(q_BNTD.shape[-1])
    can_BTJ, can_BTU = ((place >= 0)[None] for place in places)
    if documents_BT is not None:
        same = [documents_BT[:, place.clamp(0)] == documents_BT[:, :, None] for place in places]
        can_BTJ, can_BTU = can_BTJ & same[0], can_BTU & same[1]
    if slopes_N is not None:
        back_J, back_U = (place[..., -1:] - place for place in places)
        scores = scores - slopes_N.to(scores.dtype)[:, None, None, None] * (back_J[:, None, :] + back_U[:, :, None])
    scores = scores.masked_fill(~(can_BTJ[:, None, :, None] & can_BTU[:, None, :, :, None]), -torch.inf)
    return scores.flatten(-2).softmax(-1).view_as(scores)


def window_places(q_BNTD: Tensor, x_BGSD: Tensor, window: int) -> Tensor:
    """Where the window of every query lies in x, [T, window]; below 0 where there is nothing."""
    num_queries, num_keys = q_BNTD.shape[2], x_BGSD.shape[2]
    window = min(window, num_keys)
    places = torch.arange(num_keys - num_queries, num_keys, device=x_BGSD.device)
    return places[:, None] + torch.arange(1 - window, 1, device=x_BGSD.device)
