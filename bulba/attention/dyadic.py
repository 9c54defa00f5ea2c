"""The dyadic tree of fractal attention: its map, its addresses, how queries read it, and how it grows in decoding.

A block of level h stands for 2^h tokens and is what one contraction makes of the two blocks below it. It is addressed
in its document, not in its row: its last token t of the row gives it slot floor(t / 2^h) of its level, which no other
block can have. Tables hold the slots of all levels, [B, S, G, D], and an index [B, T, h] names one of them for each
query and level. Rows are gathered one level at a time and never stored, so that memory stays O(T) for each level.
Letters: S blocks, h levels.
It does not know scores and softmax; bulba/attention/fractal.py does.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Contraction(nn.Module):
    """parent = A left + B right + c with |A| + |B| <= factor; [..., D], [..., D] -> [..., D]."""

    def __init__(self, size: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        # Just inside the bound, where no direction is cut off.
        self.weight = nn.Parameter(0.99 * factor / 2 * torch.cat([torch.eye(size), torch.eye(size)], 1))
        self.offset = nn.Parameter(torch.zeros(size))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return F.linear(torch.cat([left, right], -1), self.matrix().to(left.dtype), self.offset.to(left.dtype))

    def matrix(self) -> Tensor:
        """A and B side by side, [D, 2 D]."""
        left, right = self.weight.chunk(2, 1)
        bound = norm_bound(left) + norm_bound(right)
        return self.weight / torch.clamp(bound / self.factor, min=1.0)


def norm_bound(matrix: Tensor) -> Tensor:
    """sqrt(|W|_1 |W|_inf), at least the largest singular value (Schur); differentiable everywhere but at 0."""
    sizes = matrix.abs()
    return (sizes.sum(0).amax() * sizes.sum(1).amax()).sqrt()


def document_positions(documents_BT: Tensor) -> Tensor:
    """The position of every token in its document."""
    places_T = torch.arange(documents_BT.shape[1], device=documents_BT.device)
    begins_BT = F.pad(documents_BT[:, 1:] != documents_BT[:, :-1], (1, 0))
    return places_T - torch.where(begins_BT, places_T, 0).cummax(1).values


def num_slots(num_tokens: int, level: int) -> int:
    """How many blocks of a level a row has room for."""
    return -(-num_tokens // 2**level)


def closing_tokens(positions_BT: Tensor, level: int) -> Tensor:
    """The last token of the block of every slot of a level, 0 where a slot has no block; [B, num_slots]."""
    num_tokens = positions_BT.shape[1]
    closes_BT = (positions_BT + 1) % 2**level == 0
    tokens_BT = torch.where(closes_BT, torch.arange(num_tokens, device=positions_BT.device), 0)
    tokens_BT = F.pad(tokens_BT, (0, num_slots(num_tokens, level) * 2**level - num_tokens))
    return tokens_BT.unflatten(1, (-1, 2**level)).amax(-1)


def rows(table_BSGD: Tensor, index_BT: Tensor) -> Tensor:
    """The rows of a table that the index names: [B, T, G, D]."""
    first_B1 = torch.arange(table_BSGD.shape[0], device=index_BT.device)[:, None] * table_BSGD.shape[1]
    flat = table_BSGD.flatten(0, 1).index_select(0, (index_BT + first_B1).flatten())
    return flat.unflatten(0, index_BT.shape)


def dots(q_BTND: Tensor, table_BSGD: Tensor, index_BTh: Tensor) -> Tensor:
    """Products of every query with the rows it names, in fp32 at least: [B, T, N, h]."""
    out_BTNh: Tensor = Dots.apply(q_BTND, table_BSGD, index_BTh)
    return out_BTNh


def mix(weights_BTNh: Tensor, table_BSGD: Tensor, index_BTh: Tensor) -> Tensor:
    """The named rows weighted and added up, in fp32 at least: [B, T, N, D]."""
    out_BTND: Tensor = Mix.apply(weights_BTNh, table_BSGD, index_BTh)
    return out_BTND


class Dots(torch.autograd.Function):
    """Stores no row that it gathers; `Mix` is its transpose in q, and it is that of `Mix` in the weights."""

    @staticmethod
    def forward(ctx: Any, q_BTND: Tensor, table_BSGD: Tensor, index_BTh: Tensor) -> Tensor:
        ctx.save_for_backward(q_BTND, table_BSGD, index_BTh)
        return gathered_dots(q_BTND, table_BSGD, index_BTh)

    @staticmethod
    def backward(ctx: Any, grad_BTNh: Tensor) -> tuple[Tensor, Tensor, None]:
        q_BTND, table_BSGD, index_BTh = ctx.saved_tensors
        grad_q = gathered_mix(grad_BTNh, table_BSGD, index_BTh).to(q_BTND.dtype)
        return grad_q, scattered(grad_BTNh, q_BTND, table_BSGD, index_BTh), None


class Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights_BTNh: Tensor, table_BSGD: Tensor, index_BTh: Tensor) -> Tensor:
        ctx.save_for_backward(weights_BTNh, table_BSGD, index_BTh)
        return gathered_mix(weights_BTNh, table_BSGD, index_BTh)

    @staticmethod
    def backward(ctx: Any, grad_BTND: Tensor) -> tuple[Tensor, Tensor, None]:
        weights_BTNh, table_BSGD, index_BTh = ctx.saved_tensors
        grad_weights = gathered_dots(grad_BTND, table_BSGD, index_BTh).to(weights_BTNh.dtype)
        return grad_weights, scattered(weights_BTNh, grad_BTND, table_BSGD, index_BTh), None


def gathered_dots(q_BTND: Tensor, table_BSGD: Tensor, index_BTh: Tensor) -> Tensor:
    """As `dots`, one level at a time."""
    wide = torch.promote_types(q_BTND.dtype, torch.float32)
    q_BTGRD = q_BTND.to(wide).unflatten(2, (table_BSGD.shape[2], -1))
    found = [(q_BTGRD * rows(table_BSGD, index_BT)[:, :, :, None]).sum(-1) for index_BT in index_BTh.unbind(-1)]
    return torch.stack(found, -1).flatten(2, 3) if found else q_BTGRD.new_zeros(*q_BTND.shape[:3], 0)


def gathered_mix(weights_BTNh: Tensor, table_BSGD: Tensor, index_BTh: Tensor) -> Tensor:
    """As `mix`, one level at a time."""
    wide = torch.promote_types(weights_BTNh.dtype, torch.float32)
    weights = weights_BTNh.to(wide).unflatten(2, (table_BSGD.shape[2], -1)).unbind(-1)
    out_BTGRD = weights_BTNh.new_zeros(*weights_BTNh.shape[:3], table_BSGD.shape[-1], dtype=wide)
    out_BTGRD = out_BTGRD.unflatten(2, (table_BSGD.shape[2], -1))
    for weight_BTGR, index_BT in zip(weights, index_BTh.unbind(-1), strict=True):
        out_BTGRD = out_BTGRD + weight_BTGR[..., None] * rows(table_BSGD, index_BT)[:, :, :, None]
    return out_BTGRD.flatten(2, 3)


def scattered(weights_BTNh: Tensor, x_BTND: Tensor, table_BSGD: Tensor, index_BTh: Tensor) -> Tensor:
    """The transpose in the table: weight * x added to every row that is named; [B, S, G, D]."""
    wide = torch.promote_types(x_BTND.dtype, torch.float32)
    batch_size, num_blocks, num_groups, head_dim = table_BSGD.shape
    x_BTGRD = x_BTND.to(wide).unflatten(2, (num_groups, -1))
    weights = weights_BTNh.to(wide).unflatten(2, (num_groups, -1)).unbind(-1)
    first_B1 = torch.arange(batch_size, device=x_BTND.device)[:, None] * num_blocks
    out = x_BTND.new_zeros(batch_size * num_blocks, num_groups, head_dim, dtype=wide)
    for weight_BTGR, index_BT in zip(weights, index_BTh.unbind(-1), strict=True):
        each_BTGD = (weight_BTGR[..., None] * x_BTGRD).sum(3)
        out = out.index_add(0, (index_BT + first_B1).flatten(), each_BTGD.flatten(0, 1))
    return out.unflatten(0, (batch_size, num_blocks)).to(table_BSGD.dtype)


Pair = tuple[Tensor, Tensor]
"""Keys and values."""
Pools = tuple[Contraction, Contraction]
"""Of keys and of values."""


class FractalCache:
    """Keys and values of the last w tokens, [B, w, G, D], and of one block of each level, [B, 1, G, D].

    Level h has a block where bit h of the number of tokens behind the window is set: a binary counter.
    """

    def __init__(
        self, shape: tuple[int, int, int, int], num_levels: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        batch_size, self.size, num_groups, head_dim = shape
        block = (batch_size, 1, num_groups, head_dim)
        self.window = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(2)]
        self.blocks = [[torch.zeros(block, dtype=dtype, device=device) for _ in range(num_levels)] for _ in range(2)]

    def advance(self, k_BTGD: Tensor, v_BTGD: Tensor, start: int, pools: Pools) -> tuple[Pair, Pair, Tensor, Tensor]:
        """Take new tokens in behind the first `start`; what their queries may read.

        Keys and values of single tokens and of blocks, the level of each of them, and a mask [T, S].
        """
        num_new, device = k_BTGD.shape[1], k_BTGD.device
        before, after = max(start - self.size, 0), max(start + num_new - self.size, 0)
        near = [torch.cat([old, new], 1) for old, new in zip(self.window, (k_BTGD, v_BTGD), strict=True)]
        left_behind = slice(before - start + self.size, after - start + self.size)
        far = [
            self.grow(blocks, tokens[:, left_behind], before, after, pool)
            for blocks, tokens, pool in zip(self.blocks, near, pools, strict=True)
        ]
        self.window = [tokens[:, num_new:] for tokens in near]
        queries_T1 = torch.arange(start, start + num_new, device=device)[:, None]
        keys_S = torch.arange(start - self.size, start + num_new, device=device)
        readable = [(keys_S >= 0) & (keys_S <= queries_T1) & (keys_S > queries_T1 - self.size)]
        levels = [torch.zeros_like(keys_S)]
        behind_T1 = (queries_T1 - self.size + 1).clamp(min=0)
        for level, blocks in enumerate(far[0]):
            numbers_S = torch.arange(blocks.shape[1], device=device) + (before >> (level + 1) << 1)
            readable.append((behind_T1 >> level) - 1 == torch.where(numbers_S % 2 == 0, numbers_S, -2))
            levels.append(torch.full_like(numbers_S, level))
        k_far, v_far = (torch.cat([tokens[:, :0], *levels], 1) for tokens, levels in zip(near, far, strict=True))
        return (near[0], near[1]), (k_far, v_far), torch.cat(levels), torch.cat(readable, 1)

    @staticmethod
    def grow(blocks: list[Tensor], leaves_BTGD: Tensor, before: int, after: int, pool: Contraction) -> list[Tensor]:
        """Count on from `before` to `after` tokens; the blocks of each level that are there at any of these numbers.

        They begin at an even number of their level, so that neighbours are pairs.
        """
        found, fresh = [], leaves_BTGD
        for level, old in enumerate(blocks):
            here = torch.cat([old, fresh], 1) if before >> level & 1 else fresh
            found.append(here)
            if after >> level & 1:
                blocks[level] = here[:, -1:]
            num_pairs = here.shape[1] // 2
            fresh = pool(here[:, 0 : 2 * num_pairs : 2], here[:, 1 : 2 * num_pairs : 2])
        return found

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in [*self.window, *self.blocks[0], *self.blocks[1]])
