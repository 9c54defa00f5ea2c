"""How the same model is computed: eager, flash, compile, both (conf/mode/).

A mode never changes the mathematics, only the attention kernel and whether torch.compile fuses the rest. What cannot
be had on the device is refused; nothing falls back.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor

from bulba.attention.base import Kernel
from bulba.errors import ConfigError, UnsupportedError
from bulba.files import user_cache

if TYPE_CHECKING:
    from bulba.model.gpt import GPT

P = ParamSpec("P")
R = TypeVar("R")
Forward = Callable[[Tensor, Tensor | None, Tensor | None, Tensor | None], Tensor]
CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
# Bucketed rows have 8 lengths, each of them with a last chunk of its own in the loss.
RECOMPILE_LIMIT = 32
WITHOUT_CUDA_GRAPHS: dict[CompileMode, CompileMode] = {
    "reduce-overhead": "default",
    "max-autotune": "max-autotune-no-cudagraphs",
}


@dataclass(frozen=True)
class Mode:
    """kernel: `reference` writes the attention out, `flash` runs torch's fused kernels. compile: use torch.compile.

    compile_mode: torch.compile's own `mode`. compile_cache_dir: where compiled code is kept between runs; None means
    TORCHINDUCTOR_CACHE_DIR if that is set, else the user's cache folder.
    """

    kernel: Kernel
    compile: bool
    compile_mode: CompileMode = "default"
    compile_cache_dir: str | None = None

    def check(self, device: torch.device, one_call_per_step: bool) -> None:
        """Refuse what cannot be had here: UnsupportedError for a missing compiler or CUDA graphs that would not fit.

        one_call_per_step: whether an optimizer step is one forward pass, always of one shape.
        """
        if not self.compile:
            if self.compile_mode != "default" or self.compile_cache_dir is not None:
                raise ConfigError(
                    "mode.compile_mode and mode.compile_cache_dir do nothing without torch.compile: choose "
                    "mode=compile or mode=both, or leave them out."
                )
            return
        check_compiler(device)
        if self.compile_mode in WITHOUT_CUDA_GRAPHS and device.type != "cuda":
            raise UnsupportedError(
                f"mode.compile_mode={self.compile_mode} records CUDA graphs and this is a {device.type}: set default "
                "or max-autotune-no-cudagraphs."
            )
        if self.compile_mode in WITHOUT_CUDA_GRAPHS and not one_call_per_step:
            raise UnsupportedError(
                f"mode.compile_mode={self.compile_mode} records CUDA graphs, whose gradients the next micro-batch "
                "would overwrite: set data.micro_batch_size so that a step is one micro-batch of one shape, or "
                "compile_mode=max-autotune-no-cudagraphs."
            )

    def apply(self, model: GPT) -> Forward:
        """Set the model's kernel and return the callable to train with.

        The model itself stays uncompiled, so that checkpoints and generation never see the compiled one.
        Raises UnsupportedError for a kernel that a layer does not have.
        """
        model.set_kernel(self.kernel)
        if not self.compile:
            return model
        keep_compiled_code(self.compile_cache_dir)
        # A sweep trains several models in one process, and torch counts them all against one limit.
        torch._dynamo.reset()
        return Compiled(model, self.compile_mode)

    def fuse(self, function: Callable[P, R]) -> Callable[P, R]:
        """`function`, which is called several times in a micro-batch, compiled where this mode compiles."""
        if not self.compile:
            return function
        # A recorded CUDA graph would overwrite what the call before returned.
        return Compiled(function, WITHOUT_CUDA_GRAPHS.get(self.compile_mode, self.compile_mode))


class Compiled(Generic[P, R]):
    """`function` through torch.compile, and what compiling it came to.

    Each shape of its first argument is compiled once, when it first comes; more than that is a fault worth seeing.
    graphs: compilations so far. graph_breaks: places where torch.compile gave up; whole graphs are asked for, so one
    would end the run.
    """

    def __init__(self, function: Callable[P, R], compile_mode: CompileMode) -> None:
        mode = None if compile_mode == "default" else compile_mode
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILE_LIMIT)
        self.function = function
        self._compiled = torch.compile(function, fullgraph=True, dynamic=False, mode=mode)
        self.graphs, self.graph_breaks = 0, 0
        self.shapes: set[torch.Size] = set()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        before = compile_counts()
        result = self._compiled(*args, **kwargs)
        graphs, graph_breaks = compile_counts()
        self.graphs += graphs - before[0]
        self.graph_breaks += graph_breaks - before[1]
        self.shapes.add(args[0].shape)  # type: ignore[attr-defined]
        return result

    @property
    def recompiles(self) -> int:
        """Compilations beyond the first one of each shape."""
        return self.graphs - len(self.shapes)


def describe_compiled(parts: Sequence[Compiled[Any, Any]]) -> dict[str, int]:
    """What the summary of a run says of its compiled parts, all together."""
    return {
        "graphs": sum(part.graphs for part in parts),
        "shapes": sum(len(part.shapes) for part in parts),
        "graph_breaks": sum(part.graph_breaks for part in parts),
        "recompiles": sum(part.recompiles for part in parts),
    }


def compile_counts() -> tuple[int, int]:
    """Graphs that torch.compile has made in this process, and graph breaks."""
    from torch._dynamo.utils import counters  # slow to import

    return counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())


def check_compiler(device: torch.device) -> None:
    """UnsupportedError names what torch.compile lacks on this device."""
    if not torch._dynamo.is_dynamo_supported():
        raise UnsupportedError(
            f"mode compile is not to be had: torch {torch.__version__} cannot compile under this version of Python; "
            "use the Python of the README, or choose mode=flash."
        )
    language, names = ("C++", ("c++", "g++", "clang++")) if device.type == "cpu" else ("C", ("cc", "gcc", "clang"))
    if device.type in ("cpu", "cuda") and not any(map(shutil.which, names)):
        raise UnsupportedError(
            f"mode compile needs a {language} compiler on a {device.type.upper()}, and none was found: install one "
            "(sudo apt install g++), or choose mode=flash."
        )
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise UnsupportedError(
                f"mode compile needs Triton and a card that it supports, and {torch.cuda.get_device_name(device)} with "
                "this installation is not: install triton, or choose mode=flash."
            )


def keep_compiled_code(folder: str | None) -> None:
    """Have compiled code outlive the process and the next start of the machine; torch's own place is the temporary one.

    torch finds the code again by its content, so the folder may be shared and deleted at any time.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if folder is None:
        folder = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    # torch writes its own default into the environment as soon as its compiler is imported.
    if folder is None or folder == default_cache_dir():
        folder = str(user_cache() / "compile")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder).expanduser().absolute())
