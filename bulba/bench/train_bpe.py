"""Time and memory of tokenizer training, beside the public trainers on the same texts.

Every training has a process of its own: it loads its input, waits, and trains when told to. Wall and CPU time are of
the training alone. Memory is the peak of anonymous memory (RssAnon of Linux, read every 2 ms by this process) above
that of the loaded input. The public trainers are given a list of strings; ours reads the corpus file that preparation
writes, which is mapped and so not anonymous, and its time includes the writing of tokenizer.json.

All learn `vocab_size` entries, 256 bytes among them, from pieces cut by the same regex. The process of a public
trainer runs this file alone, so it may have another interpreter, without Bulba, to be in.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SAMPLE_SECONDS = 0.002

Trainer = tuple[Callable[[], None], Callable[[], list[bytes]]]
"""Trains, and returns the tokens it learnt."""


@dataclass(frozen=True)
class Training:
    """One training: times in seconds, peak anonymous memory above the input, and what was learnt."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    tokens: frozenset[bytes]


def measure_training(
    texts: Iterable[str],
    vocab_size: int = 32_000,
    rounds: int = 3,
    num_threads: int = 2,
    trainers: tuple[str, ...] = ("bulba", "rustbpe", "tokenizers"),
    peer_python: str | Path = sys.executable,
) -> dict[str, list[Training]]:
    """Train every trainer `rounds` times, in turns so that a busy machine disturbs all of them alike.

    Args:
        peer_python: an interpreter in which the public trainers are installed.

    Raises:
        BulbaError: a training failed, or this is not Linux.
    """
    from bulba.errors import BulbaError

    if not sys.platform.startswith("linux"):
        raise BulbaError("peak anonymous memory is measured on Linux only: run this benchmark there")
    figures: dict[str, list[Training]] = {name: [] for name in trainers}
    with tempfile.TemporaryDirectory() as folder:
        _write_input(list(texts), Path(folder))
        for _ in range(rounds):
            for name in trainers:
                python = sys.executable if name == "bulba" else str(peer_python)
                figures[name].append(_measure(python, name, folder, vocab_size, num_threads))
    return figures


def _write_input(texts: list[str], folder: Path) -> None:
    from bulba.data.tokenizer_sizes import store_texts

    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    store_texts(texts, folder)


def _measure(python: str, name: str, folder: str, vocab_size: int, num_threads: int) -> Training:
    from bulba.errors import BulbaError

    # -P: the folder of this file, which has a `tokenizers` of its own, is not searched for modules.
    command = [python, "-P", __file__, name, folder, str(vocab_size), str(num_threads)]
    # The public trainers take their number of threads from the environment.
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "RAYON_NUM_THREADS": str(num_threads), "PYTHONPATH": path}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        is_loaded = process.stdout.readline() == "loaded\n"
        with _PeakMemory(process.pid) as memory:
            if is_loaded:
                process.stdin.write("train\n")
                process.stdin.flush()
            trained = process.stdout.readline()
        tokens, faults = process.stdout.read(), process.stderr.read()
    if process.returncode != 0:
        last_line = (faults.strip().splitlines() or ["no output"])[-1]
        raise BulbaError(f"the training with {name} failed ({last_line}): install it for {python} or leave it out")
    wall_seconds, cpu_seconds = json.loads(trained)
    return Training(wall_seconds, cpu_seconds, memory.bytes, frozenset(map(bytes.fromhex, json.loads(tokens))))


class _PeakMemory:
    """The largest anonymous memory of a process while this is entered, above that at the beginning."""

    def __init__(self, process_id: int) -> None:
        self._status = Path(f"/proc/{process_id}/status")
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._before = self._anonymous_bytes()
        self.bytes = 0

    def __enter__(self) -> _PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._left.wait(SAMPLE_SECONDS):
            self.bytes = max(self.bytes, self._anonymous_bytes() - self._before)

    def _anonymous_bytes(self) -> int:
        try:
            lines = self._status.read_text(encoding="utf-8").splitlines()
        except OSError:
            return 0
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


def _run_trainer(name: str, folder: Path, vocab_size: int, num_threads: int) -> None:
    """What the process of a trainer does; it writes to standard output when it is ready, done, and its tokens."""
    load: dict[str, Callable[[], Trainer]] = {
        "bulba": lambda: _load_bulba(folder, vocab_size, num_threads),
        "rustbpe": lambda: _load_rustbpe(folder, vocab_size),
        "tokenizers": lambda: _load_tokenizers(folder, vocab_size),
    }
    train, tokens = load[name]()
    print("loaded", flush=True)
    sys.stdin.readline()
    wall, cpu = time.perf_counter(), time.process_time()
    train()
    print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]), flush=True)
    print(json.dumps([token.hex() for token in tokens()]))


def _load_texts(folder: Path) -> list[str]:
    texts: list[str] = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    return texts


def _load_bulba(folder: Path, vocab_size: int, num_threads: int) -> Trainer:
    from bulba.data.prepare import TokenizerSpec
    from bulba.data.tokenizer import Tokenizer
    from bulba.data.tokenizer_sizes import learn, open_texts

    corpus = open_texts(folder)

    def train() -> None:
        spec = TokenizerSpec(vocab_size, "<s>", "</s>", "<pad>", max_text_bytes=1 << 62, max_memory_mb=1 << 20)
        learn(corpus, folder, spec, folder / "tokenizer.json", num_threads)

    def tokens() -> list[bytes]:
        tokenizer = Tokenizer.load(folder / "tokenizer.json", "<s>", "</s>")
        return [tokenizer.token_bytes(token_id) for token_id in range(vocab_size)]

    return train, tokens


def _load_rustbpe(folder: Path, vocab_size: int) -> Trainer:
    import rustbpe

    texts = _load_texts(folder)
    tokenizer = rustbpe.Tokenizer()
    return (
        lambda: tokenizer.train_from_iterator(iter(texts), vocab_size, pattern=REGEX),
        lambda: [bytes(token) for token, _ in tokenizer.get_mergeable_ranks()],
    )


def _load_tokenizers(folder: Path, vocab_size: int) -> Trainer:
    import tokenizers
    from tokenizers import pre_tokenizers

    texts = _load_texts(folder)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    cut = pre_tokenizers.Split(tokenizers.Regex(REGEX), "isolated")
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, spell])
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return (
        lambda: tokenizer.train_from_iterator(texts, trainer),
        lambda: _unspell(tokenizer.get_vocab(), pre_tokenizers.ByteLevel.alphabet()),
    )


def _unspell(tokens: Iterable[str], alphabet: list[str]) -> list[bytes]:
    """The bytes of tokens in the byte alphabet: Latin-1 characters are themselves, the others follow in order."""
    themselves = {ord(character) for character in alphabet if ord(character) < 256}
    others = sorted(character for character in alphabet if ord(character) >= 256)
    byte_of = dict(zip(others, sorted(set(range(256)) - themselves), strict=True))
    return [bytes(byte_of.get(character, ord(character) % 256) for character in token) for token in tokens]


if __name__ == "__main__":
    _run_trainer(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
