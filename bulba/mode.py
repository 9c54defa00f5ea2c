"""How the same model is computed: eager, flash, compile, both (conf/mode/).

A mode never changes the mathematics, only the attention kernel and whether torch.compile fuses the rest. What cannot
be had on the device is refused; nothing falls back.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import torch
from torch import Tensor

from bulba.attention.base import Kernel
from bulba.errors import UnsupportedError

if TYPE_CHECKING:
    from bulba.model.gpt import GPT

P = ParamSpec("P")
R = TypeVar("R")
Forward = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]


@dataclass(frozen=True)
class Mode:
    """kernel: `reference` writes the attention out, `flash` runs torch's fused kernels. compile: use torch.compile."""

    kernel: Kernel
    compile: bool

    def apply(self, model: GPT, device: torch.device) -> Forward:
        """Set the model's kernel and return the callable to train with.

        The model itself stays uncompiled, so that checkpoints and generation never see the compiled one.
        Raises UnsupportedError for a kernel that a layer does not have, or a missing compiler.
        """
        model.set_kernel(self.kernel)
        if not self.compile:
            return model
        if device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
            raise UnsupportedError(
                "mode compile needs a C++ compiler on a CPU, and none was found: install one "
                "(sudo apt install g++), or choose mode=flash."
            )
        return self.fuse(model)

    def fuse(self, function: Callable[P, R]) -> Callable[P, R]:
        """`function` compiled, where this mode compiles."""
        if not self.compile:
            return function
        # Every batch has one shape, so a second compilation would be a fault worth seeing, not hiding.
        return torch.compile(function, fullgraph=True, dynamic=False)
