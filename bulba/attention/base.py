"""What every attention (sequence mixer) is to the rest of Bulba.

A mixer turns x_BTH (batch, tokens, hidden) into y_BTH of the same shape, causally, and never across the documents of
a packed row. It owns its projections and its decode cache; the model owns positions, masks and the cache length.

Letters: B batch, T tokens, S keys (cached + new), H hidden, N query heads, G key/value heads, D head width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

Kernel = Literal["reference", "flash"]
KERNELS: frozenset[Kernel] = frozenset(get_args(Kernel))
DocumentForm = Literal["documents_BT", "mask_BTS", "offsets"]


@dataclass(frozen=True)
class MixerShape:
    """What the model gives to each of its mixers.

    make_qk_norm: makes the norm of q or k for a head width; None where the model has none (Henry et al. 2020, arXiv
    2010.04245). bias: of the projections. dropout: of attention weights, in training.
    """

    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    make_qk_norm: Callable[[int], nn.Module] | None = None
    bias: bool = False
    dropout: float = 0.0


@dataclass(frozen=True)
class Capabilities:
    """What a mixer can do. What is declared is tested; asking for what is not raises UnsupportedError.

    kernels: the attention kernels it has. packing: keeps the documents of a packed row apart. cache: decodes step by
    step. gqa: takes num_kv_heads < num_heads. recompute: its forward may be run again in the backward pass (activation
    checkpointing). alibi: takes slopes on its scores. qk_norm: norms its q and k. dropout: drops attention weights.
    """

    kernels: frozenset[Kernel]
    packing: bool
    cache: bool
    gqa: bool
    recompute: bool = True
    alibi: bool = False
    qk_norm: bool = True
    dropout: bool = False


@dataclass
class AttentionContext:
    """What one forward pass shares between its layers.

    rotate: applies the position scheme to q or k, [B, heads, T, D] -> same; it changes nothing where positions are not
    rotary. slopes_N: of ALiBi: score_ij falls by slopes_N * (i - j); None without ALiBi.
    documents_BT: the document of every token of packed rows, and the same in the forms that `Mixer.reads` asks for:
    mask_BTS, True where a query may read a key, and offsets, int32 [documents + 1], as `document_offsets` of
    bulba/packing.py gives them. All three are None where attention is plain causal over all S keys.
    kernel: which attention kernel must run. start: how many tokens the cache held before this pass.
    """

    rotate: Callable[[Tensor], Tensor]
    documents_BT: Tensor | None
    mask_BTS: Tensor | None
    offsets: Tensor | None
    kernel: Kernel
    start: int = 0
    slopes_N: Tensor | None = None


class Mixer(nn.Module, ABC):
    """Base class of the attentions: one file, one YAML in conf/attention/, one row of the contract tests.

    capabilities: of the class; an instance may have its own, by its options or its parts. counted_kernel: the one whose
    products are the FLOPs of the mixer: `reference`, which computes nothing twice, or `flash` where that one does less
    work in the first place. reversible: its layers run on two streams, and the backward pass rebuilds their activations
    (bulba/model/reversible.py).
    """

    capabilities: Capabilities
    counted_kernel: Kernel = "reference"
    reversible: ClassVar[bool] = False

    @abstractmethod
    def forward(self, x_BTH: Tensor, context: AttentionContext, cache: Any | None = None) -> Tensor:
        """Mix the tokens: [B, T, H] -> [B, T, H]; `cache` is this layer's own, from `new_cache`, or None."""

    def choose_backend(
        self, kernel: Kernel, compiled: bool, num_rows: int, num_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> str:
        """Settle which implementation of `kernel` runs on packed rows of this shape, and give its name.

        Raises UnsupportedError where the device has none.
        """
        return kernel

    def reads(self, kernel: Kernel) -> DocumentForm:
        """In which form this kernel reads the documents of packed rows; a mask takes T x T bytes a row."""
        return "mask_BTS"

    def new_cache(self, batch_size: int, max_tokens: int, dtype: torch.dtype, device: torch.device) -> Any:
        """An empty decode cache of this layer for up to `max_tokens` tokens."""
        raise AssertionError(f"{type(self).__name__} declares cache={self.capabilities.cache} but has no new_cache")

    def other_flops(self, num_tokens: int) -> int:
        """Operations of training on a row that are no matrix products, where they are what the mixer is made of."""
        return 0

    def figures(self, x_BTH: Tensor, context: AttentionContext) -> dict[str, Tensor]:
        """What the mathematics of this mixer says of these tokens, for reports and pictures; no gradients."""
        return {}
