"""Attention between tokens that each turn the frame of those after them: what gauge and braid have in common.

Token t of key head g emits an orthogonal matrix U_t, M x M, one for each of L groups of coordinates of the head (or one
for all groups). The frame P_t = U_t P_(t-1) starts from the identity before the first token of each document, so that
P_i P_j^T = U_i ... U_(j+1) is the transport from j to i, and
    s_ij = q_i . P_i P_j^T k_j / sqrt(D),  y_i = sum_j softmax_j(s_ij) P_i P_j^T v_j
is ordinary attention on P^T q, P^T k and P^T v, all seen from the document's start, with its output turned by P.

Products: doubling inside chunks of CHUNK tokens, then over the chunks, so that the order of multiplication follows from
the place of a token alone and nothing later than a token is ever in its product. Time O(T M^2 (log CHUNK + 1)) a
coordinate, depth O(log T), memory O(T M) a coordinate. The products of chunks are made orthogonal before and after
they are multiplied, by a step of Newton and Schulz, P (3 I - P^T P) / 2 (Higham 2008, Functions of Matrices, section
8.3), which squares what rounding added: of 1e-8 a token in fp32, 1e-6 is left after 1e5 tokens.
Gradient: to first order P_i changes by P_i sum_{j<=i} P_j^T dU_j P_(j-1), so that the gradient of U_j is
P_j (sum_{i>=j} skew P_i^T G_i) P_(j-1)^T with G the gradient of P: the same scan, of sums, and nothing stored but P.
Only the skew part counts, as the Newton step leaves nothing of the rest.
Layout: coordinate d = m L + l of a head is number m of group l. With M = 2 these are the pairs of rotary positions, and
neighbours in memory share their arithmetic, which matrices as small as these need: everything is element-wise.

Rotary positions turn P^T q and P^T k, in the frame of the start: the score is then q_i . P_i R_(i-j)^T P_j^T k_j, which
depends on differences of positions alone; turned before the transport, q and k would not. It does not do transports
that depend on the pair (i, j) otherwise, nor transports across documents.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bulba.attention.base import KERNELS, AttentionContext, Capabilities
from bulba.attention.heads import HeadsMixer, KeyValueCache

Combine = Callable[[Tensor, Tensor], Tensor]  # of a later and an earlier part
CHUNK = 16
"""Tokens multiplied before chunks are: log2(CHUNK) products each, and the products over chunks cost 1/CHUNK of that."""


class TransportCache(KeyValueCache):
    """Keys and values seen from the document's start, and the frame after the last token, [B, G, M, M, L]."""

    frame_BGMML: Tensor | None = None

    @property
    def num_bytes(self) -> int:
        return super().num_bytes + (0 if self.frame_BGMML is None else self.frame_BGMML.nbytes)


class TransportMixer(HeadsMixer):
    """Softmax attention along the transports that `steps` gives. transport_values: values are transported too."""

    capabilities = Capabilities(KERNELS, packing=True, cache=True, gqa=True, alibi=True, dropout=True)
    transport_values: bool

    @abstractmethod
    def steps(self, x_BTH: Tensor) -> Tensor:
        """U of every token and key head, [B, G, T, M, M, L], in fp32 at least; L may be 1 for all groups alike."""

    def forward(self, x_BTH: Tensor, context: AttentionContext, cache: Any | None = None) -> Tensor:
        q_BNTD, k_BGTD, v_BGTD = (self.heads(proj(x_BTH)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        q_BNTD, k_BGTD = self.q_norm(q_BNTD), self.k_norm(k_BGTD)
        return self.merge(self.attend(q_BNTD, k_BGTD, v_BGTD, self.steps(x_BTH), context, cache))

    def attend(
        self,
        q_BNTD: Tensor,
        k_BGTD: Tensor,
        v_BGTD: Tensor,
        steps_BGTMML: Tensor,
        context: AttentionContext,
        cache: TransportCache | None = None,
    ) -> Tensor:
        """Attention of q, k, v whose frames the steps turn: [B, N, T, D], 2 x [B, G, T, D] -> [B, N, T, D]."""
        frames_BGTMML = running_products(steps_BGTMML, context.documents_BT)
        if cache is not None:
            if context.start:
                assert cache.frame_BGMML is not None
                frames_BGTMML = product(frames_BGTMML, cache.frame_BGMML[:, :, None])
            cache.frame_BGMML = polish(frames_BGTMML[:, :, -1])
        q_BNTD = context.rotate(to_start(frames_BGTMML, q_BNTD))
        k_BGTD = context.rotate(to_start(frames_BGTMML, k_BGTD))
        if self.transport_values:
            v_BGTD = to_start(frames_BGTMML, v_BGTD)
        if cache is not None:
            k_BGTD, v_BGTD = cache.write(k_BGTD, v_BGTD, context.start)
        y_BNTD = self.softmax(q_BNTD, k_BGTD, v_BGTD, context, cache is not None, self.training)
        return from_start(frames_BGTMML, y_BNTD) if self.transport_values else y_BNTD

    def new_cache(self, batch_size: int, max_tokens: int, dtype: torch.dtype, device: torch.device) -> Any:
        return TransportCache((batch_size, self.shape.num_kv_heads, max_tokens, self.shape.head_dim), dtype, device)


def to_start(frames_BGTMML: Tensor, x_BNTD: Tensor) -> Tensor:
    """P^T x: [B, N, T, D] as it looks from the start of its document."""
    x = by_group(frames_BGTMML, x_BNTD)
    out = (frames_BGTMML[:, :, None] * x[..., None, :]).sum(-3)
    return out.flatten(-2).flatten(1, 2).to(x_BNTD.dtype)


def from_start(frames_BGTMML: Tensor, x_BNTD: Tensor) -> Tensor:
    """P x, the inverse of `to_start`."""
    x = by_group(frames_BGTMML, x_BNTD)
    out = (frames_BGTMML[:, :, None] * x[..., None, :, :]).sum(-2)
    return out.flatten(-2).flatten(1, 2).to(x_BNTD.dtype)


def by_group(frames_BGTMML: Tensor, x_BNTD: Tensor) -> Tensor:
    """[B, N, T, D] -> [B, G, N / G, T, M, L], in the dtype of the frames."""
    x = x_BNTD.unflatten(-1, (frames_BGTMML.shape[-2], -1)).unflatten(1, (frames_BGTMML.shape[1], -1))
    return x.to(frames_BGTMML.dtype)


def product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix products of [..., M, M, L], each group on its own."""
    return (left[..., None, :] * right[..., None, :, :, :]).sum(-3)


def transpose(x: Tensor) -> Tensor:
    """[..., M, M, L], each matrix transposed."""
    return x.transpose(-2, -3)


def identity(like: Tensor) -> Tensor:
    """The identity for [..., M, M, L], [M, M, 1]."""
    return torch.eye(like.shape[-2], dtype=like.dtype, device=like.device)[..., None]


def polish(x: Tensor) -> Tensor:
    """The orthogonal matrix next to one that is nearly so: an error e becomes one of order e^2."""
    return product(x, 1.5 * identity(x) - 0.5 * product(transpose(x), x))


def running_products(steps_BGTMML: Tensor, documents_BT: Tensor | None) -> Tensor:
    """P_t = U_t ... U_1 from the start of each document; U are orthogonal."""
    frames: Tensor = RunningProducts.apply(steps_BGTMML, documents_BT)
    return frames


class RunningProducts(torch.autograd.Function):
    """Forward and backward as the docstring of the module says."""

    @staticmethod
    def forward(ctx: Any, steps_BGTMML: Tensor, documents_BT: Tensor | None) -> Tensor:
        frames_BGTMML = scan(steps_BGTMML, places_in(documents_BT, steps_BGTMML), product, polish)
        ctx.save_for_backward(frames_BGTMML, documents_BT)
        return frames_BGTMML

    @staticmethod
    def backward(ctx: Any, grad_BGTMML: Tensor) -> tuple[Tensor, None]:
        frames, documents_BT = ctx.saved_tensors
        before = torch.where(places_in(documents_BT, frames) == 0, identity(frames), shift(frames, 1))
        turned = product(transpose(frames), grad_BGTMML)
        turned = 0.5 * (turned - transpose(turned))
        # The sum over a token and those after it in its document is a running sum from the end.
        places = places_in(None if documents_BT is None else documents_BT.flip(1), frames)
        later = scan(turned.flip(2), places, torch.add, lambda sums: sums).flip(2)
        return product(product(frames, later), transpose(before)), None


def places_in(documents_BT: Tensor | None, like: Tensor) -> Tensor:
    """The place of every token in its document, for [B, G, T, M, M, L]: [B, 1, T, 1, 1, 1]."""
    places_T = torch.arange(like.shape[2], device=like.device)
    if documents_BT is None:
        return places_T[:, None, None, None]
    starts_BT = torch.where(documents_BT != documents_BT.roll(1, 1), places_T, 0).cummax(1).values
    return (places_T - starts_BT)[:, None, :, None, None, None]


def scan(steps: Tensor, places: Tensor, combine: Combine, finish: Callable[[Tensor], Tensor]) -> Tensor:
    """Everything from the start of a token's document up to it, combined; [B, G, T, M, M, L] -> same.

    places: from `places_in`. finish: applied to what chunks come to, before and after they are combined.
    """
    num_tokens = steps.shape[2]
    if num_tokens <= CHUNK:
        return doubled(steps, places, combine)
    missing = (0, 0, 0, 0, 0, 0, 0, -num_tokens % CHUNK)
    steps, places = (F.pad(x, missing).unflatten(-4, (-1, CHUNK)) for x in (steps, places))
    places_C = torch.arange(CHUNK, device=steps.device)[:, None, None, None]
    inside = doubled(steps, torch.minimum(places, places_C), combine)
    # A chunk's part begins in the chunk where the document of its last token does.
    chunk_places = places[..., -1, :, :, :] // CHUNK
    chunks = finish(doubled(finish(inside[..., -1, :, :, :]), chunk_places, combine))
    carried = combine(inside, shift(chunks, 1)[..., None, :, :, :])
    return torch.where(places > places_C, carried, inside).flatten(2, 3)[:, :, :num_tokens]


def doubled(steps: Tensor, places: Tensor, combine: Combine) -> Tensor:
    """All up to each along dimension -4 combined, at most as many as `places` before it."""
    span = 1
    while span < steps.shape[-4]:
        steps = torch.where(places >= span, combine(steps, shift(steps, span)), steps)
        span *= 2
    return steps


def shift(x: Tensor, span: int) -> Tensor:
    """Each matrix `span` places later along dimension -4, zeros before."""
    return F.pad(x.narrow(-4, 0, x.shape[-4] - span), (0, 0, 0, 0, 0, 0, span, 0))
