"""An export from its config to the files: find the checkpoint, write each format, say where it went."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from bulba.config.build import to_plain
from bulba.errors import ConfigError
from bulba.export.hf_source import as_checkpoint, is_hf_folder
from bulba.export.hub import check_hub, push
from bulba.export.run import export
from bulba.runs import find_run

SHARED = ("license", "llama_cpp")  # settings that formats take from `export` itself


def find_source(name: str) -> Path:
    """The folder that `run=NAME` means: a run, a checkpoint (or a file in it), a model for transformers."""
    path = Path(name)
    if path.is_file() and (path.parent / "checksums.json").is_file():
        return path.parent
    return find_run(name)


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
    out = None if config.out is None else Path(config.out)
    source = find_source(config.run)
    if is_hf_folder(source):
        with as_checkpoint(source) as checkpoint:
            written = export(checkpoint, formats, out or source / "export")
    else:
        written = export(source, formats, out)
    for path in written:
        print(f"written: {path}", flush=True)
    if repository is not None:
        print(f"on the Hub: {push(written, repository)}", flush=True)
    return written
