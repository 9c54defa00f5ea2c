"""The data engine beside the programs that people use today, on the same texts, cores and run.

Every measurement takes turns between the programs and prints ratios, because a machine is never quite quiet. Programs
that are not installed are named and left out (`uv pip install 'bulba[peers]'`).
"""

from __future__ import annotations

import random
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bulba import _rust
from bulba.bench.dedup import measure_dedup
from bulba.bench.encode import measure_encoding
from bulba.bench.kill_prepare import kill_prepare
from bulba.bench.page import write_section
from bulba.bench.prepare import measure_prepare
from bulba.bench.sampler import measure_large_file, measure_padding, measure_sampler
from bulba.bench.tokenizers.vocabularies import open_vocabulary
from bulba.bench.train_bpe import measure_training
from bulba.data.documents import documents
from bulba.data.prepare import Source, TokenizerSpec, prepare
from bulba.data.tales import write_tales
from bulba.errors import ConfigError

HOLD_OUT_EVERY = 20
TALES_BYTES = 20_000_000


@dataclass(frozen=True)
class Row:
    """One measured figure beside what it is held against."""

    what: str
    figure: str
    beside: str


@dataclass(frozen=True)
class Texts:
    """Where the texts lie, and the same as (text, language) in memory."""

    paths: list[str]
    documents: list[tuple[str, str]]

    @property
    def texts(self) -> list[str]:
        return [text for text, _ in self.documents]

    @property
    def num_bytes(self) -> int:
        return sum(len(text.encode()) for text in self.texts)


def bench_data(
    text: str | list[str] | None = None,
    parts: list[str] | None = None,
    vocabularies: list[str] | None = None,
    rounds: int = 5,
    strings: int = 1_000_000,
    kills: int = 20,
    vocab_size: int = 32_000,
    code: bool = True,
    out: str | None = "docs/benchmarks.md",
) -> None:
    """Measure, print, and write the table to `out`.

    text: files or folders; None makes tales. code: the standard library of this Python is part of the texts.
    parts: which of `PARTS`; None is all. vocabularies: GGUF or tokenizer.json files to compare compression with.
    strings: random strings whose ids are compared with those of `tokenizers`.
    """
    unknown = set(parts or ()) - PARTS.keys()
    if unknown:
        raise ConfigError(f"parts={sorted(unknown)} are not known: choose from {', '.join(PARTS)}.")
    with tempfile.TemporaryDirectory() as folder, _texts(text, code, Path(folder)) as texts:
        bench = Bench(texts, Path(folder), vocabularies or [], rounds, strings, kills, vocab_size)
        rows: list[Row] = []
        for name in parts or PARTS:
            print(f"measuring: {name}", flush=True)
            rows += PARTS[name](bench)
    Console().print(_table(rows))
    if out is not None:
        measured = f"{texts.num_bytes / 1e6:.1f} MB of text in {len(texts.documents)} documents, {rounds} rounds"
        lines = [["what", "measured", "beside"], *([row.what, row.figure, row.beside] for row in rows)]
        write_section(Path(out), "Data engine", "python -m bulba bench data", lines, measured)
        print(f"written: {out}")


@contextmanager
def _texts(text: str | list[str] | None, code: bool, folder: Path) -> Iterator[Texts]:
    if text is None:
        write_tales(folder / "tales", TALES_BYTES, seed=1)
        paths = [str(folder / "tales")]
    else:
        paths = [text] if isinstance(text, str) else list(text)
    if code:
        # Neither its tests nor the packages installed beside it: those lie in folders with s and t.
        library = sysconfig.get_path("stdlib")
        paths += [f"{library}/*.py", f"{library}/[!st]*/*.py"]
    yield Texts(paths, documents(paths))


@dataclass(frozen=True)
class Bench:
    """What every part of the measurement needs."""

    texts: Texts
    folder: Path
    vocabularies: list[str]
    rounds: int
    strings: int
    kills: int
    vocab_size: int

    def tokenizer(self, balance: str | dict[str, float] = "natural") -> Path:
        """The folder of a tokenizer learnt on the texts but for the documents held out."""
        name = balance if isinstance(balance, str) else "-".join(f"{key}{value}" for key, value in balance.items())
        folder = self.folder / f"tokenizer-{name}"
        if not folder.is_dir():
            kept = [text for place, (text, _) in enumerate(self.texts.documents) if place % HOLD_OUT_EVERY]
            learn_folder(kept, TokenizerSpec(vocab_size=self.vocab_size, balance=balance), folder)
        return folder

    def train_file(self) -> Path:
        """train.bin of the texts."""
        sources = [Source(path) for path in self.texts.paths]
        return prepare(sources, TokenizerSpec(path=self.tokenizer()), self.folder / "cache").train_path


def learn_folder(texts: Sequence[str], spec: TokenizerSpec, folder: Path) -> None:
    """A tokenizer in a folder of its own, as a run stores it."""
    from bulba.data.tokenizer import TOKENIZER_FILE, Tokenizer
    from bulba.data.tokenizer_sizes import learn, open_texts, store_texts

    folder.mkdir()
    store_texts(texts, folder)
    learn(open_texts(folder), folder, spec, folder / TOKENIZER_FILE)
    names = (spec.bos_token, spec.eos_token, spec.pad_token)
    Tokenizer.load(folder / TOKENIZER_FILE, *names).save_pretrained(folder)


def encoding(bench: Bench) -> Iterator[Row]:
    """Text to ids with the same merges and threads."""
    found = measure_encoding(bench.texts.texts, bench.tokenizer() / "tokenizer.json", bench.rounds, threads=2)
    ours = next(speed for speed in found.speeds if speed.name == "bulba")
    for speed in found.speeds:
        same = "" if speed.same_frac is None else f", ids equal for {speed.same_frac:.2%} of the documents"
        yield Row(
            f"encode, 2 threads, {speed.name} {speed.version}",
            f"{speed.wall_mb_per_s:.1f} MB/s{same}",
            f"Bulba is {ours.wall_mb_per_s / speed.wall_mb_per_s:.2f}x",
        )
    for name, reason in found.absent.items():
        yield Row(f"encode, {name}", "not installed", reason)


def training(bench: Bench) -> Iterator[Row]:
    """Learning the merges."""
    found = measure_training(bench.texts.texts, bench.vocab_size, min(bench.rounds, 3), trainers=_installed())
    seconds = {name: statistics.median(one.wall_seconds for one in runs) for name, runs in found.items()}
    memory = {name: statistics.median(one.peak_bytes for one in runs) for name, runs in found.items()}
    for name in found:
        yield Row(
            f"BPE training, {bench.vocab_size} entries, {name}",
            f"{seconds[name]:.2f} s, {memory[name] / 1e6:.0f} MB above the input",
            f"Bulba is {seconds[name] / seconds['bulba']:.2f}x as fast, with {memory['bulba'] / memory[name]:.2f}x",
        )


def _installed() -> tuple[str, ...]:
    import importlib.util

    return tuple(name for name in ("bulba", "rustbpe", "tokenizers") if importlib.util.find_spec(name))


def parity(bench: Bench) -> Iterator[Row]:
    """Ids equal to those of the `tokenizers` library."""
    from tokenizers import Tokenizer

    path = bench.tokenizer() / "tokenizer.json"
    ours, theirs = _rust.Encoder(path), Tokenizer.from_file(str(path))
    theirs.encode_special_tokens = True
    for what, texts in (
        ("documents", iter([bench.texts.texts])),
        ("random strings", random_strings(bench.strings, seed=0)),
    ):
        same = count = 0
        for batch in texts:
            expected = theirs.encode_batch_fast(batch, add_special_tokens=False)
            for ids, encoding in zip(ours.encode_batch(batch), expected, strict=True):
                same, count = same + (ids == encoding.ids), count + 1
        yield Row(f"ids equal to tokenizers, {what}", f"{same} of {count}", f"{same / max(count, 1):.4%}")


RANDOM_PARTS = [
    *"абвгдеёжзійклмнопрстуўфхцчшыьэюяґєїщъАБВГДЕЁЖЗІЙЎҐЄЇ",
    *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    *" \t\n\r\u00a0\u2009\u200b\u200d\u3000\u0085.,:;!?'\"’ʼ()[]{}<>/\\|-_=+*&^%$#@~`«»—№",
    *("  ", "\n\n", "\r\n", "'s", "'LL", "’ў", "и\u0306", "у\u0306", "е\u0308", "\u0301", "\u0306", "👩‍🚀", "🥔", "🇺🇦"),
    *(
        "١٢٣",
        "½",
        "ⅷ",
        "漢字",
        "한국어",
        "नमस्ते",
        "ſ",
        "ﬁ",
        "\u1e9b\u0323",
        "<|end_of_text|>",
        "            ",
        "0000000000",
    ),
]


def random_strings(count: int, seed: int) -> Iterator[list[str]]:
    """Strings of hostile parts and of any code points, in batches."""
    generator = random.Random(seed)
    while count > 0:
        batch = []
        for _ in range(min(count, 10_000)):
            if generator.random() < 0.2:
                points = (generator.randrange(0x110000) for _ in range(generator.randrange(12)))
                batch.append("".join(chr(point) for point in points if not 0xD800 <= point < 0xE000))
            else:
                batch.append("".join(generator.choices(RANDOM_PARTS, k=generator.randrange(24))))
        count -= len(batch)
        yield batch


BALANCES: list[str | dict[str, float]] = [
    "natural",
    "parity",
    # Found by search on one hold-out and confirmed on two others: what a vocabulary is worth depends on the text.
    {"be": 4, "ru": 47, "uk": 23, "en": 11, "code": 15},
]


def compression(bench: Bench) -> Iterator[Row]:
    """Characters per token on the documents held out, by language, beside the vocabularies given."""
    held_out: dict[str, list[str]] = {}
    for place, (text, language) in enumerate(bench.texts.documents):
        if place % HOLD_OUT_EVERY == 0 and language != "other":
            held_out.setdefault(language, []).append(text)
    others = {Path(path).stem: _characters_per_token(Path(path), held_out) for path in bench.vocabularies}
    for name, found in others.items():
        yield Row(f"characters per token, {name}", _by_language(found), "1x")
    for balance in BALANCES:
        ours = _characters_per_token(bench.tokenizer(balance) / "tokenizer.json", held_out)
        ratios = (
            f"{name}: " + _by_language({language: ours[language] / found[language] for language in ours}, "x")
            for name, found in others.items()
        )
        what = f"characters per token of documents held out, Bulba, {bench.vocab_size} entries, balance {balance}"
        yield Row(what, _by_language(ours), "; ".join(ratios))


def _characters_per_token(path: Path, texts: dict[str, list[str]]) -> dict[str, float]:
    with open_vocabulary(path) as vocabulary:
        tokens = {language: sum(map(len, vocabulary.encode(held))) for language, held in sorted(texts.items())}
    return {language: sum(map(len, texts[language])) / count for language, count in tokens.items()}


def _by_language(figures: dict[str, float], unit: str = "") -> str:
    return ", ".join(f"{language} {figure:.3f}{unit}" for language, figure in figures.items())


def preparation(bench: Bench) -> Iterator[Row]:
    """Reading, cleaning, deduplication, encoding and writing, beside a script that encodes and writes."""
    speed = measure_prepare(bench.texts.paths, bench.tokenizer(), bench.texts.num_bytes, bench.rounds)
    yield Row("prepare, end to end", f"{speed.ours_mb_per_s:.1f} MB/s", f"{speed.ratio:.2f}x tokenizers + numpy")
    yield Row("tokenizers + numpy, encode and write alone", f"{speed.plain_mb_per_s:.1f} MB/s", "1x")


def duplicates(bench: Bench) -> Iterator[Row]:
    """Planted near copies."""
    for found in measure_dedup(pairs=100):
        recall, precision = ("-" if share is None else f"{share:.1%}" for share in (found.recall, found.precision))
        yield Row(
            f"{found.pairs} near copies planted at Jaccard {found.target}",
            f"candidates {found.candidates:.1%}, recall {recall}",
            f"precision {precision}",
        )


def killing(bench: Bench) -> Iterator[Row]:
    """kill -9 while a preparation runs, and a restart."""
    begun = time.perf_counter()
    made = kill_prepare(bench.texts.paths, bench.kills, vocab_size=8192, shard_bytes=4 << 20)
    kept = sum(1 for kill in made if kill.finished_shards)
    yield Row(
        "kill -9 while preparing",
        f"{len(made)} kills, every restart byte-identical",
        f"{kept} found finished shards; {time.perf_counter() - begun:.0f} s in all",
    )


def sampling(bench: Bench) -> Iterator[Row]:
    """Batches of 32 x 1024 beside other loaders of the same tokens."""
    found = measure_sampler(str(bench.train_file()), repeats=bench.rounds)
    speeds = found["tokens_per_s"]
    best = max(speed for name, speed in speeds.items() if not name.startswith("bulba"))
    for name, speed in sorted(speeds.items(), key=lambda item: -item[1]):
        share = found["memcpy_share"][name]
        yield Row(
            f"batches of 32 x 1024, {name}",
            f"{speed / 1e6:.1f} M tokens/s",
            f"{speed / best:.2f}x the best other loader; {share:.2f} of memcpy",
        )
    for name, reason in found["absent"].items():
        yield Row(f"batches of 32 x 1024, {name}", "not measured", reason)


def padding(bench: Bench) -> Iterator[Row]:
    """Share of padding by mode and length of a row."""
    for seq_len, shares in measure_padding(str(bench.train_file())).items():
        yield Row(
            f"padding, rows of {seq_len}",
            f"packed {shares['packed']:.2%}, bucketed {shares['bucketed']:.2%}",
            f"random batches of the same pieces {shares['random']:.2%}",
        )


def large_files(bench: Bench) -> Iterator[Row]:
    """A token file larger than memory."""
    for mode, figures in measure_large_file(60, 100_000).items():
        yield Row(
            f"a sparse train.bin of 60 GB, {mode}",
            f"first batch {figures['first_batch_ms']:.1f} ms",
            f"anonymous memory grew by {figures['anonymous_growth_bytes'] / 1e6:.2f} MB over 100,000 batches",
        )


PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "encode": encoding,
    "train": training,
    "parity": parity,
    "compression": compression,
    "prepare": preparation,
    "sampler": sampling,
    "padding": padding,
    "large": large_files,
    "dedup": duplicates,
    "kill": killing,
}


def _table(rows: list[Row]) -> Table:
    table = Table(title="the data engine", title_justify="left")
    for name in ("what", "measured", "beside"):
        table.add_column(name)
    for row in rows:
        table.add_row(row.what, row.figure, row.beside)
    return table
