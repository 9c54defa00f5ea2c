"""Preparation: from sources of text to a tokenizer and two token files, cached by content.

The cache entry is a folder named by a hash of everything that decides its bytes: each input file's name and
content, the tokenizer, the split, and the version of the format. It holds tokenizer.json with its config,
train.bin, val.bin and prepare.json, the report of what was read and what was left out. A run works in a
temporary folder beside it and renames it into place, so an entry is whole or absent; of two runs at once,
the first to finish is kept.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from bulba import _rust
from bulba.data.fingerprint import FileHashes
from bulba.data.readers import Found, find_files, get_reader
from bulba.data.readers.base import FileReport, OnBad
from bulba.data.tokenizer import TOKENIZER_FILE, Tokenizer
from bulba.data.tokens import TokenFile
from bulba.errors import DataError
from bulba.files import disk_errors, write_text

FORMAT_VERSION = 1
"""Raised whenever the same inputs would give other bytes; every older cache entry is then left alone."""

REPORT_FILE = "prepare.json"

Progress = Callable[[str, int, int], object]
"""Called with (stage, done_bytes, total_bytes); the stages are "hash", "read", "tokenizer" and "encode"."""


@dataclass(frozen=True)
class Source:
    """A file or a folder of text.

    `weight`: how often each training document appears in one pass (2.5: twice, and every second one again).
    """

    path: str | Path
    weight: float = 1.0


@dataclass(frozen=True)
class TokenizerSpec:
    """How to get the tokenizer: train one, or with `path` take a byte-level tokenizer.json or its folder.

    `vocab_size` counts the 256 bytes and the merges; the special tokens follow it, so 32000 gives 32003 rows.
    """

    vocab_size: int = 32_000
    bos_token: str = "<|begin_of_text|>"
    eos_token: str = "<|end_of_text|>"
    pad_token: str = "<|pad|>"
    min_frequency: int = 2
    max_text_bytes: int = 1 << 30
    path: str | Path | None = None


@dataclass(frozen=True)
class PreparedData:
    """A finished cache entry."""

    folder: Path
    tokenizer_path: Path
    train_path: Path
    val_path: Path
    report: dict[str, Any] = field(repr=False)
    data_fingerprint: str
    tokenizer_fingerprint: str


def prepare(
    sources: Sequence[Source],
    tokenizer: TokenizerSpec,
    cache_dir: str | Path,
    val_frac: float = 0.01,
    seed: int = 0,
    on_bad: OnBad = "skip",
    progress: Progress | None = None,
) -> PreparedData:
    """Reads, tokenizes and writes the sources, or finds that done already.

    Args:
        val_frac: share of documents held out, above 0 and below 1; equal texts always land on one side.
        seed: decides the split and the order of documents.
        on_bad: "skip" leaves broken documents out and reports them, "fail" ends at the first.

    Raises:
        DataError: a source cannot be read, the text does not suffice, or the disk is full.
    """
    cache = Path(cache_dir)
    report = progress or (lambda stage, done, total: None)
    job = _Job(list(sources), tokenizer, val_frac, seed, on_bad, report)
    with disk_errors(cache):
        cache.mkdir(parents=True, exist_ok=True)
        found = job.find()
        key = job.key(found, cache)
        entry = cache / key[:32]
        if not entry.is_dir():
            _remove_leftovers(cache)
            with _working_folder(cache) as folder:
                job.build(found, key, folder)
                _move_into_place(folder, entry)
    return _open(entry)


@dataclass(frozen=True)
class _Job:
    """One call of `prepare`: its arguments, and the steps that need them."""

    sources: list[Source]
    tokenizer: TokenizerSpec
    val_frac: float
    seed: int
    on_bad: OnBad
    progress: Progress

    def find(self) -> list[Found]:
        if self.on_bad not in ("skip", "fail"):
            raise DataError(f"data.on_bad should be skip or fail, not {self.on_bad!r}")
        if not self.sources:
            raise DataError("there is no source of text: set data.sources to at least one file or folder")
        return [find_files(Path(source.path).expanduser()) for source in self.sources]

    def key(self, found: list[Found], cache: Path) -> str:
        hashes = FileHashes(cache / "file_hashes.json")
        total = sum(one.size_bytes for one in found)
        done = 0

        def on_read(size: int) -> None:
            nonlocal done
            done += size
            self.progress("hash", done, total)

        files = [[[file.name, file.format, hashes.get(file.path, on_read)] for file in one.files] for one in found]
        hashes.save()
        settings = {
            "format_version": FORMAT_VERSION,
            "files": files,
            "weights": self.weights,
            "tokenizer": self._tokenizer_key(),
            "val_frac": self.val_frac,
            "seed": self.seed,
            "on_bad": self.on_bad,
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def _tokenizer_key(self) -> Any:
        if self.tokenizer.path is None:
            return asdict(self.tokenizer)
        given = self._given_tokenizer()
        return [given.fingerprint, given.bos_token, given.eos_token, given.pad_token]

    def _given_tokenizer(self) -> Tokenizer:
        assert self.tokenizer.path is not None
        return Tokenizer.load(self.tokenizer.path)

    @property
    def weights(self) -> list[float]:
        return [float(source.weight) for source in self.sources]

    def build(self, found: list[Found], key: str, folder: Path) -> None:
        """Fills a working folder with a whole cache entry."""
        corpus = folder / "corpus"
        sources = self._read(found, corpus)
        tokenizer, training = self._make_tokenizer(corpus, folder)
        split: dict[str, Any] = {"val_frac": self.val_frac, "seed": self.seed, "weights": self.weights}
        encoded = _rust.encode_corpus(
            corpus,
            folder / TOKENIZER_FILE,
            folder,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            pad_id=tokenizer.pad_id,
            **split,
            progress=lambda done, total: self.progress("encode", done, total),
        )
        for suffix in (".text", ".index"):
            corpus.with_suffix(suffix).unlink()
        for index, source in enumerate(sources):
            for name, side in (("train", encoded["train"]), ("val", encoded["val"])):
                source[f"{name}_tokens"] = side["source_tokens"][index]
                source[f"{name}_documents"] = side["source_documents"][index]
        report = {
            "format_version": FORMAT_VERSION,
            "data_fingerprint": key,
            "tokenizer_fingerprint": tokenizer.fingerprint,
            "vocab_size": tokenizer.vocab_size,
            "bos_id": tokenizer.bos_id,
            "eos_id": tokenizer.eos_id,
            "pad_id": tokenizer.pad_id,
            "tokenizer": training,
            "val_frac": self.val_frac,
            "seed": self.seed,
            "on_bad": self.on_bad,
            **_totals(encoded),
            "sources": sources,
            "versions": {name: importlib.metadata.version(name) for name in ("numpy", "pyarrow", "tokenizers")},
        }
        write_text(folder / REPORT_FILE, json.dumps(report, indent=1))

    def _read(self, found: list[Found], corpus: Path) -> list[dict[str, Any]]:
        writer = _rust.CorpusWriter(corpus)
        total = sum(one.size_bytes for one in found)
        done = 0
        reports = []
        for index, (source, one) in enumerate(zip(self.sources, found, strict=True)):
            files = []
            for file in one.files:
                reader = get_reader(file.format)
                progress = partial(self._read_progress, done, total)
                report = reader.read(file.path, writer, index, self.on_bad, progress)
                file.check_unchanged()
                done += file.size_bytes
                files.append({"name": file.name, "format": file.format, **report.as_dict()})
            reports.append(_sum_up(source, files, one.ignored))
        writer.finish()
        return reports

    def _read_progress(self, before: int, total: int, done: int, _: int) -> None:
        self.progress("read", before + done, total)

    def _make_tokenizer(self, corpus: Path, folder: Path) -> tuple[Tokenizer, dict[str, Any]]:
        spec = self.tokenizer
        if spec.path is not None:
            tokenizer = self._given_tokenizer()
            training: dict[str, Any] = {"taken_from": str(spec.path)}
        else:
            file = folder / TOKENIZER_FILE
            learnt = _rust.train_tokenizer(
                corpus,
                file,
                vocab_size=spec.vocab_size,
                special_tokens=[spec.bos_token, spec.eos_token, spec.pad_token],
                bos_token=spec.bos_token,
                min_frequency=spec.min_frequency,
                max_text_bytes=spec.max_text_bytes,
                val_frac=self.val_frac,
                seed=self.seed,
                weights=self.weights,
                progress=lambda done, total: self.progress("tokenizer", done, total),
            )
            tokenizer = Tokenizer.load(file, spec.bos_token, spec.eos_token, spec.pad_token)
            training = {**asdict(spec), "learnt_from": learnt}
        tokenizer.save_pretrained(folder)
        return tokenizer, training


def _totals(encoded: "_rust._EncodeReport") -> dict[str, int]:
    totals = {}
    for name, side in (("train", encoded["train"]), ("val", encoded["val"])):
        totals[f"{name}_tokens"] = side["tokens"]
        totals[f"{name}_documents"] = side["documents"]
        totals[f"{name}_text_bytes"] = side["text_bytes"]
    return totals


def _sum_up(source: Source, files: list[dict[str, Any]], ignored: dict[str, int]) -> dict[str, Any]:
    counted = [name for name in FileReport().as_dict() if name != "rejects"]
    totals = {name: sum(file[name] for file in files) for name in counted}
    return {"path": str(source.path), "weight": source.weight, **totals, "ignored": ignored, "files": files}


def _open(entry: Path) -> PreparedData:
    """A cache entry, its token files checked against its tokenizer."""
    try:
        report = json.loads((entry / REPORT_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{entry} is not a whole preparation ({error}): delete that folder and run again") from error
    prepared = PreparedData(
        folder=entry,
        tokenizer_path=entry / TOKENIZER_FILE,
        train_path=entry / "train.bin",
        val_path=entry / "val.bin",
        report=report,
        data_fingerprint=report["data_fingerprint"],
        tokenizer_fingerprint=report["tokenizer_fingerprint"],
    )
    for path in (prepared.train_path, prepared.val_path):
        TokenFile(path, prepared.tokenizer_fingerprint)
    return prepared


@contextmanager
def _working_folder(cache: Path) -> Iterator[Path]:
    """A folder of this process alone, removed whatever happens unless it has been renamed away."""
    folder = cache / f".tmp-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(cache: Path) -> None:
    """Deletes the working folders of processes of this machine that no longer run."""
    for folder in cache.glob(f".tmp-{socket.gethostname()}-*"):
        pid = folder.name.split("-")[-2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _move_into_place(folder: Path, entry: Path) -> None:
    try:
        folder.rename(entry)
    except OSError:
        # Another run with the same inputs was faster, and its bytes are the same.
        if not entry.is_dir():
            raise
