"""The page of measurements, docs/benchmarks.md: one section for each benchmark, rewritten by that benchmark alone."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from bulba.config.snapshot import git_state
from bulba.files import write_text

HEAD = "# Benchmarks\n\nEvery section was printed by the command that it names.\n"


def write_section(path: Path, title: str, command: str, lines: Sequence[Sequence[str]], measured: str) -> None:
    """Put the section `title` into the page at `path`: `lines` as a table, its head first.

    measured: on what, with which versions.
    """
    page = path.read_text(encoding="utf-8") if path.is_file() else HEAD
    sections = re.split(r"(?m)^(?=## )", page)
    found = (place for place, section in enumerate(sections) if section.startswith(f"## {title}\n"))
    place = next(found, len(sections))
    sections[place : place + 1] = [_section(title, command, lines, measured)]
    write_text(path, "\n\n".join(map(str.rstrip, sections)) + "\n")


def _section(title: str, command: str, lines: Sequence[Sequence[str]], measured: str) -> str:
    head, *rows = (" | ".join(line) for line in lines)
    table = "\n".join(f"| {row} |" for row in [head, " | ".join("---" for _ in lines[0]), *rows])
    git = git_state() or {"commit": "unknown"}
    return (
        f"## {title}\n\n    {command}\n\n"
        f"{os.cpu_count()} cores of {_processor()}{_gpu()}, Python {platform.python_version()}; {measured}; "
        f"commit {git['commit'][:12]}.\n\n"
        f"{table}\n"
    )


def _gpu() -> str:
    import torch

    return f" and one {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
