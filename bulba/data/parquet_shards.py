"""Texts to Parquet: shards with one column `text`, the last of which is for validation.

That is the layout other training programs read (shard_00000.parquet and so on, at least two). Which documents the last
shard holds is decided by a hash of their text, so equal texts never lie on both sides. Documents are those of a
preparation before cleaning: in normal form C, empty ones left out. They go through the disk: memory does not grow.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bulba import _rust
from bulba.data.cleaning import Cleaning
from bulba.data.readers import Found, find_files
from bulba.data.readers.base import OnBad
from bulba.data.shards import Reading, Shard, group_files, load_report, read_shard
from bulba.data.workspace import remove_leftovers, working_folder
from bulba.errors import ConfigError, DataError
from bulba.files import disk_errors

ROWS_A_GROUP = 1024
GROUP_BYTES = 16 << 20
"""A row group ends at whichever comes first; it is what a reader holds in memory."""

Progress = Callable[[int, int], object]
"""Called with (done_bytes, total_bytes) of the input files."""


@dataclass
class Converted:
    """What was read and written; `rejects` holds (file, how many parts of it, the first place and reason)."""

    found: Found
    num_documents: int = 0
    num_empty: int = 0
    text_bytes: int = 0
    shards: list[tuple[str, int]] = field(default_factory=list)
    """Name and documents of each; the last is for validation, unless val_frac is 0."""
    rejects: list[tuple[str, int, str]] = field(default_factory=list)


def write_parquet_shards(
    path: Path,
    out: Path,
    *,
    shard_bytes: int,
    val_frac: float,
    with_language: bool,
    on_bad: OnBad,
    progress: Progress = lambda done, total: None,
) -> Converted:
    """Writes every document of a file, a folder or a pattern to shards in the folder `out`, which appears whole.

    Args:
        shard_bytes: UTF-8 bytes of text after which a shard ends.
        val_frac: share of the documents that the last shard holds; 0 for none, and then one shard may be all.
        with_language: a second column, `language`.

    Raises:
        DataError: nothing can be read, the text does not suffice for two shards, or `out` holds something.
    """
    if shard_bytes <= 0:
        raise ConfigError("shard_mb must be above 0, such as shard_mb=256.")
    if not 0 <= val_frac < 1:
        raise ConfigError(f"val_frac={val_frac} must be a share of the documents, such as 0.01, or 0 for none.")
    out = out.expanduser().resolve()
    _check_empty(out)
    converted = Converted(find_files(path.expanduser(), on_bad))
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out.parent)
        with working_folder(out.parent, out) as folder:
            sides = _Sides(folder, shard_bytes, val_frac, with_language)
            for text, language in _documents(converted, folder / "read", on_bad, progress):
                sides.add(text, language)
            converted.shards = sides.finish(path)
            _check_empty(out)
        if not (out / converted.shards[-1][0]).is_file():
            raise DataError(f"{out} cannot be replaced (is something mounted there?): give a folder inside it as out")
    return converted


def _check_empty(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"{out} is not an empty folder, and nothing is overwritten: give another out=FOLDER")


def _documents(converted: Converted, work: Path, on_bad: OnBad, progress: Progress) -> Iterator[tuple[str, str]]:
    """(text, language) of every document in the order of the files, some files at a time through `work`."""
    found, done = converted.found, 0
    reading = Reading(on_bad, Cleaning.none())
    converted.rejects += [(name, 1, f"cannot be opened: {reason}") for name, reason in found.unopened.items()]
    for files in group_files(found.files):
        shard = Shard("shard", 0, 0, tuple(files), None)
        folder = read_shard(shard, work, reading, partial(_advance, progress, done, found.size_bytes))
        done += shard.size_bytes
        reports = load_report(folder)["files"]
        for file, report in zip(files, reports, strict=True):
            converted.num_documents += report["documents"]
            converted.num_empty += report["empty"]
            converted.text_bytes += report["text_bytes"]
            if report["num_rejected"]:
                place, reason = report["rejects"][0]
                converted.rejects.append((file.name, report["num_rejected"], f"{place}: {reason}"))
        if any(report["documents"] for report in reports):
            corpus = _rust.Corpus([(folder, 0, 0)])
            for index in range(corpus.num_documents):
                text, _, _, language = corpus.document(index)
                yield text, language
        shutil.rmtree(work)


def _advance(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    progress(before + done, total)


class _Sides:
    """Deals documents to the training shards and to the one for validation, each with at least one text.

    The first text and its copies are always for training. Until a hash falls below `val_frac`, the text with the
    smallest one so far is held back, for a corpus so small that none does.
    """

    def __init__(self, folder: Path, shard_bytes: int, val_frac: float, with_language: bool) -> None:
        self.folder, self.shard_bytes, self.val_frac = folder, shard_bytes, val_frac
        self.with_language = with_language
        self.shards: list[tuple[str, int]] = []
        self.train: _Shard | None = None
        self.val: _Shard | None = None
        self.first: float | None = None
        self.held: tuple[float, list[str], int] | None = None
        """Hash, row and number of copies."""

    def add(self, text: str, language: str) -> None:
        row = [text, language] if self.with_language else [text]
        share = int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48
        if self.first is None:
            self.first = share
        if share == self.first or not self.val_frac:
            self._add_train(row)
        elif share < self.val_frac:
            self._release(to_val=False)
            self._add_val(row)
        elif self.val is not None:
            self._add_train(row)
        elif self.held is None or share < self.held[0]:
            self._release(to_val=False)
            self.held = (share, row, 1)
        elif share == self.held[0]:
            self.held = (share, row, self.held[2] + 1)
        else:
            self._add_train(row)

    def finish(self, path: Path) -> list[tuple[str, int]]:
        """Closes the files and names the last; the name and documents of each."""
        self._release(to_val=True)
        if self.train is None:
            raise DataError(f"{path} holds no text at all: put texts there")
        self._end_train()
        if self.val is not None:
            self.val.close()
            name = _name(len(self.shards))
            self.val.path.rename(self.folder / name)
            self.shards.append((name, self.val.num_rows))
        elif self.val_frac:
            raise DataError(
                f"{path} holds only one distinct document, and the last of two shards is for validation: give more "
                "text, or set val_frac=0 for one shard"
            )
        return self.shards

    def _release(self, to_val: bool) -> None:
        if self.held is not None:
            _, row, copies = self.held
            self.held = None
            for _ in range(copies):
                self._add_val(row) if to_val else self._add_train(row)

    def _add_train(self, row: list[str]) -> None:
        if self.train is not None and self.train.text_bytes >= self.shard_bytes:
            self._end_train()
        if self.train is None:
            self.train = _Shard(self.folder / _name(len(self.shards)), self.with_language)
        self.train.add(row)

    def _end_train(self) -> None:
        if self.train is not None:
            self.train.close()
            self.shards.append((self.train.path.name, self.train.num_rows))
            self.train = None

    def _add_val(self, row: list[str]) -> None:
        if self.val is None:
            self.val = _Shard(self.folder / "validation.parquet", self.with_language)
        self.val.add(row)


def _name(number: int) -> str:
    return f"shard_{number:05d}.parquet"


class _Shard:
    """One Parquet file, written a row group at a time."""

    def __init__(self, path: Path, with_language: bool) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = ["text", "language"] if with_language else ["text"]
        self.path, self.num_rows, self.text_bytes = path, 0, 0
        self._schema = pa.schema([(name, pa.string()) for name in names])
        self._file: Any = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[list[str]] = []
        self._group_bytes = 0

    def add(self, row: list[str]) -> None:
        size = len(row[0].encode())
        self._rows.append(row)
        self.num_rows += 1
        self.text_bytes += size
        self._group_bytes += size
        if len(self._rows) >= ROWS_A_GROUP or self._group_bytes >= GROUP_BYTES:
            self._write()

    def close(self) -> None:
        self._write()
        self._file.close()

    def _write(self) -> None:
        import pyarrow as pa

        if self._rows:
            columns = [pa.array(column, pa.string()) for column in zip(*self._rows, strict=True)]
            self._file.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        self._rows, self._group_bytes = [], 0
