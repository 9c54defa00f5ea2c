"""What the tests of Triton kernels give to them, and what they compare."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.kernels.interpreted import DEVICE

SLOPES = [0.5, 0.125, 0.25, 0.0]
# Queries, cached keys, head width, key heads, packed, with ALiBi.
Options = tuple[int, int, int, int, bool, bool]


def case(
    options: Options, num_rows: int, num_heads: int, levels: int = 1
) -> tuple[list[Tensor], Tensor | None, Tensor | None]:
    """q, k and v of `levels` times the head width, the documents and the slopes."""
    queries, cached, width, kv_heads, is_packed, with_slopes = options
    generator = torch.Generator().manual_seed(queries + cached)
    sizes = ((num_heads, queries), (kv_heads, queries + cached), (kv_heads, queries + cached))
    tensors = [torch.randn(num_rows, *size, levels * width, generator=generator) for size in sizes]
    documents = torch.randint(3, (num_rows, queries), generator=generator).sort(1).values if is_packed else None
    return tensors, documents, torch.tensor(SLOPES[:num_heads]) if with_slopes else None


def outcome(
    attend: Any, tensors: list[Tensor], *rest: Any, dtype: torch.dtype = torch.float32, device: str = DEVICE
) -> list[Tensor]:
    """The output and the gradients of q, k and v for one that is the same for everything compared."""
    there = [x.to(device, dtype).requires_grad_() for x in tensors]
    y = attend(*there, *(x.to(device) if isinstance(x, Tensor) else x for x in rest))
    grad = torch.randint(-4, 5, y.shape, generator=torch.Generator().manual_seed(0)).to(y)
    return [x.detach().cpu() for x in (y, *torch.autograd.grad(y, there, grad))]
