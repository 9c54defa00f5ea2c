"""A preparation from its config to its report: what was read from which file, what was left out, and why."""

from __future__ import annotations

import sys

from omegaconf import DictConfig
from rich.console import Console

from bulba.config.build import build, check_keys, locate, to_plain
from bulba.config.entry import run_hydra
from bulba.data.datamodule import TextData
from bulba.data.prepare import TokenizerSpec
from bulba.errors import ConfigError
from bulba.report.preparation import preparation_tables
from bulba.run.bars import Bars


def prepare_command(arguments: list[str]) -> None:
    """`python -m bulba prepare`, its words being Hydra's: conf/prepare.yaml."""
    sys.argv = ["python -m bulba prepare", *arguments]
    run_hydra(lambda config, _: prepare_texts(config), "prepare")


def prepare_texts(config: DictConfig) -> None:
    """Prepare the texts of `config.data`, or with `config.part` read that part of their files."""
    options = to_plain(config)["tokenizer"]
    check_keys(locate(options.pop("_target_"), "tokenizer"), options, "tokenizer")
    data: TextData = build(config.data, path="data")
    tokenizer: TokenizerSpec = build(config.tokenizer, path="tokenizer")
    if config.part is not None:
        read_one_part(data, config.part, config.num_parts)
        return
    with Bars() as bars:
        prepared = data.prepare(tokenizer, progress=bars)
    console = Console()
    for table in preparation_tables(prepared.report):
        console.print(table)
    print(f"prepared: {prepared.folder} (every file is in {prepared.folder / 'prepare.json'})")


def read_one_part(data: TextData, part: int, num_parts: int) -> None:
    """Leaves the shards of one part in the cache, for the preparation that follows."""
    if not isinstance(part, int) or not isinstance(num_parts, int):
        raise ConfigError(f"part={part} and num_parts={num_parts} must be whole numbers, such as part=0 num_parts=4.")
    counts = data.read_part(part, num_parts)
    print(
        f"part {part} of {num_parts}: {counts['part_shards']} of {counts['shards']} shards are read, "
        f"{counts['found_done']} of them before; when all parts are, run the same command without part"
    )
