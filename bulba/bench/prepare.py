"""Speed of a whole preparation beside a plain script that only encodes and writes.

Bulba's side reads the files, cleans, tags, removes duplicates, encodes and writes; the tokenizer is given. The plain
side gets the documents in memory already, encodes them with the `tokenizers` library on all cores and writes them
with numpy. Both are processes of their own, taking turns; only the work is timed, not the imports.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

OURS = """
import sys, time
import pyarrow.parquet, tokenizers
from bulba.data.prepare import Source, TokenizerSpec, prepare
cache, tokenizer, *paths = sys.argv[1:]
begun = time.perf_counter()
prepare([Source(path) for path in paths], TokenizerSpec(path=tokenizer), cache)
print(time.perf_counter() - begun)
"""

PLAIN = """
import sys, time
import numpy as np
from tokenizers import Tokenizer
from bulba.data.documents import documents
out, tokenizer, *paths = sys.argv[1:]
texts = [text for text, _ in documents(paths)]
encoder = Tokenizer.from_file(tokenizer + "/tokenizer.json")
begun = time.perf_counter()
with open(out, "wb") as file:
    for start in range(0, len(texts), 256):
        for encoding in encoder.encode_batch_fast(texts[start : start + 256]):
            file.write(np.array(encoding.ids, dtype=np.uint16).tobytes())
print(time.perf_counter() - begun)
"""


@dataclass(frozen=True)
class PrepareSpeed:
    """Medians over the rounds, in megabytes of text a second."""

    ours_mb_per_s: float
    plain_mb_per_s: float

    @property
    def ratio(self) -> float:
        return self.ours_mb_per_s / self.plain_mb_per_s


def measure_prepare(
    paths: Sequence[str | Path], tokenizer_folder: Path, text_bytes: int, rounds: int = 5
) -> PrepareSpeed:
    """Interleaved rounds over the files of `paths`, which hold `text_bytes` of text."""
    words = [str(tokenizer_folder), *map(str, paths)]
    ours, plain = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            ours.append(_seconds(OURS, [f"{folder}/cache", *words]))
            plain.append(_seconds(PLAIN, [f"{folder}/plain.bin", *words]))
    speed = [text_bytes / 1e6 / statistics.median(seconds) for seconds in (ours, plain)]
    return PrepareSpeed(*speed)


def _seconds(program: str, words: list[str]) -> float:
    done = subprocess.run([sys.executable, "-c", program, *words], check=True, capture_output=True, text=True)
    return float(done.stdout)
