"""Triton kernels compiled for NVIDIA targets, which needs no card."""

from __future__ import annotations

from typing import Any

CAPABILITIES = [80, 86, 89, 90]
SHARED_BYTES = 99 * 1024
"""What a block may have on compute capability 8.6 and 8.9, the least of the targets."""


def compile_kernel(kernel: Any, arguments: dict[str, Any], capability: int) -> Any:
    """The compiled kernel; arguments: by name types such as "*bf16" or "i32", values of constexpr parameters, options.

    A tensor that is not given is None. Pointers are multiples of 16, as those that torch allocates.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {
        name: "constexpr" if arguments[name] is None or kernel.params[index].is_constexpr else arguments[name]
        for index, name in enumerate(kernel.arg_names)
    }
    constants = {(index,): arguments[name] for index, name in enumerate(signature) if signature[name] == "constexpr"}
    pointers = [index for index, name in enumerate(signature) if signature[name].startswith("*")]
    aligned = {(index,): [["tt.divisibility", 16]] for index in pointers}
    source = ASTSource(kernel, signature, constants, aligned)
    options = {name: value for name, value in arguments.items() if name in ("num_warps", "num_stages")}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
