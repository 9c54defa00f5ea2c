"""2-simplicial attention in blocks of queries, for CPUs and for what the Triton kernels do not take.

The formula is that of simplicial.py, forward and backward in memory O(T D + BLOCK (w1 + TILE) w2): the weights of BLOCK
queries exist at a time, and are made again in the backward pass. The rows q_i conj(k'_k) of a tile of queries meet the
keys j of the whole tile in one product, (w1 + TILE) / w1 of the work that is asked for.

Letters beside those of base.py: R query heads of a key head, C tiles, I queries and S key slots of a tile; J and U are
the first and the second window, oldest key first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 256
"""Queries whose weights exist at a time; a multiple of TILE."""
TILE = 32
"""Queries that share one matrix of keys: more make larger products, and more of them with keys out of the window."""

Four = tuple[Tensor, Tensor, Tensor, Tensor]
Five = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def blocked_attention(
    q_BNTD: Tensor,
    keys_values: Four,
    windows: tuple[int, int],
    documents_BT: Tensor | None = None,
    slopes_N: Tensor | None = None,
) -> Tensor:
    """The same as `reference_attention` of simplicial.py, BLOCK queries at a time; slopes_N get no gradient."""
    out_BNTD: Tensor = PairBlocks.apply(q_BNTD, *keys_values, documents_BT, slopes_N, windows)
    return out_BNTD


class PairBlocks(torch.autograd.Function):
    """Keeps the greatest score and the sum of every query, and makes the weights again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        q_BNTD: Tensor,
        k_BGSD: Tensor,
        v_BGSD: Tensor,
        k2_BGSD: Tensor,
        v2_BGSD: Tensor,
        documents_BT: Tensor | None,
        slopes_N: Tensor | None,
        windows: tuple[int, int],
    ) -> Tensor:
        inputs = (q_BNTD, k_BGSD, v_BGSD, k2_BGSD, v2_BGSD)
        tiles = Tiles.of(q_BNTD, k_BGSD, k2_BGSD, windows)
        padded = tiles.pad(*inputs)
        outs, sums = [], []
        for block in tiles.blocks():
            q, k, v, k2, v2 = tiles.cut(padded, block)
            scores = tiles.scores(times_conj(q, k2), k, documents_BT, slopes_N, block)
            most_BGCRI11 = scores.amax((-2, -1), keepdim=True)
            weights = (scores - most_BGCRI11).exp()
            sum_BGCRI11 = weights.sum((-2, -1), keepdim=True)
            first = product((weights / sum_BGCRI11).to(v.dtype), v)
            outs.append((first.to(weights.dtype) * v2).sum(-2).to(v.dtype))
            sums += [most_BGCRI11, sum_BGCRI11]
        out_BNTD = tiles.tokens(torch.cat(outs, 2))
        ctx.windows = windows
        ctx.save_for_backward(*inputs, documents_BT, slopes_N, out_BNTD, *sums)
        return out_BNTD

    @staticmethod
    def backward(ctx: Any, grad_BNTD: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, documents_BT, slopes_N, out_BNTD = ctx.saved_tensors[:8]
        sums = ctx.saved_tensors[8:]
        tiles = Tiles.of(inputs[0], inputs[1], inputs[3], ctx.windows)
        padded, wide = tiles.pad(*inputs), sums[0].dtype
        grad_BGCRID = tiles.queries(grad_BNTD.to(wide))
        along_BGCRI = (grad_BGCRID * tiles.queries(out_BNTD)).sum(-1)
        grad_q, grad_k, grad_v, grad_k2, grad_v2 = [], *(torch.zeros_like(x, dtype=wide) for x in padded[1:])
        for block, most_BGCRI11, sum_BGCRI11 in zip(tiles.blocks(), sums[::2], sums[1::2], strict=True):
            cut = tiles.cut(padded, block)
            scores = tiles.scores(times_conj(cut[0], cut[3]), cut[1], documents_BT, slopes_N, block)
            weights = (scores - most_BGCRI11).exp() / sum_BGCRI11
            parts = block_gradients(cut, weights, grad_BGCRID[:, :, block], along_BGCRI[:, :, block])
            grad_q.append(parts[0])
            tiles.add_far(grad_k, parts[1], block)
            tiles.add_far(grad_v, parts[2], block)
            tiles.add_near(grad_k2, parts[3], block)
            tiles.add_near(grad_v2, parts[4], block)
        far, near = (tiles.from_far(x) for x in (grad_k, grad_v)), (tiles.from_near(x) for x in (grad_k2, grad_v2))
        grads = (tiles.tokens(torch.cat(grad_q, 2)), *far, *near)
        return *(grad.to(x.dtype) for grad, x in zip(grads, inputs, strict=True)), None, None, None


def block_gradients(
    cut: Five, weights_BGCRIUS: Tensor, grad_BGCRID: Tensor, along_BGCRI: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What a block adds to the gradients of q, k, v, k', v', in the places of `Tiles.cut`; along = dy . y.

    With o_ik = sum_j A_ijk v_j and do_ik = dy_i * v'_k: dA_ijk = do_ik . v_j, ds = A (dA - dy_i . y_i), and
    z_ik = q_i conj(k'_k), whose score with k_j is a plain product, hands on dq = dz k' and dk' = q conj(dz).
    """
    q_BGCRI1D, k_BGCSD, v_BGCSD, k2_BGC1IUD, v2_BGC1IUD = cut
    wide, weights = weights_BGCRIUS.dtype, weights_BGCRIUS.to(v_BGCSD.dtype)
    grad_BGCRI1D = grad_BGCRID.unsqueeze(-2)
    grad_first = (grad_BGCRI1D * v2_BGC1IUD).to(v_BGCSD.dtype)
    grad_weights = product(grad_first, v_BGCSD.mT).to(wide)
    grad_scores = weights_BGCRIUS * (grad_weights - along_BGCRI[..., None, None])
    grad_scores = (grad_scores / math.sqrt(k_BGCSD.shape[-1])).to(k_BGCSD.dtype)
    grad_rows = product(grad_scores, k_BGCSD).to(wide)
    return (
        times(grad_rows, k2_BGC1IUD).sum(-2),
        grad_scores.flatten(3, 5).mT @ times_conj(q_BGCRI1D, k2_BGC1IUD).flatten(3, 5),
        weights.flatten(3, 5).mT @ grad_first.flatten(3, 5),
        times_conj(q_BGCRI1D.to(wide), grad_rows).sum(3),
        (grad_BGCRI1D * product(weights, v_BGCSD)).sum(3),
    )


@dataclass(frozen=True)
class Tiles:
    """How tokens lie in tiles of `size` queries, each with the slots of the keys that its windows reach.

    before1, before2: keys of the cache ahead of the first query. spare: slots ahead of it, whole tiles.
    """

    num_tokens: int
    num_groups: int
    before1: int
    before2: int
    window1: int
    window2: int

    @classmethod
    def of(cls, q_BNTD: Tensor, k_BGSD: Tensor, k2_BGSD: Tensor, windows: tuple[int, int]) -> Tiles:
        num_tokens, first, second = q_BNTD.shape[2], k_BGSD.shape[2], k2_BGSD.shape[2]
        before = (first - num_tokens, second - num_tokens)
        return cls(num_tokens, k_BGSD.shape[1], *before, min(windows[0], first), min(windows[1], second))

    @property
    def size(self) -> int:
        return min(TILE, self.num_tokens)

    @property
    def spare(self) -> int:
        return math.ceil((self.window1 - 1) / self.size) * self.size

    @property
    def behind(self) -> int:
        """Queries that fill up the last tile; what they come to is dropped."""
        return -self.num_tokens % self.size

    def blocks(self) -> Iterator[slice]:
        """Tiles that are worked on at a time."""
        count, step = math.ceil(self.num_tokens / self.size), max(BLOCK // self.size, 1)
        return (slice(start, min(start + step, count)) for start in range(0, count, step))

    def queries(self, x_BNTD: Tensor) -> Tensor:
        """[B, N, T, D] -> [B, G, C, R, I, D]."""
        x_BNTD = F.pad(x_BNTD, (0, 0, 0, self.behind))
        return x_BNTD.unflatten(1, (self.num_groups, -1)).unflatten(3, (-1, self.size)).transpose(2, 3)

    def tokens(self, x_BGCRID: Tensor) -> Tensor:
        """The inverse of `queries`."""
        return x_BGCRID.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :, : self.num_tokens]

    def pad(self, q_BNTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, k2_BGSD: Tensor, v2_BGSD: Tensor) -> Five:
        """Queries in tiles, and the keys with slots ahead of them for all that the first query might reach."""
        far, near = (self.spare - self.before1, self.behind), (self.window2 - 1 - self.before2, self.behind)
        first = (F.pad(x, (0, 0, *far)) for x in (k_BGSD, v_BGSD))
        second = (F.pad(x, (0, 0, *near)) for x in (k2_BGSD, v2_BGSD))
        return cast("Five", (self.queries(q_BNTD), *first, *second))

    def from_far(self, x_BGSD: Tensor) -> Tensor:
        """What `pad` added to k or v taken off, and from_near to k' or v'."""
        return F.pad(x_BGSD, (0, 0, self.before1 - self.spare, -self.behind))

    def from_near(self, x_BGSD: Tensor) -> Tensor:
        return F.pad(x_BGSD, (0, 0, self.before2 + 1 - self.window2, -self.behind))

    def cut(self, padded: Five, block: slice) -> Five:
        """What a block reads: q [B, G, C, R, I, 1, D], k and v [B, G, C, S, D], k' and v' [B, G, C, 1, I, U, D]."""
        q_BGCRID, *keys_values = padded
        start, stop = block.start * self.size, block.stop * self.size
        far = (x[:, :, start : stop + self.spare].unfold(2, self.size + self.spare, self.size) for x in keys_values[:2])
        near = (x[:, :, start : stop + self.window2 - 1].unfold(2, self.window2, 1) for x in keys_values[2:])
        tiles = (x.mT.unflatten(2, (-1, 1, self.size)) for x in near)
        return cast("Five", (q_BGCRID[:, :, block].unsqueeze(-2), *(x.mT for x in far), *tiles))

    def add_far(self, sum_BGSD: Tensor, x_BGCSD: Tensor, block: slice) -> None:
        """Add gradients of k or v as `cut` gives it to those of the whole: a slot belongs to several tiles."""
        sum_BGCID, x_BGCXID = sum_BGSD.unflatten(2, (-1, self.size)), x_BGCSD.unflatten(3, (-1, self.size))
        for number in range(x_BGCXID.shape[3]):
            sum_BGCID[:, :, block.start + number : block.stop + number] += x_BGCXID[:, :, :, number]

    def add_near(self, sum_BGSD: Tensor, x_BGCIUD: Tensor, block: slice) -> None:
        """The same for k' or v': key t is in place u of the window of query t - u."""
        x_BGTUD = x_BGCIUD.flatten(2, 3)
        num_queries, device = x_BGTUD.shape[2], x_BGTUD.device
        place_U = torch.arange(self.window2, device=device)
        query_SU = torch.arange(num_queries + self.window2 - 1, device=device)[:, None] - place_U
        exists_SU1 = ((query_SU >= 0) & (query_SU < num_queries))[..., None]
        found = x_BGTUD[:, :, query_SU.clamp(0, num_queries - 1), place_U]
        start = block.start * self.size
        sum_BGSD[:, :, start : start + len(query_SU)] += found.masked_fill(~exists_SU1, 0).sum(3)

    def scores(
        self,
        rows_BGCRIUD: Tensor,
        k_BGCSD: Tensor,
        documents_BT: Tensor | None,
        slopes_N: Tensor | None,
        block: slice,
    ) -> Tensor:
        """-inf where a key of a pair may not be read; [B, G, C, R, I, U, S], in fp32 at least."""
        products = product(rows_BGCRIUD, k_BGCSD.mT)
        scores = products.to(torch.promote_types(products.dtype, torch.float32)) / math.sqrt(rows_BGCRIUD.shape[-1])
        device = scores.device
        own_CI = torch.arange(block.start * self.size, block.stop * self.size, device=device).view(-1, self.size)
        far_CS = own_CI[:, :1] - self.spare + torch.arange(self.size + self.spare, device=device)
        back_CIS = own_CI[:, :, None] - far_CS[:, None]
        back_U = torch.arange(self.window2 - 1, -1, -1, device=device)
        can_far = ((back_CIS >= 0) & (back_CIS < self.window1) & (far_CS >= -self.before1)[:, None])[None]
        can_near = (own_CI[..., None] - back_U >= -self.before2)[None]
        if documents_BT is not None:
            far_BS, near_BS = (F.pad(documents_BT, (n, self.behind)) for n in (self.spare, self.window2 - 1))
            own_BCI1 = far_BS[:, self.spare :].unflatten(1, (-1, self.size))[:, block, :, None]
            far_BCS = far_BS.unfold(1, self.size + self.spare, self.size)[:, block]
            near_BCIU = near_BS.unfold(1, self.window2, 1).unflatten(1, (-1, self.size))[:, block]
            can_far = can_far & (far_BCS[:, :, None] == own_BCI1)
            can_near = can_near & (near_BCIU == own_BCI1)
        if slopes_N is not None:
            back_CIUS = back_CIS[:, :, None] + back_U[:, None]
            slopes = slopes_N.to(scores.dtype).view(self.num_groups, 1, -1, 1, 1, 1)
            scores = scores - slopes * back_CIUS[:, None]
        readable = can_far[:, None, :, None, :, None] & can_near[:, None, :, None, :, :, None]
        return scores.masked_fill(~readable, -torch.inf)


def product(x_BGCRIUX: Tensor, y_BGCXY: Tensor) -> Tensor:
    """The rows of a tile, all at once, with its matrix."""
    return (x_BGCRIUX.flatten(3, 5) @ y_BGCXY).unflatten(3, x_BGCRIUX.shape[3:6])


def times(a: Tensor, b: Tensor) -> Tensor:
    """The product of complex numbers whose real parts are the first half of the last dimension; fp32 at least."""
    wide = torch.promote_types(a.dtype, torch.float32)
    (a1, a2), (b1, b2) = a.to(wide).chunk(2, -1), b.to(wide).chunk(2, -1)
    return torch.cat([a1 * b1 - a2 * b2, a1 * b2 + a2 * b1], -1)


def times_conj(a: Tensor, b: Tensor) -> Tensor:
    """a * conj(b) in the dtype of a; its real dot product with k is Re sum conj(a) k b."""
    wide = torch.promote_types(a.dtype, torch.float32)
    (a1, a2), (b1, b2) = a.to(wide).chunk(2, -1), b.to(wide).chunk(2, -1)
    return torch.cat([a1 * b1 + a2 * b2, a2 * b1 - a1 * b2], -1).to(a.dtype)
