"""Sums over the earlier tokens of a query's own bucket, at every level of a tree of digits: linear in time and memory.

    sum_{j <= i} sum_{l <= LCP(i, j)} w_l v_j,   j in the document of i, LCP the longest common prefix of L digits,
which is a sum over levels l of w_l times the sum of v over the earlier keys in the bucket of query i at level l.

A row is cut into chunks of C tokens. Inside a chunk the kernel is written out, C x C; all before it is read from a
table of p^L bucket sums for each chunk. Time O(T D (C + p^L + p^L / C log(T / C))) and memory
O(T (C + p^L + p^L D / C)), C and p^L constants: linear in T but for the log of one small term, and exact. This in place
of sorting tokens by bucket, because it is made of matrix products, and because what a query adds up, and in which
order, then never depends on later tokens, not even in its last bit.
Gradients of digits are those of the straight-through matches of bulba/attention/ultrametric.py.
Letters: L digits (levels 1 .. L), P base p, M = p^L leaves, E channels of v, R = N / G, n chunks of C tokens; X either
1 (keys) or R (queries).
It does not divide the sums: the kernel is not normalised.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bulba.attention.softmax import causal_mask

CHUNK = 128
"""Tokens at a time: the work inside a chunk grows with it, that on its table of buckets falls."""


def tree_sums(
    q_BNTLP: Tensor, k_BGTLP: Tensor, v_BGTE: Tensor, weights_NL: Tensor, documents_BT: Tensor | None
) -> Tensor:
    """sum_j K_ij v_j, [B, N, T, E], from the softmax of digits of queries and keys, whose argmax are the digits.

    weights_NL: w of every head and level 0 .. L. documents_BT: the document of every token; None means one document.
    """
    if documents_BT is None:
        documents_BT = torch.zeros_like(q_BNTLP[:, 0, :, 0, 0], dtype=torch.int32)
    sums_BNTE: Tensor = TreeSums.apply(q_BNTLP, k_BGTLP, v_BGTE, weights_NL, documents_BT)
    return sums_BNTE


class TreeSums(torch.autograd.Function):
    """Stores its inputs, the soft digits as hard ones, and makes kernel and tables again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, q_BNTLP: Tensor, k_BGTLP: Tensor, v_BGTE: Tensor, weights_NL: Tensor, documents_BT: Tensor
    ) -> Tensor:
        q_BNTL, k_BGTL = q_BNTLP.argmax(-1).int(), k_BGTLP.argmax(-1).int()
        ctx.save_for_backward(q_BNTL, k_BGTL, v_BGTE, weights_NL, documents_BT)
        ctx.base = q_BNTLP.shape[-1]
        rows = Chunks(q_BNTL, k_BGTL, documents_BT, ctx.base)
        v_BG1nCE, weights_LGR = rows.fold(v_BGTE), weights_by_level(weights_NL, k_BGTL.shape[1])
        kernel = weights_LGR[0] * rows.same_document
        for level in range(1, len(weights_LGR)):
            kernel = kernel + weights_LGR[level] * rows.same_bucket(level)
        sums_BGRnCE = kernel @ v_BG1nCE
        if rows.num_chunks > 1:
            past = rows.past_tables(v_BG1nCE)
            earlier = sum(
                weights_LGR[level] * read(merge_leaves(past, ctx.base**level), rows.q_prefixes[level])
                for level in range(len(weights_LGR))
            )
            sums_BGRnCE = sums_BGRnCE + earlier * rows.continues
        return rows.unfold(sums_BGRnCE)

    @staticmethod
    def backward(ctx: Any, grad_BNTE: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        q_BNTL, k_BGTL, v_BGTE, weights_NL, documents_BT = ctx.saved_tensors
        rows = Chunks(q_BNTL, k_BGTL, documents_BT, ctx.base)
        grad_BGRnCE, v_BG1nCE = rows.fold(grad_BNTE), rows.fold(v_BGTE)
        weights_LGR = weights_by_level(weights_NL, k_BGTL.shape[1])
        inside = grads_inside(rows, grad_BGRnCE, v_BG1nCE, weights_LGR)
        if rows.num_chunks > 1:
            between = grads_between(rows, grad_BGRnCE, v_BG1nCE, weights_LGR)
            inside = [one + other for one, other in zip(inside, between, strict=True)]
        grad_q, grad_k, grad_v, grad_weights = inside
        return rows.unfold(grad_q), rows.unfold(grad_k), rows.unfold(grad_v), grad_weights.flatten(0, 1), None


class Chunks:
    """Digits of a row cut into chunks of C tokens, the last one filled up, and who may read whom.

    q_prefixes, k_prefixes: bucket of every token at level 0 .. L, each [B, G, X, n, C]. same_document: keys of its own
    chunk that a query may read, [B, 1, 1, n, C, C]. continues: queries whose document began before their chunk;
    goes_on: keys whose document goes on behind it, both [B, 1, 1, n, C, 1].
    """

    def __init__(self, q_BNTL: Tensor, k_BGTL: Tensor, documents_BT: Tensor, base: int) -> None:
        self.base, self.num_groups, self.num_tokens = base, k_BGTL.shape[1], k_BGTL.shape[2]
        self.chunk = min(CHUNK, self.num_tokens)
        self.num_chunks = -(-self.num_tokens // self.chunk)
        self.q_digits = self.fold(q_BNTL).unbind(-1)
        self.k_digits = self.fold(k_BGTL).unbind(-1)
        self.q_prefixes, self.k_prefixes = prefixes(self.q_digits, base), prefixes(self.k_digits, base)
        # The filling stands behind all tokens: it reads, but is not read.
        documents = F.pad(documents_BT, (0, self.chunk * self.num_chunks - self.num_tokens))
        documents_B11nC = documents.unflatten(1, (self.num_chunks, self.chunk))[:, None, None]
        same = documents_B11nC[..., :, None] == documents_B11nC[..., None, :]
        self.same_document = same & causal_mask(self.chunk, self.chunk, documents.device)
        self.last_B11n = documents_B11nC[..., -1]
        self.goes_on = (documents_B11nC == documents_B11nC[..., -1:])[..., None]
        self.continues = (documents_B11nC == self.last_B11n.roll(1, -1)[..., None])[..., None]

    def fold(self, x_BHT: Tensor) -> Tensor:
        """[B, G * X, T, ...] -> [B, G, X, n, C, ...]."""
        missing = self.chunk * self.num_chunks - self.num_tokens
        if missing:
            x_BHT = torch.cat([x_BHT, x_BHT.new_zeros(*x_BHT.shape[:2], missing, *x_BHT.shape[3:])], 2)
        return x_BHT.unflatten(2, (self.num_chunks, self.chunk)).unflatten(1, (self.num_groups, -1))

    def unfold(self, x_BGXnC: Tensor) -> Tensor:
        """The inverse of `fold`."""
        return x_BGXnC.flatten(3, 4).flatten(1, 2)[:, :, : self.num_tokens]

    def same_bucket(self, level: int) -> Tensor:
        """Which keys of its chunk that it may read each query shares its bucket with, [B, G, R, n, C, C]."""
        q_BGRnC, k_BG1nC = self.q_prefixes[level], self.k_prefixes[level]
        return self.same_document & (q_BGRnC[..., :, None] == k_BG1nC[..., None, :])

    def past_tables(self, v_BG1nCE: Tensor) -> Tensor:
        """For every chunk the sums over each leaf of all keys before it, in the document that runs into it."""
        tables = leaf_tables(self.k_prefixes[-1], v_BG1nCE * self.goes_on, self.base ** len(self.k_digits))
        return shift(running_sums(tables, self.last_B11n))

    def future_tables(self, grad_BGRnCE: Tensor) -> Tensor:
        """The same of all queries behind it: the transpose of reading what `past_tables` gives."""
        tables = leaf_tables(self.q_prefixes[-1], grad_BGRnCE * self.continues, self.base ** len(self.q_digits))
        return running_sums(shift(tables.flip(3)), self.last_B11n.flip(-1)).flip(3)


Grads = list[Tensor]
"""Of soft digits of queries and of keys, of v, [B, G, X, n, C, ...] each, and of weights, [G, R, L + 1]."""


def grads_inside(rows: Chunks, grad_BGRnCE: Tensor, v_BG1nCE: Tensor, weights_LGR: Tensor) -> Grads:
    """Through the pairs of a query and a key in one chunk."""
    grad_kernel = grad_BGRnCE @ v_BG1nCE.transpose(-2, -1)
    kernel = weights_LGR[0] * rows.same_document
    before = rows.same_document
    grad_q, grad_k, grad_weights = [], [], [over_tokens(grad_kernel * before)]
    for level in range(1, len(weights_LGR)):
        q_hot, k_hot = (
            one_hot(digits[level - 1], rows.base, v_BG1nCE.dtype) for digits in (rows.q_digits, rows.k_digits)
        )
        grad_match = grad_kernel * before
        by_digit = grad_match @ k_hot
        grad_q.append(weights_LGR[level] * by_digit)
        grad_k.append(((weights_LGR[level] * grad_match).transpose(-2, -1) @ q_hot).sum(2, keepdim=True))
        grad_weights.append(over_tokens(by_digit * q_hot))
        before = rows.same_bucket(level)
        kernel = kernel + weights_LGR[level] * before
    grad_v = (kernel.transpose(-2, -1) @ grad_BGRnCE).sum(2, keepdim=True)
    return [torch.stack(grad_q, -2), torch.stack(grad_k, -2), grad_v, torch.stack(grad_weights, -1)]


def grads_between(rows: Chunks, grad_BGRnCE: Tensor, v_BG1nCE: Tensor, weights_LGR: Tensor) -> Grads:
    """Through the pairs of a query and a key of an earlier chunk."""
    past, future = rows.past_tables(v_BG1nCE), rows.future_tables(grad_BGRnCE)
    grad_BGRnCE, v_BG1nCE = grad_BGRnCE * rows.continues, v_BG1nCE * rows.goes_on
    root = torch.zeros_like(rows.q_prefixes[0]), torch.zeros_like(rows.k_prefixes[0])
    grad_weights = [over_tokens(read(merge_leaves(past, 1), root[0]) * grad_BGRnCE)]
    grad_v = read((weights_LGR[0] * merge_leaves(future, 1)).sum(2, keepdim=True), root[1])
    grad_q, grad_k = [], []
    for level in range(1, len(weights_LGR)):
        # One row for all the siblings of a bucket.
        siblings = (rows.base ** (level - 1), rows.base)
        keys = merge_leaves(past, rows.base**level).unflatten(-2, siblings).flatten(-2)
        queries = (weights_LGR[level] * merge_leaves(future, rows.base**level)).sum(2, keepdim=True)
        queries = queries.unflatten(-2, siblings).flatten(-2)
        keys = read(keys, rows.q_prefixes[level - 1]).unflatten(-1, (rows.base, -1))
        queries = read(queries, rows.k_prefixes[level - 1]).unflatten(-1, (rows.base, -1))
        by_digit = (keys * grad_BGRnCE[..., None, :]).sum(-1)
        grad_q.append(weights_LGR[level] * by_digit)
        grad_k.append((queries * v_BG1nCE[..., None, :]).sum(-1))
        q_hot, k_hot = (
            one_hot(digits[level - 1], rows.base, v_BG1nCE.dtype) for digits in (rows.q_digits, rows.k_digits)
        )
        grad_weights.append(over_tokens(by_digit * q_hot))
        grad_v = grad_v + (queries * k_hot[..., None]).sum(-2)
    return [
        torch.stack(grad_q, -2),
        torch.stack(grad_k, -2),
        grad_v * rows.goes_on,
        torch.stack(grad_weights, -1),
    ]


def one_hot(number: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """[...] -> [..., size]; unlike torch's it makes no numbers of 8 bytes on the way."""
    return (number[..., None] == torch.arange(size, device=number.device, dtype=number.dtype)).to(dtype)


def weights_by_level(weights_NL: Tensor, num_groups: int) -> Tensor:
    """[N, L + 1] -> [L + 1, G, R, 1, 1, 1], to be multiplied with [B, G, R, n, C, ...]."""
    return weights_NL.T.unflatten(1, (num_groups, -1))[..., None, None, None]


def prefixes(digits: tuple[Tensor, ...], base: int) -> list[Tensor]:
    """The number of the bucket at level 0 .. L."""
    found = [torch.zeros_like(digits[0])]
    for digit in digits:
        found.append(found[-1] * base + digit)
    return found


def leaf_tables(leaf_BGXnC: Tensor, v_BGXnCE: Tensor, num_leaves: int) -> Tensor:
    """Sums of v over the tokens of each leaf and chunk, [B, G, X, n, M, E]; by a product: the same bits each time."""
    return one_hot(leaf_BGXnC, num_leaves, v_BGXnCE.dtype).transpose(-2, -1) @ v_BGXnCE


def merge_leaves(tables_BGXnME: Tensor, num_buckets: int) -> Tensor:
    """Sums over the leaves below each bucket of a level, [B, G, X, n, num_buckets, E]."""
    return tables_BGXnME.unflatten(-2, (num_buckets, -1)).sum(-2)


def read(tables_BGXnKE: Tensor, bucket_BGXnC: Tensor) -> Tensor:
    """The row of its bucket for every token: [B, G, 1, n, K, E], [B, G, X, n, C] -> [B, G, X, n, C, E]."""
    batch_size, num_groups, _, num_chunks, num_buckets, _ = tables_BGXnKE.shape
    first = torch.arange(batch_size * num_groups * num_chunks, device=bucket_BGXnC.device) * num_buckets
    index = bucket_BGXnC + first.view(batch_size, num_groups, 1, num_chunks, 1)
    return tables_BGXnKE.flatten(0, -2).index_select(0, index.flatten()).view(*index.shape, -1)


def running_sums(tables_BGXnME: Tensor, last_B11n: Tensor) -> Tensor:
    """Sums over a chunk and those before it whose last token is of the same document; in log2(n) doublings."""
    step = 1
    while step < tables_BGXnME.shape[3]:
        linked = (last_B11n[..., step:] == last_B11n[..., :-step])[..., None, None]
        more = torch.where(linked, tables_BGXnME[:, :, :, :-step], 0)
        later = tables_BGXnME[:, :, :, step:] + more
        tables_BGXnME = torch.cat([tables_BGXnME[:, :, :, :step], later], 3)
        step *= 2
    return tables_BGXnME


def shift(tables_BGXnME: Tensor) -> Tensor:
    """Every table to the next chunk; the first chunk gets none."""
    return torch.cat([torch.zeros_like(tables_BGXnME[:, :, :, :1]), tables_BGXnME[:, :, :, :-1]], 3)


def over_tokens(x_BGRnCE: Tensor) -> Tensor:
    """Sums for every query head: [B, G, R, ...] -> [G, R]."""
    return x_BGRnCE.flatten(3).sum((0, 3))


class BucketCache:
    """Sums of v and 1 over all tokens so far, for every bucket of every level, [B, G, 1, 1, p^l, D + 1] each."""

    def __init__(
        self,
        heads: tuple[int, int],
        base: int,
        num_digits: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        wide = torch.promote_types(dtype, torch.float32)
        self.base = base
        self.tables = [
            torch.zeros(*heads, 1, 1, base**level, head_dim + 1, dtype=wide, device=device)
            for level in range(num_digits + 1)
        ]

    def read(self, q_BNTL: Tensor, weights_NL: Tensor) -> Tensor:
        """What queries find there, [B, N, T, E]: L + 1 rows for each."""
        num_groups = self.tables[0].shape[1]
        digits_BGR1TL = q_BNTL.unflatten(1, (num_groups, -1))[:, :, :, None]
        weights_LGR = weights_by_level(weights_NL, num_groups)
        buckets = prefixes(digits_BGR1TL.unbind(-1), self.base)
        rows = [read(table, bucket) for table, bucket in zip(self.tables, buckets, strict=True)]
        return sum(weight * row for weight, row in zip(weights_LGR, rows, strict=True)).flatten(1, 2).squeeze(2)

    def add(self, k_BGTL: Tensor, v_BGTE: Tensor) -> None:
        """Put new tokens into their bucket of every level."""
        for table, bucket_BGT in zip(self.tables, prefixes(k_BGTL.unbind(-1), self.base), strict=True):
            index = bucket_BGT[..., None].expand_as(v_BGTE)
            table[:, :, 0, 0].scatter_add_(2, index, v_BGTE.to(table.dtype))

    @property
    def num_bytes(self) -> int:
        return sum(table.nbytes for table in self.tables)
