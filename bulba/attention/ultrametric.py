"""Ultrametric attention: tokens are leaves of a tree, and a key weighs alpha for every branch it shares with the query.

Every query and key gets an address of L digits in base p. LCP(i, j) is the length of the longest common prefix of the
addresses of query i and key j, and
    y_i = sum_j alpha^LCP(i, j) v_j / sum_j alpha^LCP(i, j),   j <= i in the document of i, alpha > 1 for each head.
p^-LCP is a p-adic distance: d(x, z) <= max(d(x, y), d(y, z)) for all triples (Khrennikov 2004; Murtagh 2017 for data).
alpha^LCP telescopes, alpha^LCP = sum_{l <= LCP} w_l with w_0 = 1 and w_l = alpha^l - alpha^(l-1), so that y_i is made
of the sums of v and of 1 over the earlier keys of its own bucket at each of the L + 1 levels of the tree.

Kernel `flash` adds those sums up in time and memory linear in T (bulba/attention/bucket_sums.py); `reference` holds the
T x T kernel. Decoding keeps the bucket sums alone: O(L D) work for a token, and state that does not grow.

What the literature leaves open, and what is chosen here:
- Digits are argmax of L x p logits, a linear map of q or k that all heads share. Straight-through (Bengio et al. 2013,
  arXiv 1308.3432): backward, level l has the match <a_il, b_jl> of the softmax of the logits in place of [a_il = b_jl],
  while the digits before l stay hard: a digit is pulled towards those siblings of its bucket whose content would help.
- alpha = 1 + exp(a), and the weights are divided by alpha^L, which the quotient does not see.
- An address must not drift with the position, so rotary positions turn values in place of queries and keys:
  y_i = R_i^-1 sum_j K_ij R_j v_j depends on i - j alone. Other schemes of positions come in with x.
Letters: L digits (levels 1 .. L), P base p, E = D + 1 (v and a 1).
It does not do ALiBi, dropout, nor trees of more than MOST_LEAVES leaves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bulba.attention.base import KERNELS, AttentionContext, Capabilities, DocumentForm, Kernel, Mixer, MixerShape
from bulba.attention.bucket_sums import BucketCache, one_hot, tree_sums
from bulba.attention.heads import HeadsMixer
from bulba.attention.softmax import causal_mask
from bulba.errors import ConfigError

MOST_LEAVES = 4096
"""Every chunk has a table of all leaves."""


class UltrametricAttention(HeadsMixer):
    """base: p. num_digits: L. initial_alpha: of every head, above 1."""

    capabilities = Capabilities(KERNELS, packing=True, cache=True, gqa=True)
    counted_kernel: Kernel = "flash"

    def __init__(self, shape: MixerShape, base: int, num_digits: int, initial_alpha: float) -> None:
        super().__init__(shape)
        if base < 2 or num_digits < 1 or base**num_digits > MOST_LEAVES:
            raise ConfigError(
                f"attention.base={base} and attention.num_digits={num_digits} make {base}^{num_digits} leaves: base "
                f"must be at least 2, num_digits at least 1, and the leaves at most {MOST_LEAVES}."
            )
        if not initial_alpha > 1:
            raise ConfigError(f"attention.initial_alpha={initial_alpha} must be above 1.")
        self.base, self.num_digits = base, num_digits
        self.digits = nn.Linear(shape.head_dim, num_digits * base, bias=False)
        self.log_excess = nn.Parameter(torch.full((shape.num_heads,), math.log(initial_alpha - 1)))

    def forward(self, x_BTH: Tensor, context: AttentionContext, cache: Any | None = None) -> Tensor:
        q_BNTLP, k_BGTLP = self.soft_addresses(x_BTH)
        v_BGTD = context.rotate(self.heads(self.v_proj(x_BTH))).to(q_BNTLP.dtype)
        v_BGTE = torch.cat([v_BGTD, torch.ones_like(v_BGTD[..., :1])], -1)
        weights_NL = self.level_weights().to(q_BNTLP.dtype)
        with torch.autocast(x_BTH.device.type, enabled=False):  # thousands of values are summed
            if context.kernel == "reference":
                sums_BNTE = reference_sums(q_BNTLP, k_BGTLP, v_BGTE, weights_NL, context.mask_BTS)
            else:
                sums_BNTE = tree_sums(q_BNTLP, k_BGTLP, v_BGTE, weights_NL, context.documents_BT)
        if cache is not None:
            sums_BNTE = sums_BNTE + cache.read(q_BNTLP.argmax(-1), weights_NL)
            cache.add(k_BGTLP.argmax(-1), v_BGTE)
        y_BNTD = sums_BNTE[..., :-1] / sums_BNTE[..., -1:]
        return self.merge(rotate_back(y_BNTD, context.rotate).to(x_BTH.dtype))

    def soft_addresses(self, x_BTH: Tensor) -> tuple[Tensor, Tensor]:
        """Softmax of the logits of every digit of queries and keys: [B, N, T, L, p], [B, G, T, L, p].

        In the precision of the weights: what bf16 rounds away would send one token in some dozens to another leaf.
        """
        with torch.autocast(x_BTH.device.type, enabled=False):
            x_BTH = x_BTH.to(torch.promote_types(x_BTH.dtype, self.digits.weight.dtype))
            q_BNTD, k_BGTD = self.q_norm(self.heads(self.q_proj(x_BTH))), self.k_norm(self.heads(self.k_proj(x_BTH)))
            both = (self.digits(one).unflatten(-1, (self.num_digits, self.base)) for one in (q_BNTD, k_BGTD))
            q_BNTLP, k_BGTLP = (one.to(torch.promote_types(one.dtype, torch.float32)).softmax(-1) for one in both)
        return q_BNTLP, k_BGTLP

    def level_weights(self) -> Tensor:
        """w_l / alpha^L for l = 0 .. L, [N, L + 1]."""
        log_alpha = torch.log1p(self.log_excess.exp())
        levels = torch.arange(-self.num_digits, 1, dtype=log_alpha.dtype, device=log_alpha.device)
        powers_NL = (log_alpha[:, None] * levels).exp()
        return torch.cat([powers_NL[:, :1], powers_NL.diff(dim=-1)], -1)

    def new_cache(self, batch_size: int, max_tokens: int, dtype: torch.dtype, device: torch.device) -> Any:
        heads = (batch_size, self.shape.num_kv_heads)
        return BucketCache(heads, self.base, self.num_digits, self.shape.head_dim, dtype, device)

    def reads(self, kernel: Kernel) -> DocumentForm:
        return "mask_BTS" if kernel == "reference" else "documents_BT"

    def choose_backend(
        self, kernel: Kernel, compiled: bool, num_rows: int, num_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> str:
        return Mixer.choose_backend(self, kernel, compiled, num_rows, num_tokens, dtype, device)

    @torch.no_grad()
    def figures(self, x_BTH: Tensor, context: AttentionContext) -> dict[str, Tensor]:
        """Addresses, alpha, and the LCP of every query with the keys that it reads (-1 with others)."""
        q_BNTL, k_BGTL = (soft.argmax(-1) for soft in self.soft_addresses(x_BTH))
        k_BNTL = k_BGTL.repeat_interleave(q_BNTL.shape[1] // k_BGTL.shape[1], 1)
        lcp_BNTS = longest_common_prefix(q_BNTL[..., :, None, :], k_BNTL[..., None, :, :])
        readable_BTS = causal_mask(x_BTH.shape[1], x_BTH.shape[1], x_BTH.device)[None]
        if context.documents_BT is not None:
            readable_BTS = readable_BTS & (context.documents_BT[:, :, None] == context.documents_BT[:, None, :])
        return {
            "key_digits_BGTL": k_BGTL,
            "query_digits_BNTL": q_BNTL,
            "lcp_BNTS": lcp_BNTS.masked_fill(~readable_BTS[:, None], -1),
            "alpha_N": 1 + self.log_excess.exp(),
        }


def longest_common_prefix(x_L: Tensor, y_L: Tensor) -> Tensor:
    """How many leading digits agree, over the last dimension."""
    return (x_L == y_L).cumprod(-1).sum(-1)


def rotate_back(y_BNTD: Tensor, rotate: Callable[[Tensor], Tensor]) -> Tensor:
    """R_i^-1 y_i: a turn of the pair (d, d + D/2) between two reflections of its second half is the turn back."""
    first, second = y_BNTD.chunk(2, -1)
    first, second = rotate(torch.cat([first, -second], -1)).chunk(2, -1)
    return torch.cat([first, -second], -1)


def reference_sums(
    q_BNTLP: Tensor, k_BGSLP: Tensor, v_BGSE: Tensor, weights_NL: Tensor, mask_BTS: Tensor | None
) -> Tensor:
    """sum_j K_ij v_j with the kernel written out, its gradients those of the straight-through matches."""
    repeats = q_BNTLP.shape[1] // k_BGSLP.shape[1]
    q_BNTLP, k_BNSLP = straight_through(q_BNTLP), straight_through(k_BGSLP).repeat_interleave(repeats, 1)
    kernel_BNTS = weights_NL[:, 0, None, None]
    before_BNTS = torch.ones_like(kernel_BNTS)
    for level in range(q_BNTLP.shape[3]):
        match_BNTS = q_BNTLP[..., level, :] @ k_BNSLP[..., level, :].transpose(-2, -1)
        kernel_BNTS = kernel_BNTS + weights_NL[:, level + 1, None, None] * before_BNTS * match_BNTS
        before_BNTS = before_BNTS * match_BNTS.detach()
    if mask_BTS is None:
        mask_BTS = causal_mask(q_BNTLP.shape[2], k_BNSLP.shape[2], q_BNTLP.device)[None]
    return kernel_BNTS.masked_fill(~mask_BTS[:, None], 0) @ v_BGSE.repeat_interleave(repeats, 1)


def straight_through(soft_P: Tensor) -> Tensor:
    """The one-hot digit forward, the soft one backward."""
    return one_hot(soft_P.argmax(-1), soft_P.shape[-1], soft_P.dtype) + (soft_P - soft_P.detach())
