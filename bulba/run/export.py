"""An export from its config to the files: find the checkpoint, write each format, say where it went."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from bulba.config.build import to_plain
from bulba.errors import ConfigError
from bulba.export.hub import check_hub, push
from bulba.export.run import export
from bulba.runs import find_run

SHARED = ("license", "llama_cpp")  # settings that formats take from `export` itself


def export_run(config: DictConfig) -> list[Path]:
    """Write the formats of `config.export` for the run or checkpoint `config.run`; returns what was written."""
    settings = to_plain(config)["export"]
    repository = settings.pop("push_to_hub")
    if repository is not None:
        check_hub(repository)  # before minutes are spent on files that cannot go there
    formats = {name: node for name, node in settings.items() if name not in SHARED}
    for name in SHARED:
        if settings[name] is not None and not any(name in node for node in formats.values()):
            raise ConfigError(f"export.{name} does nothing for {', '.join(formats)}: leave it out.")
    written = export(find_run(config.run), formats, None if config.out is None else Path(config.out))
    for path in written:
        print(f"written: {path}", flush=True)
    if repository is not None:
        print(f"on the Hub: {push(written, repository)}", flush=True)
    return written
