"""Cases that the tests of several attentions have in common: what they draw, and what they measure of a layer."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from bulba.attention.base import AttentionContext, Kernel
from bulba.packing import document_mask
from tests.model.tiny import tiny_gpt, tokens

SEEDS = st.integers(0, 10_000)
KERNELS: st.SearchStrategy[Kernel] = st.sampled_from(["reference", "flash"])


def draws(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers, the same for the same seed."""
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Drawn:
    """Two rows of queries, keys and values as attention functions take them, from plain numbers.

    num_cached: keys before the first query; none in packed rows. is_packed: three documents at most. with_slopes: of
    ALiBi, one of them 0.
    """

    seed: int
    num_queries: int = 9
    num_cached: int = 0
    kv_heads: int = 2
    is_packed: bool = False
    with_slopes: bool = False

    def queries_keys_values(self, width: int) -> list[Tensor]:
        """q [2, 4, T, width], k and v [2, G, S, width], which want gradients."""
        num_keys = self.num_queries + (0 if self.is_packed else self.num_cached)
        shapes = ((4, self.num_queries), (self.kv_heads, num_keys), (self.kv_heads, num_keys))
        generator = torch.Generator().manual_seed(self.seed)
        return [
            torch.randn(2, *shape, width, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes
        ]

    def documents(self) -> Tensor | None:
        if not self.is_packed:
            return None
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randint(3, (2, self.num_queries), generator=generator).sort(1).values

    def slopes(self) -> Tensor | None:
        return torch.tensor([0.5, 0.25, 0.1, 0.0], dtype=torch.float64) if self.with_slopes else None


DRAWN = st.builds(
    Drawn,
    seed=SEEDS,
    num_queries=st.integers(1, 10),
    num_cached=st.integers(0, 5),
    kv_heads=st.sampled_from([1, 2, 4]),
    is_packed=st.booleans(),
    with_slopes=st.booleans(),
)


def context(
    documents: Tensor | None = None,
    kernel: Kernel = "reference",
    rotate: Callable[[Tensor], Tensor] = lambda x: x,
    mask: Tensor | None = None,
    start: int = 0,
) -> AttentionContext:
    """What a layer is told; documents bring their own mask."""
    if documents is not None:
        mask = document_mask(documents)
    return AttentionContext(rotate, documents, mask, None, kernel, start)


def assert_equal_with_gradients(out: Tensor, expected: Tensor, inputs: list[Tensor], atol: float) -> None:
    """Both depend on the inputs in the same way, in float64."""
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=atol)
    grad = draws(0, *out.shape)
    got, wanted = (torch.autograd.grad(value, inputs, grad) for value in (out, expected))
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=atol)


def assert_same_on_cuda(attend: Callable[..., Tensor], drawn: Drawn, width: int, compiled: bool) -> None:
    """attend(q, k, v) in fp32 is on a CPU what it is on the card, there perhaps compiled."""
    results = []
    for device, run in (("cpu", attend), ("cuda", torch.compile(attend) if compiled else attend)):
        there = [x.detach().float().to(device).requires_grad_() for x in drawn.queries_keys_values(width)]
        y = run(*there)
        results.append([x.cpu() for x in (y, *torch.autograd.grad(y.square().sum(), there))])
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-4)


def kept_bytes(run: Callable[[], Any]) -> int:
    """What a forward pass keeps for the backward pass, each storage once."""
    kept: dict[int, Tensor] = {}  # alive until the end, so that no storage is used twice

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(tensor.nbytes for tensor in kept.values())


def time_exponent(attention: Mapping[str, Any]) -> float:
    """e, where one layer takes about T^e seconds of the processor, forward and backward, for 1k to 16k tokens."""
    seconds = {length: step_seconds(attention, length) for length in (1024, 2048, 4096, 8192, 16384)}
    logs = [(math.log(length), math.log(second)) for length, second in seconds.items()]
    return statistics.linear_regression(*zip(*logs, strict=True)).slope


def step_seconds(attention: Mapping[str, Any], num_tokens: int) -> float:
    """Of one layer with kernel `flash` and head width 64; the fastest of three."""
    sizes = {"hidden_size": 128, "num_heads": 2, "num_kv_heads": 2, "num_layers": 1, "max_seq_len": num_tokens}
    model, seen = tiny_gpt(attention=attention, kernel="flash", **sizes), []
    mixer = model.mixers()[0]
    hook = mixer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[:2]))
    model(tokens(1, num_tokens))
    hook.remove()
    x_BTH, told = seen[0][0].detach().requires_grad_(), seen[0][1]
    found = []
    for _ in range(3):
        began = time.thread_time()
        mixer(x_BTH, told).sum().backward()
        found.append(time.thread_time() - began)
    return min(found)
