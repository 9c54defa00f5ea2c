"""What the kernel says of this process's memory; Linux alone tells it."""

from __future__ import annotations

from pathlib import Path

from bulba.errors import UnsupportedError

STATUS = Path("/proc/self/status")


def reset_peak() -> None:
    """Let the peak (VmHWM) begin at what is held now."""
    if not STATUS.exists():
        raise UnsupportedError("the memory of a process is read from /proc, which this system has not: use Linux.")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def status_bytes(name: str) -> int:
    """A figure of /proc/self/status."""
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
