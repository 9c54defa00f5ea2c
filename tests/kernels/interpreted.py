"""Triton kernels on any machine: on the card where there is one, else in Triton's interpreter on the CPU."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def kernels(name: str) -> Iterator[ModuleType]:
    """The module bulba.kernels.NAME, freshly imported so that its kernels run on DEVICE."""
    pytest.importorskip("triton")
    if DEVICE == "cuda":
        yield importlib.import_module(f"bulba.kernels.{name}")
        return
    import triton.language as tl
    from triton.runtime.interpreter import InterpretedFunction, InterpreterBuilder
    from triton.runtime.jit import JITFunction

    dot, full_name = InterpreterBuilder.create_dot, f"bulba.kernels.{name}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        # Triton's own functions (tl.max ...) were made when it was imported, perhaps without the variable.
        for module in (tl, tl.standard, tl.math):
            for key, value in list(vars(module).items()):
                if isinstance(value, JITFunction):
                    patch.setattr(module, key, InterpretedFunction(value.fn))
        patch.setattr(
            InterpreterBuilder, "create_dot", lambda self, a, b, *rest: dot(self, widened(a), widened(b), *rest)
        )
        patch.delitem(sys.modules, full_name, raising=False)
        try:
            yield importlib.import_module(full_name)
        finally:
            sys.modules.pop(full_name, None)


def widened(handle: Any) -> Any:
    """The interpreter keeps bfloat16 as the 16 bits that it is, and multiplies matrices of those bits."""
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    if handle.dtype != tl.bfloat16:
        return handle
    return TensorHandle((handle.data.astype("uint32") << 16).view("float32"), tl.float32)
