"""How much memory a training step takes, found by taking it with tensors that have shapes and no bytes.

The real model, loss and optimizer run under torch's FakeTensorMode, and every storage that they make is counted from
its birth to its death. So what autograd saves, what autocast casts and what an optimizer keeps is not guessed but done.
Not seen: memory inside a kernel, and what an allocator loses between blocks.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._functorch.aot_autograd import aot_function
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# CUDA's caching allocator hands out multiples of this; a CPU's malloc is finer.
CUDA_BLOCK_BYTES = 512
# glibc's malloc maps larger blocks one by one and gives them back whole (M_MMAP_THRESHOLD, at most 32 MiB).
SMALL_BLOCK_BYTES = 32 * 2**20
# What a tensor is for, by the phase of the step that makes it; temporary in the other phases.
KINDS = {"forward": "activations", "loss": "loss"}
PASSING = ("activations", "loss", "temporary")


class StorageCounter(TorchDispatchMode):
    """Counts the bytes of every storage that is alive, by the kind of what it holds.

    peaks: for each phase of a step, the bytes by kind at the moment when they were most; `small` among them are those
    of blocks below SMALL_BLOCK_BYTES that come and go. fused: the backward pass is compiled.
    """

    def __init__(self, block_bytes: int = 1, fused: bool = False) -> None:
        super().__init__()
        self.block_bytes, self.fused = block_bytes, fused
        self.phase = "backward"
        self.peaks: dict[str, Counter[str]] = {}
        self._live: Counter[str] = Counter()
        self._storages: dict[int, tuple[str, int, Any]] = {}  # kind, bytes, and what tells of the end
        self._total, self._totals = 0, Counter[str]()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        # Inductor computes it where it is read, or over the tensor that it is made of. (What the forward pass keeps
        # for the backward pass is stored all the same.)
        if self.fused and self.phase == "backward" and is_pointwise(func):
            return out
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return out

    def add(self, tensor: Tensor, kind: str | None = None) -> None:
        """Count the storage of a tensor; with `kind`, as that from now on."""
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._storages:
            before, size, end = self._storages[key]
            if kind and before != kind:
                self._count(before, -size)
                self._count(kind, size)
                self._storages[key] = kind, size, end
            return
        kind = kind or KINDS.get(self.phase, "temporary")
        size = -(-storage.nbytes() // self.block_bytes) * self.block_bytes
        self._storages[key] = kind, size, weakref.ref(storage, lambda _: self._drop(key))
        self._count(kind, size)
        if self._total > self._totals[self.phase]:
            self._totals[self.phase], self.peaks[self.phase] = self._total, Counter(self._live)

    @property
    def live_bytes(self) -> int:
        """Of everything that is alive now."""
        return self._total

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """What happens inside belongs to `phase`."""
        before, self.phase = self.phase, phase
        try:
            yield
        finally:
            self.phase = before

    def _count(self, kind: str, size: int) -> None:
        self._live[kind] += size
        self._total += size
        if kind in PASSING and abs(size) < SMALL_BLOCK_BYTES:
            self._live["small"] += size

    def _drop(self, key: int) -> None:
        kind, size, _ = self._storages.pop(key)
        self._count(kind, -size)


def is_pointwise(func: Any) -> bool:
    """Whether an operator computes every number from the numbers at the same place."""
    casts = (torch.ops.aten._to_copy.default, torch.ops.prims.convert_element_type.default)
    return func in casts or torch.Tag.pointwise in func.tags


def fused_chunk_loss(
    hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, train_head: bool, logit_cap: float | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The tensors that `chunk_loss` makes once it is compiled; their values mean nothing."""
    logits_NV = hidden_NH @ weight_VH.T
    # In fp32 the probabilities and the gradient take the place of the logits; otherwise all three are there at once.
    wide_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    grad_NV = (wide_NV if logit_cap is None else wide_NV.clone()).to(hidden_NH.dtype)
    loss = wide_NV.new_zeros(())
    del wide_NV, logits_NV
    return loss, grad_NV @ weight_VH, grad_NV.T @ hidden_NH if train_head else None


def compiled_like(model: nn.Module) -> Callable[..., Tensor]:
    """`model` as torch.compile would split it: what the backward pass needs is kept or computed again as there.

    The graphs run as they are; only Inductor's fusion, which makes fewer temporary tensors, is left out. Uses
    torch's internals, as there is no other way to ask its partitioner.
    """
    from torch._inductor.decomposition import select_decomp_table
    from torch._inductor.fx_passes.joint_graph import joint_graph_passes

    names = [name for name, _ in model.named_parameters()]

    def call(parameters: list[Tensor], *inputs: Tensor) -> Tensor:
        return functional_call(model, dict(zip(names, parameters, strict=True)), inputs)

    def partition(graph: Any, inputs: Any, **options: Any) -> Any:
        joint_graph_passes(graph)
        both = min_cut_rematerialization_partition(graph, inputs, compiler="inductor", **options)
        # torch copies the second when it is first run, and constants cannot be copied among fake tensors.
        kind: Any = type(both[1])
        kind.__deepcopy__ = lambda graph, _: graph
        return both

    def as_it_is(gm: Any, example_inputs: Any) -> Any:
        run = gm.forward
        run_boxed = lambda arguments: run(*arguments)  # noqa: E731
        run_boxed._boxed_call = True  # type: ignore[attr-defined]
        return run_boxed

    compiled = aot_function(
        call,
        fw_compiler=as_it_is,
        bw_compiler=as_it_is,
        partition_fn=partition,
        decompositions=select_decomp_table(),
    )

    def run(*inputs: Tensor) -> Tensor:
        # Attention may be another one in compiled code (bulba/attention/blocked.py), in both passes.
        with patch("torch.compiler.is_compiling", lambda: True):
            return compiled([parameter for _, parameter in model.named_parameters()], *inputs)

    return run
