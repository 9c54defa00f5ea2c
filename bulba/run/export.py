"""An export from its config to the files: find the checkpoint, write each format, say where it went."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from bulba.config.build import to_plain
from bulba.export.run import export
from bulba.runs import find_run

SHARED = ("license",)  # settings that formats take from `export` itself


def export_run(config: DictConfig) -> list[Path]:
    """Write the formats of `config.export` for the run or checkpoint `config.run`; returns what was written."""
    formats = {name: node for name, node in to_plain(config)["export"].items() if name not in SHARED}
    written = export(find_run(config.run), formats, None if config.out is None else Path(config.out))
    for path in written:
        print(f"written: {path}", flush=True)
    return written
