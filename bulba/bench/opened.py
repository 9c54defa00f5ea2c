"""A finished run with its model, tokenizer and data, as the measurements need it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from bulba.checkpoint import load_model
from bulba.checkpoint_folder import find_checkpoint
from bulba.config.build import build
from bulba.data.datamodule import TextData
from bulba.data.tokens import TokenFile
from bulba.model.gpt import GPT
from bulba.runs import find_run


@dataclass(frozen=True)
class OpenedRun:
    """model: from the newest checkpoint. data: prepared (found in the cache, or made again from the same texts)."""

    folder: Path
    model: GPT
    data: TextData


def open_run(name: str) -> OpenedRun:
    """Open the run that `name` means (`last`, a name, a folder)."""
    folder = find_run(name)
    config = OmegaConf.load(folder / "config.yaml")
    data: TextData = build(config.data, path="data")
    data.prepare(build(config.tokenizer, path="tokenizer"))
    return OpenedRun(folder, load_model(find_checkpoint(folder).folder), data)


def texts_of(data: TextData, file: TokenFile) -> list[str]:
    """The documents of a token file as text."""
    return [data.tokenizer.decode(file.document(index).tolist()) for index in range(file.num_documents)]
