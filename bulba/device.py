"""Which device and which number type a run uses; what is asked for and absent is refused."""

from __future__ import annotations

import importlib.util
import platform
from typing import Literal

import psutil
import torch

from bulba.errors import UnsupportedError

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# torch comes without it on Windows and macOS.
HAS_TRITON = importlib.util.find_spec("triton") is not None


def choose_device(device: Device) -> torch.device:
    """The device to train on; UnsupportedError when the one asked for is absent."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
    if not available[device]:
        raise UnsupportedError(
            f"trainer.device={device} is not to be had: this torch ({torch.__version__}) sees no such device; "
            "check the driver, or set trainer.device=cpu."
        )
    return torch.device(device)


def runs_triton(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether kernels of bulba/kernels/ can take tensors of this kind."""
    return HAS_TRITON and device.type == "cuda" and dtype in DTYPES.values() and major_capability(device) >= 8


@torch.compiler.assume_constant_result  # compiled code is made for one card
def major_capability(device: torch.device) -> int:
    """7 for Volta and Turing, 8 for Ampere and Ada; products of fp32 for Turing end the compiler of Triton 3.9."""
    return torch.cuda.get_device_capability(device)[0]


def choose_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """bf16 where a GPU has it, else fp16 on a GPU, else fp32; what is asked for and absent is refused."""
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "auto":
        if device.type == "cuda":
            return "bf16" if has_bf16 else "fp16"
        return "fp32"
    if precision == "bf16" and device.type == "cuda" and not has_bf16:
        raise UnsupportedError(f"trainer.precision=bf16: {torch.cuda.get_device_name(device)} has none; set fp16.")
    if precision == "fp16" and device.type != "cuda":
        raise UnsupportedError(
            f"trainer.precision=fp16 needs a CUDA card and this is a {device.type}; set fp32 or bf16."
        )
    return precision


def device_name(device: torch.device) -> str:
    """What the device is called by its maker."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a forward pass in `precision` runs; for fp32 it changes nothing."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


def host_memory_bytes() -> int:
    """Memory of this process, without the files that it maps: those the system may drop and read again."""
    used = psutil.Process().memory_info()
    return int(used.rss - getattr(used, "shared", 0))  # only Linux tells of shared pages
