"""Softmax attention with grouped key/value heads, the baseline of all others.

Formula: y = softmax(q k^T / sqrt(D)) v, causal, inside each document (Vaswani et al. 2017, arXiv 1706.03762). Query
heads share key/value heads in groups (Ainslie et al. 2023, arXiv 2305.13245): num_kv_heads = num_heads is multi-head,
num_kv_heads = 1 is multi-query attention.
Cost per layer: 4 T^2 N D multiply-adds for all pairs of tokens; memory as in bulba/attention/softmax.py.
It does not do sliding windows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from bulba.attention.base import KERNELS, AttentionContext, Capabilities, MixerShape
from bulba.attention.heads import HeadsMixer


class StandardAttention(HeadsMixer):
    """Grouped-query softmax attention. bias: as that of the shape, in the configs of older runs."""

    capabilities = Capabilities(KERNELS, packing=True, cache=True, gqa=True, alibi=True, dropout=True)

    def __init__(self, shape: MixerShape, bias: bool = False) -> None:
        super().__init__(replace(shape, bias=shape.bias or bias))

    def forward(self, x_BTH: Tensor, context: AttentionContext, cache: Any | None = None) -> Tensor:
        q_BNTD, k_BGSD, v_BGSD = self.queries_keys_values(x_BTH, context)
        if cache is not None:
            k_BGSD, v_BGSD = cache.write(k_BGSD, v_BGSD, context.start)
        return self.merge(self.softmax(q_BNTD, k_BGSD, v_BGSD, context, cache is not None, self.training))
