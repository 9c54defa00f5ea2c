"""Triton kernels on any machine: on the card where there is one, else in Triton's interpreter on the CPU."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def kernels(name: str) -> Iterator[ModuleType]:
    """The module bulba.kernels.NAME, freshly imported so that its kernels run on DEVICE."""
    pytest.importorskip("triton")
    full_name = f"bulba.kernels.{name}"
    if DEVICE == "cuda":
        yield importlib.import_module(full_name)
        return
    with interpreting():
        usual = sys.modules.pop(full_name, None)
        try:
            yield importlib.import_module(full_name)
        finally:
            # Both are where `from bulba.kernels import NAME` looks.
            del sys.modules[full_name], sys.modules["bulba.kernels"].__dict__[name]
            if usual is not None:
                sys.modules[full_name] = usual
                setattr(sys.modules["bulba.kernels"], name, usual)


@contextmanager
def interpreting() -> Iterator[None]:
    """What is decorated by triton.jit inside runs in the interpreter; Triton is left as it was."""
    import triton.language as tl
    from triton.runtime import interpreter
    from triton.runtime.jit import JITFunction

    function, builder = interpreter.InterpretedFunction, interpreter.InterpreterBuilder
    dot = builder.create_dot
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        # Triton's own functions (tl.max ...) were made when it was imported, perhaps without the variable.
        for module in (tl, tl.standard, tl.math):
            for key, value in list(vars(module).items()):
                if isinstance(value, JITFunction):
                    patch.setattr(module, key, function(value.fn))
        # A call of one function by another changes triton.language for good, and at every call: once will do.
        patch.setattr(function, "__call__", lambda self, *args, **kwargs: self.rewrite()(*args, **kwargs))
        patch.setattr(builder, "create_dot", lambda self, a, b, *rest: dot(self, widened(a), widened(b), *rest))
        changes = interpreter._patch_lang(SimpleNamespace(__globals__={"tl": tl, "core": tl.core}))
        try:
            yield
        finally:
            changes.restore()


def widened(handle: Any) -> Any:
    """The interpreter keeps bfloat16 as the 16 bits that it is, and multiplies matrices of those bits."""
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    if handle.dtype != tl.bfloat16:
        return handle
    return TensorHandle((handle.data.astype("uint32") << 16).view("float32"), tl.float32)
