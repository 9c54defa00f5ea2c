"""How fast text becomes ids, beside other tokenizers with the same merges, in one run on the same cores.

tiktoken, tokenizers and rustbpe are used where they are installed. All get the same list of str and the same number of
threads; each gives lists of ids but tokenizers, whose objects hold them without making Python numbers. rustbpe cannot
be given merges: it learns as many from the same texts, by the same regex.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bulba import _rust
from bulba.data.tokenizer import byte_alphabet

Encode = Callable[[list[str]], Sequence[Any]]
"""Texts to the ids of each: lists of int, or objects with `ids`; for "bulba, counts" the numbers of ids."""


@dataclass(frozen=True)
class EncodingSpeed:
    """One program. Megabytes (10^6) of UTF-8 per second of wall time, the median of the rounds, and per second of CPU
    time of all threads; the number of ids; the share of texts whose ids are those of Bulba (None for counts).
    """

    name: str
    version: str
    wall_mb_per_s: float
    cpu_mb_per_s: float
    num_tokens: int
    same_frac: float | None


@dataclass(frozen=True)
class EncodingComparison:
    """`speeds` of the programs that could run; `absent`: name of the others and why."""

    text_bytes: int
    num_texts: int
    num_threads: int
    rounds: int
    speeds: list[EncodingSpeed]
    absent: dict[str, str]


def measure_encoding(
    texts: list[str], tokenizer_json: str | Path, rounds: int = 5, threads: int = 2
) -> EncodingComparison:
    """Time every program in turn, `rounds` times over, after one round that is not counted.

    tokenizers and rustbpe take their threads from RAYON_NUM_THREADS, which is set here: in a process that has used one
    of them already, their number of threads stays what it was.
    """
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    programs, absent = open_programs(texts, Path(tokenizer_json), threads)
    ours = programs["bulba"](texts)
    tokens = {name: compare(encode(texts), ours) for name, encode in programs.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, encode in programs.items():
            times[name].append(timed(encode, texts))
    text_bytes = sum(len(text.encode()) for text in texts)
    speeds = [
        EncodingSpeed(
            name,
            importlib.metadata.version(name.split(",")[0]),
            text_bytes / 1e6 / statistics.median(wall for wall, _ in times[name]),
            text_bytes / 1e6 / statistics.median(cpu for _, cpu in times[name]),
            *tokens[name],
        )
        for name in programs
    ]
    return EncodingComparison(text_bytes, len(texts), threads, rounds, speeds, absent)


def open_programs(texts: list[str], tokenizer_json: Path, threads: int) -> tuple[dict[str, Encode], dict[str, str]]:
    """Programs by name, and those that cannot be imported with the reason."""
    encoder = _rust.Encoder(tokenizer_json)
    programs: dict[str, Encode] = {
        "bulba": lambda texts: encoder.encode_batch(texts, threads),
        "bulba, counts": lambda texts: encoder.count_tokens(texts, threads),
    }
    absent = {}
    for name, open_peer in PEERS.items():
        try:
            programs[name] = open_peer(importlib.import_module(name), texts, tokenizer_json, threads)
        except ImportError as error:
            absent[name] = str(error)
    return programs, absent


def open_tokenizers(tokenizers: Any, texts: list[str], tokenizer_json: Path, threads: int) -> Encode:
    tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_json))
    tokenizer.encode_special_tokens = True
    return lambda texts: tokenizer.encode_batch_fast(texts, add_special_tokens=False)


def open_tiktoken(tiktoken: Any, texts: list[str], tokenizer_json: Path, threads: int) -> Encode:
    regex, tokens = read_model(tokenizer_json)
    encoding = tiktoken.Encoding("compared", pat_str=regex, mergeable_ranks=tokens, special_tokens={})
    return lambda texts: encoding.encode_ordinary_batch(texts, num_threads=threads)


def open_rustbpe(rustbpe: Any, texts: list[str], tokenizer_json: Path, threads: int) -> Encode:
    regex, tokens = read_model(tokenizer_json)
    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(iter(texts), len(tokens), pattern=regex)
    return lambda texts: tokenizer.batch_encode(texts)


PEERS = {"tokenizers": open_tokenizers, "tiktoken": open_tiktoken, "rustbpe": open_rustbpe}


def read_model(tokenizer_json: Path) -> tuple[str, dict[bytes, int]]:
    """The regex that cuts pieces, and the id of each token: in files of Bulba, ids are in the order of the merges."""
    definition = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    alphabet = byte_alphabet()
    vocabulary = definition["model"]["vocab"].items()
    tokens = {bytes(alphabet[character] for character in token): token_id for token, token_id in vocabulary}
    return definition["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"], tokens


def compare(encoded: Sequence[Any], ours: Sequence[list[int]]) -> tuple[int, float | None]:
    """The number of ids, and the share of texts whose ids equal ours."""
    if encoded and isinstance(encoded[0], int):
        return sum(encoded), None
    ids = [text if isinstance(text, list) else text.ids for text in encoded]
    same = sum(one == other for one, other in zip(ids, ours, strict=True))
    return sum(map(len, ids)), same / max(1, len(ids))


def timed(encode: Encode, texts: list[str]) -> tuple[float, float]:
    """Seconds of wall time and of CPU time of all threads; what the ids take to be thrown away is left out."""
    gc.collect()
    gc.disable()
    wall, cpu = time.perf_counter(), time.process_time()
    encoded = encode(texts)
    elapsed = time.perf_counter() - wall, time.process_time() - cpu
    gc.enable()
    del encoded
    return elapsed
