"""What mixers with queries, keys and values share: four projections, QK-norm, a cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bulba.attention.base import AttentionContext, DocumentForm, Kernel, Mixer, MixerShape
from bulba.attention.softmax import Softmax


class KeyValueCache:
    """Keys and values of one layer, [B, G, max_tokens, D] each; the model keeps count of how much is filled."""

    def __init__(self, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        self.k_BGSD = torch.zeros(shape, dtype=dtype, device=device)
        self.v_BGSD = torch.zeros(shape, dtype=dtype, device=device)

    def write(self, k_BGTD: Tensor, v_BGTD: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Put new keys and values behind the first `start` ones and return all that are filled now."""
        end = start + k_BGTD.shape[2]
        self.k_BGSD[:, :, start:end] = k_BGTD
        self.v_BGSD[:, :, start:end] = v_BGTD
        return self.k_BGSD[:, :, :end], self.v_BGSD[:, :, :end]

    @property
    def num_bytes(self) -> int:
        return self.k_BGSD.nbytes + self.v_BGSD.nbytes


class HeadsMixer(Mixer):
    """q, k and v of N query heads and G key/value heads from linear projections; subclasses say how they mix.

    A subclass says what a projection is by `make_linear`.
    """

    def __init__(self, shape: MixerShape) -> None:
        super().__init__()
        self.shape = shape
        self.softmax = Softmax(shape)
        width, kv_width = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
        self.q_proj = self.make_linear(shape.hidden_size, width)
        self.k_proj = self.make_linear(shape.hidden_size, kv_width)
        self.v_proj = self.make_linear(shape.hidden_size, kv_width)
        self.o_proj = self.make_linear(width, shape.hidden_size)
        make_norm = shape.make_qk_norm
        self.q_norm = make_norm(shape.head_dim) if make_norm and self.capabilities.qk_norm else nn.Identity()
        self.k_norm = make_norm(shape.head_dim) if make_norm and self.capabilities.qk_norm else nn.Identity()

    def make_linear(self, in_features: int, out_features: int) -> nn.Module:
        """One of the four projections; the model fills its weights afterwards if it is an nn.Linear."""
        return nn.Linear(in_features, out_features, bias=self.shape.bias)

    def queries_keys_values(self, x_BTH: Tensor, context: AttentionContext) -> tuple[Tensor, Tensor, Tensor]:
        """q [B, N, T, D], k and v [B, G, T, D]; q and k normed where the model has QK-norm, then rotated."""
        q_BNTD, k_BGTD, v_BGTD = (self.heads(proj(x_BTH)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        return context.rotate(self.q_norm(q_BNTD)), context.rotate(self.k_norm(k_BGTD)), v_BGTD

    def heads(self, x_BTW: Tensor) -> Tensor:
        """[B, T, heads * D] -> [B, heads, T, D]."""
        return x_BTW.unflatten(-1, (-1, self.shape.head_dim)).transpose(1, 2)

    def merge(self, y_BNTD: Tensor) -> Tensor:
        """The output projection: [B, N, T, D] -> [B, T, H]."""
        return self.o_proj(y_BNTD.transpose(1, 2).flatten(2))

    def new_cache(self, batch_size: int, max_tokens: int, dtype: torch.dtype, device: torch.device) -> Any:
        return KeyValueCache((batch_size, self.shape.num_kv_heads, max_tokens, self.shape.head_dim), dtype, device)

    def reads(self, kernel: Kernel) -> DocumentForm:
        return self.softmax.reads(kernel)

    def choose_backend(
        self, kernel: Kernel, compiled: bool, num_rows: int, num_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> str:
        return self.softmax.choose_backend(kernel, compiled, num_rows, num_tokens, dtype, device)
