"""Any other attention, in layers on two streams whose activations are rebuilt instead of stored.

    y1 = x1 + Attn(norm x2),  y2 = x2 + MLP(norm y1)

Source: RevNet (Gomez et al. 2017, arXiv 1707.04585) and Reformer (Kitaev et al. 2020, arXiv 2001.04451). Attn is
`inner`, whose mathematics, weights (as `self_attn.inner.q_proj.weight` ...), caches and capabilities this mixer has;
what is reversible is the block, so the work is done by bulba/model/reversible.py, which also says how streams begin and
end. A single layer computes what an ordinary block computes; several together compute something else, and their weights
are not those of Llama layers: no GGUF.
Cost: forward that of `inner`; a training step makes every forward pass twice (a third more work), and activations take
the memory of one layer whatever the depth.
It does not do norms behind the layers (model.norm_placement=post), FSDP, and dropout in compiled code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bulba.attention.base import KERNELS, AttentionContext, Capabilities, DocumentForm, Kernel, Mixer, MixerShape
from bulba.config.build import build
from bulba.errors import UnsupportedError


class ReversibleAttention(Mixer):
    """`inner` in a reversible layer. inner: `_target_` and options of another attention.

    Raises UnsupportedError for an attention that cannot be computed a second time, or is reversible itself.
    """

    # With the inner attention of conf/attention/reversible.yaml; every instance has those of its own.
    capabilities = Capabilities(KERNELS, packing=True, cache=True, gqa=True, alibi=True, dropout=True)
    reversible = True

    def __init__(self, shape: MixerShape, inner: Mapping[str, Any]) -> None:
        super().__init__()
        self.shape = shape
        self.inner: Mixer = build(inner, path="attention.inner", allowed=("bulba.attention.",), shape=shape)
        if self.inner.reversible or not self.inner.capabilities.recompute:
            reason = "is reversible itself" if self.inner.reversible else "cannot be computed a second time"
            raise UnsupportedError(
                f"attention.inner={type(self.inner).__name__} {reason}: choose another attention for the inner one."
            )
        self.capabilities = self.inner.capabilities
        self.counted_kernel = self.inner.counted_kernel

    def forward(self, x_BTH: Tensor, context: AttentionContext, cache: Any | None = None) -> Tensor:
        return self.inner(x_BTH, context, cache)

    def choose_backend(
        self, kernel: Kernel, compiled: bool, num_rows: int, num_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> str:
        return self.inner.choose_backend(kernel, compiled, num_rows, num_tokens, dtype, device)

    def reads(self, kernel: Kernel) -> DocumentForm:
        return self.inner.reads(kernel)

    def new_cache(self, batch_size: int, max_tokens: int, dtype: torch.dtype, device: torch.device) -> Any:
        return self.inner.new_cache(batch_size, max_tokens, dtype, device)

    def other_flops(self, num_tokens: int) -> int:
        return self.inner.other_flops(num_tokens)

    @torch.no_grad()
    def figures(self, x_BTH: Tensor, context: AttentionContext) -> dict[str, Tensor]:
        """Those of `inner`, and of every token [B, T]:

        added_frac: norm of what attention adds to a stream x, over that of x. undo_error: the largest difference that
        rounding leaves when it is taken away again, |((x + f(x)) - f(x)) - x|, over the largest |x|.
        """
        added_BTH = self.forward(x_BTH, context).to(x_BTH.dtype)
        left_BT = ((x_BTH + added_BTH) - added_BTH - x_BTH).abs().amax(-1)
        return self.inner.figures(x_BTH, context) | {
            "added_frac": added_BTH.norm(dim=-1) / x_BTH.norm(dim=-1),
            "undo_error": left_BT / x_BTH.abs().amax(-1),
        }
