"""From a run or a checkpoint to files for other programs.

A format is one function of one file in this folder, `(checkpoint, tokenizer, out, **options) -> path written`, and
one YAML in conf/export/ that names it and holds its options. Here the parts are found and the formats are called.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bulba.checkpoint_folder import CheckpointRef, check_whole, find_checkpoint
from bulba.config.build import build, check_keys, locate, to_plain
from bulba.errors import CheckpointError, ConfigError
from bulba.files import sha256_file

FORMAT_TARGETS = ("bulba.export.",)
GIVEN = ("checkpoint", "tokenizer", "out")


def export(source: Path, formats: Mapping[str, Mapping[str, Any]], out_dir: Path | None = None) -> list[Path]:
    """Write every format and return what was written, in order.

    source: a run folder (its newest checkpoint is taken) or a checkpoint folder. formats: by name, the content of
    its YAML in conf/export/. out_dir: where to; None is `export/` in the run, or beside a lone checkpoint.
    Raises CheckpointError for a source without checkpoint or tokenizer, and what the formats raise.
    """
    if not formats:
        raise ConfigError("no format is asked for: set export to hf, gguf, or [hf,gguf].")
    for name, node in formats.items():
        _check_format(name, node)
    checkpoint = find_checkpoint(source)
    check_whole(checkpoint.folder)
    tokenizer = find_tokenizer(checkpoint)
    out = (out_dir or default_folder(checkpoint)) / export_name(checkpoint)
    return [
        build(
            node,
            path=f"export.{name}",
            allowed=FORMAT_TARGETS,
            checkpoint=checkpoint.folder,
            tokenizer=tokenizer,
            out=out,
        )
        for name, node in formats.items()
    ]


def find_tokenizer(checkpoint: CheckpointRef) -> Path:
    """The tokenizer.json of the run, or the one beside a lone checkpoint.

    CheckpointError where there is none, or where run.json says that the run had another one.
    """
    folder = checkpoint.folder
    home = [checkpoint.run] if checkpoint.run else [folder.parent, folder]
    for place in home:
        for path in (place / "tokenizer" / "tokenizer.json", place / "tokenizer.json"):
            if path.is_file():
                check_tokenizer(path, checkpoint)
                return path
    raise CheckpointError(
        f"{home[0]} has no tokenizer/tokenizer.json, and a model is not exported without its tokenizer: put the "
        "folder `tokenizer` of the training run there."
    )


def check_tokenizer(path: Path, checkpoint: CheckpointRef) -> None:
    """A tokenizer of the same size fits the weights and gives other tokens: its bytes have to be those of the run."""
    record = checkpoint.run / "run.json" if checkpoint.run else None
    if record is None or not record.is_file():
        return
    wanted = json.loads(record.read_text(encoding="utf-8")).get("tokenizer_fingerprint")
    if wanted is not None and sha256_file(path) != wanted:
        raise CheckpointError(
            f"{path} is not the tokenizer that {checkpoint.run} was trained with (its SHA-256 is not the one in "
            "run.json): put the run's own one back, which the prepared data in the cache has too."
        )


def default_folder(checkpoint: CheckpointRef) -> Path:
    """Where exports go when nobody says."""
    return (checkpoint.run or checkpoint.folder.parent) / "export"


def export_name(checkpoint: CheckpointRef) -> str:
    """The model's name in file names and metadata: run and step, or the folder of a lone checkpoint."""
    return f"{checkpoint.run.name}-{checkpoint.folder.name}" if checkpoint.run else checkpoint.folder.name


def _check_format(name: str, node: Mapping[str, Any]) -> None:
    """Every setting is looked at before the first file is written."""
    options = to_plain(node)
    target = locate(options.pop("_target_", None), f"export.{name}", FORMAT_TARGETS)
    check_keys(target, options, f"export.{name}", given=GIVEN)
