"""The direct GGUF writer beside llama.cpp's own converter: `python -m bulba bench converter`.

Presets with random weights and a made tokenizer are written by both, in turns, each time in a process of its own.
`process` is the time from start to end with all imports, `work` the time behind them; both end when the file is on the
disk, and both find their weights in memory. `added to an export` is what a user of export.py waits for: that of the
converter is its process, for it is a program of its own, that of the direct writer its work. The Hugging Face folder
that the converter reads is made beforehand and not counted. Peak memory is the highest RSS above that behind the
imports.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bulba.bench.page import write_section
from bulba.checkpoint import save_checkpoint
from bulba.config.build import build
from bulba.config.overrides import check
from bulba.data.tokenizer import byte_alphabet
from bulba.errors import BulbaError, ConfigError
from bulba.export.converter import CONVERTER_TYPES, Converter, child_environment, find_converter
from bulba.export.gguf import UNPROVED
from bulba.export.hf import export_hf
from bulba.export.types import GgufType
from bulba.export.vocab import LLAMA3_PATTERN
from bulba.export.witness import compare

SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>", "<|pad|>")
HEAD = ("model", "type", "tensors equal", "what", "converter", "direct", "direct is")


@dataclass(frozen=True)
class Turn:
    """One run of a program. process_s: with imports. work_s, peak_bytes: without."""

    process_s: float
    work_s: float
    peak_bytes: float


def bench_converter(
    llama_cpp: str = "sdist",
    models: list[str] | None = None,
    types: list[str] | None = None,
    vocab_size: int = 32_003,
    rounds: int = 3,
    words: list[str] | None = None,
    out: str | None = "docs/benchmarks.md",
) -> None:
    """Measure, print, and write the table to `out`.

    llama_cpp: as export.llama_cpp. words: more settings of train.py, such as `model.num_layers=2`. vocab_size: tokens,
    with the special ones.
    """
    models, types, words = models or ["aist", "zubr"], types or ["f16", "q8_0"], words or []
    unknown = [type for type in types if type not in CONVERTER_TYPES]
    if unknown:
        raise ConfigError(f"types: the converter does not write {unknown[0]}; choose from {list(CONVERTER_TYPES)}.")
    most = 256 + 256**2 + len(SPECIAL)
    if rounds < 1 or not 256 + len(SPECIAL) < vocab_size <= most:
        raise ConfigError(f"rounds={rounds} must be at least 1, and vocab_size={vocab_size} between 260 and {most}.")
    converter = find_converter(llama_cpp)
    lines = [list(HEAD)]
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            place = Path(folder) / model
            make_model(place, [f"model={model}", *words], vocab_size)
            for type in types:
                lines += measure(place, converter, model, type, rounds)  # type: ignore[arg-type]
            shutil.rmtree(place)
    table = Table(*HEAD, title=f"direct writer and the converter of {converter.version}", title_justify="left")
    for line in lines[1:]:
        table.add_row(*line)
    Console().print(table)
    if out is not None:
        command = (
            f"python -m bulba bench converter models=[{','.join(models)}] types=[{','.join(types)}] rounds={rounds}"
        )
        command += f" words=[{','.join(words)}]" if words else ""
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "gguf"))
        measured = f"{converter.version}, {vocab_size} tokens, {rounds} rounds; {versions}"
        write_section(Path(out), "GGUF beside the converter of llama.cpp", command, lines, measured)
        print(f"written: {out}")


def make_model(place: Path, words: list[str], vocab_size: int) -> None:
    """A checkpoint with fresh weights, its tokenizer, and the Hugging Face folder that the converter reads."""
    make_tokenizer(place / "tokenizer", vocab_size)
    torch.manual_seed(0)
    model = build(check(words).model, path="model", vocab_size=vocab_size)
    save_checkpoint(place / "checkpoint", model.get_model_config(), model.state_dict(), {})
    tokenizer = place / "tokenizer" / "tokenizer.json"
    export_hf(place / "checkpoint", tokenizer, place / "model", "float32", verify=False)


def make_tokenizer(folder: Path, vocab_size: int) -> None:
    """A byte-level BPE of the Llama 3 kind whose merges are pairs of bytes: of any size, without a text."""
    spelling = list(byte_alphabet())
    pairs = [(first, second) for first in spelling for second in spelling][: vocab_size - 256 - len(SPECIAL)]
    tokens = [*spelling, *(first + second for first, second in pairs)]
    split = {"type": "Split", "pattern": {"Regex": LLAMA3_PATTERN}, "behavior": "Isolated", "invert": False}
    spell = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    definition: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [{"id": len(tokens) + at, "content": text} | flags for at, text in enumerate(SPECIAL)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, spell]},
        "post_processor": None,
        "decoder": spell,
        "model": {
            "type": "BPE",
            "ignore_merges": True,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [list(pair) for pair in pairs],
        },
    }
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(json.dumps(definition), encoding="utf-8")
    names = dict(zip(("bos_token", "eos_token", "pad_token"), SPECIAL, strict=True))
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")


def measure(place: Path, converter: Converter, model: str, type: GgufType, rounds: int) -> list[list[str]]:
    """Both programs in turns; the lines of the table for a model and a type."""
    ours, theirs = place / f"ours-{type}{UNPROVED}.gguf", place / "theirs.gguf"
    direct = ["direct", place / "checkpoint", place / "tokenizer" / "tokenizer.json", place / "ours", type]
    official = ["converter", converter.script, place / "model-hf", theirs, type]
    turns: list[tuple[Turn, Turn]] = []
    for number in range(rounds):
        print(f"{model}, {type}: round {number + 1} of {rounds}", flush=True)
        turns.append(
            (
                run_program(official, place / "model-hf" / "model.safetensors", theirs),
                run_program(direct, place / "checkpoint" / "model.safetensors", ours),
            )
        )
    witness = compare(ours, theirs)
    equal = str(witness.num_equal_tensors) if witness.fault is None else f"no: {witness.fault}"
    return [[model, type, equal, *line] for line in lines_of(turns)]


def run_program(words: Sequence[object], weights: Path, written: Path) -> Turn:
    """Start a program of converter_programs.py and wait for it.

    weights: what it reads; they are in memory before the clock starts. written: what it writes; not there before.
    """
    written.unlink(missing_ok=True)
    with weights.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass
    command = [sys.executable, "-m", "bulba.bench.converter_programs", *map(str, words)]
    begun = time.perf_counter()
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, errors="replace")
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise BulbaError(f"bench converter: {words[0]} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Turn(seconds, found["seconds"], found["peak_bytes"])


def lines_of(turns: Sequence[tuple[Turn, Turn]]) -> list[list[str]]:
    """Times and peak of the converter and of ours: medians; a ratio is taken between turns of one round."""
    figures = {
        "process": [(theirs.process_s, ours.process_s) for theirs, ours in turns],
        "work": [(theirs.work_s, ours.work_s) for theirs, ours in turns],
        "added to an export": [(theirs.process_s, ours.work_s) for theirs, ours in turns],
        "peak memory": [(theirs.peak_bytes / 2**20, ours.peak_bytes / 2**20) for theirs, ours in turns],
    }
    lines = []
    for what, pairs in figures.items():
        is_memory = what == "peak memory"
        medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
        shown = [f"{figure:,.0f} MiB" if is_memory else f"{figure:,.2f} s" for figure in medians]
        ratios = [theirs / ours for theirs, ours in pairs]
        ratio = f"{statistics.median(ratios):.1f}x ({min(ratios):.1f} to {max(ratios):.1f})"
        lines.append([what, *shown, f"{ratio} {'smaller' if is_memory else 'as fast'}"])
    return lines
