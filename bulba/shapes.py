"""Models without weights: what is asked for are kinds, names and shapes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def shapes_only() -> Iterator[None]:
    """Modules made here have neither memory nor weights (torch's meta device)."""
    with torch.device("meta"), NoInit():
        yield


class NoInit(TorchFunctionMode):
    """Leaves out torch.nn.init: on the meta device it draws nothing, and loads torch's compiler, seconds, to do so."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
