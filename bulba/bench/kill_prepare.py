"""Proof that a preparation may be killed at any moment: after a restart its files are the same to the byte.

Each kill is a real process, killed with -9 after a random share of the time that a whole preparation takes.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bulba.errors import DataError
from bulba.files import sha256_file

PROGRAM = """
import sys
from bulba.data import shards
from bulba.data.prepare import Source, TokenizerSpec, prepare
shards.SHARD_BYTES = int(sys.argv[3])
print("begun", flush=True)
prepare([Source(path) for path in sys.argv[4:]], TokenizerSpec(vocab_size=int(sys.argv[2])), sys.argv[1])
"""


@dataclass(frozen=True)
class Kill:
    """One kill: how far into the work it struck, and how many shards were found finished after it."""

    after_s: float
    finished_shards: int


def kill_prepare(
    texts: Sequence[str | Path], kills: int = 20, vocab_size: int = 4096, shard_bytes: int = 1 << 20, seed: int = 0
) -> list[Kill]:
    """Prepares `texts` once whole, then once for each kill in a fresh cache: killed, restarted, compared.

    Raises:
        DataError: a restarted preparation fails, or one of its files differs.
    """
    generator = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        with _started(Path(folder) / "whole", texts, vocab_size, shard_bytes) as process:
            begun = time.perf_counter()
            _finish(process)
            duration = time.perf_counter() - begun
        expected = _contents(Path(folder) / "whole")
        made = []
        for number in range(kills):
            cache = Path(folder) / f"cache-{number}"
            # One point in each of `kills` equal parts of the time, so that they cover every stage.
            after = duration * (number + generator.random()) / kills
            with _started(cache, texts, vocab_size, shard_bytes) as process:
                time.sleep(after)
                process.kill()
                process.wait()
            made.append(Kill(after, sum(1 for _ in cache.glob("shards/[!.]*"))))
            with _started(cache, texts, vocab_size, shard_bytes) as process:
                _finish(process)
            if _contents(cache) != expected:
                raise DataError(f"after a kill at {after:.3f} s the preparation is not the one that was never killed")
    return made


@contextmanager
def _started(
    cache: Path, texts: Sequence[str | Path], vocab_size: int, shard_bytes: int
) -> Iterator[subprocess.Popen[str]]:
    """A process that has imported everything and begins to prepare."""
    words = [str(cache), str(vocab_size), str(shard_bytes), *map(str, texts)]
    with subprocess.Popen([sys.executable, "-c", PROGRAM, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


def _finish(process: subprocess.Popen[str]) -> None:
    if process.wait() != 0:
        raise DataError("a preparation that was started again failed; its message is above")


def _contents(cache: Path) -> dict[str, str]:
    """Every file of the one finished entry, hashed; nothing unfinished may lie beside it."""
    (entry,) = [path.parent for path in cache.glob("*/prepare.json")]
    left = [path.name for path in (*cache.glob("shards/*"), *cache.glob("work/*"), *cache.glob(".tmp-*"))]
    if left:
        raise DataError(f"{cache} still holds work files of a finished preparation: {', '.join(left)}")
    return {path.name: sha256_file(path) for path in sorted(entry.iterdir())}
