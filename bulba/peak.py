"""The most FLOP/s that a device can do: its maker's figure where we know it, else measured.

The figures are for dense matrix products of bf16 or fp16 with sums in fp32, as training does them. Sources: NVIDIA's
architecture whitepapers (V100, A100, GA102, H100, Ada, RTX Blackwell) and the data sheets of T4, A10, A30, L4, L40S and
H200; what they give with sparsity is halved. The RTX 3060, 4060 and 4070 follow from the tables of their families:
tensor cores x 64 multiply-adds with fp32 sums x 2 x boost clock.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch

# Name without "NVIDIA", "GeForce", "Tesla" -> 10^12 FLOP/s. The first that fits the whole name counts.
KNOWN_TFLOPS = {
    r"RTX 3060": 25.5,
    r"RTX 3070": 40.6,
    r"RTX 3080": 59.5,
    r"RTX 3090": 71.0,
    r"RTX 4060": 30.2,
    r"RTX 4070": 58.3,
    r"RTX 4080": 97.5,
    r"RTX 4090": 165.2,
    r"RTX 5080": 112.6,
    r"RTX 5090": 209.5,
    r"T4": 65.0,
    r"V100-PCIE.*": 112.0,
    r"V100-SXM2.*": 125.0,
    r"A10": 125.0,
    r"A30": 165.0,
    r"A100.*": 312.0,
    r"L4": 121.0,
    r"L40S": 362.0,
    r"H100 PCIe": 756.0,
    r"H100 80GB HBM3": 989.4,
    r"H200": 989.4,
}
# Square products of this width keep the device busy; on a CPU wider ones are no faster and take seconds.
WIDTH_CPU, WIDTH_ACCELERATOR = 1024, 8192
ROUNDS = 5


@dataclass(frozen=True)
class Peak:
    """flops_per_s of one device, and where the figure is from: `maker`, or `measured` on the device itself."""

    flops_per_s: float
    source: Literal["maker", "measured"]


@cache
def peak_of(device: torch.device, precision: str) -> Peak:
    """The peak of `device` for products in `precision` (fp32, bf16, fp16); measured once a process."""
    if device.type == "cuda" and precision in ("bf16", "fp16"):
        known = known_peak(torch.cuda.get_device_name(device))
        if known:
            return Peak(known, "maker")
    return Peak(measure_peak(device, precision), "measured")


def known_peak(name: str) -> float | None:
    """FLOP/s of a card by its name; None for one that is not in the table (a laptop's card is another card)."""
    short = re.sub(r"\b(NVIDIA|GeForce|Tesla) ", "", name).strip()
    return next((1e12 * tflops for pattern, tflops in KNOWN_TFLOPS.items() if re.fullmatch(pattern, short)), None)


def measure_peak(device: torch.device, precision: str) -> float:
    """FLOP/s of the fastest of a few square products; a fifth of a second."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    width = WIDTH_CPU if device.type == "cpu" else WIDTH_ACCELERATOR
    # No random numbers: the run's own must not move.
    left = torch.linspace(-1, 1, width * width, device=device).view(width, width).to(dtype)
    seconds = []
    with torch.no_grad():
        for _ in range(1 + ROUNDS):
            synchronize(device)
            began = time.perf_counter()
            left @ left
            synchronize(device)
            seconds.append(time.perf_counter() - began)
    return 2 * width**3 / min(seconds[1:])


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
