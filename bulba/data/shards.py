"""Shards: the input files of a preparation in groups, each read, cleaned and stored by itself.

A shard holds the files of one source up to `SHARD_BYTES`, in order; a larger file is a shard of its own. It lies in
`CACHE/shards/KEY`, where KEY hashes the contents of its files and everything that decides what is read from them, so
a preparation that was killed finds the finished ones again, changed input gives other keys, and several processes or
machines can make the shards of one preparation side by side. A shard is written under a temporary name and renamed.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bulba import _rust
from bulba.data.cleaning import Cleaning
from bulba.data.fingerprint import FileHashes
from bulba.data.readers import Found, FoundFile, get_reader
from bulba.data.readers.base import OnBad
from bulba.data.workspace import working_folder

SHARD_BYTES = 16 << 20
"""Size of the input files that share a shard."""

FORMAT_VERSION = 1
"""Raised whenever the same input would give another shard."""

KEPT_SECONDS = 7 * 24 * 3600
"""A shard that no preparation has finished with is kept this long."""

REPORT_FILE = "shard.json"

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Reading:
    """What decides, beside the files, which text comes out of them."""

    on_bad: OnBad
    cleaning: Cleaning


@dataclass(frozen=True)
class Shard:
    """Some files of one source; `first_origin` numbers the first among all files of the preparation."""

    key: str
    source: int
    first_origin: int
    files: tuple[FoundFile, ...]
    language: str | None

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    def folder(self, cache: Path) -> Path:
        return cache / "shards" / self.key


def plan_shards(
    found: Sequence[Found], languages: Sequence[str | None], reading: Reading, hashes: FileHashes, progress: Progress
) -> list[Shard]:
    """Groups the files of each source, which has a language of its own or None, into shards."""
    total, done = sum(one.size_bytes for one in found), 0

    def on_read(size: int) -> None:
        nonlocal done
        done += size
        progress(done, total)

    digests = iter(hashes.get_all([file.path for one in found for file in one.files], on_read))
    shards: list[Shard] = []
    first_origin = 0
    for source, (one, language) in enumerate(zip(found, languages, strict=True)):
        for files in group_files(one.files):
            contents = [(file.format, next(digests)) for file in files]
            key = _key([FORMAT_VERSION, contents, language, reading.on_bad, asdict(reading.cleaning)])
            shards.append(Shard(key, source, first_origin, tuple(files), language))
            first_origin += len(files)
    return shards


def group_files(files: Sequence[FoundFile]) -> list[list[FoundFile]]:
    """The files of each shard, in order."""
    groups: list[list[FoundFile]] = []
    room = 0
    for file in files:
        if not groups or file.size_bytes > room:
            groups.append([])
            room = SHARD_BYTES
        groups[-1].append(file)
        room -= file.size_bytes
    return groups


def _key(settings: Any) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def read_shard(shard: Shard, cache: Path, reading: Reading, progress: Progress) -> Path:
    """The finished shard's folder, made now unless it is there.

    Args:
        progress: called with (done_bytes, total_bytes) of the shard's files.

    Raises:
        LostFileError: a file cannot be opened any more.
        DataError: a file changed meanwhile, or is broken and `on_bad` is "fail".
    """
    folder = shard.folder(cache)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Encoding checks every document against its hash, so damage by a power failure is found there.
        with working_folder(folder.parent, folder, durable=False) as temporary:
            report = json.dumps(_read(shard, temporary, reading, progress))
            (temporary / REPORT_FILE).write_text(report, encoding="utf-8")
    return folder


def _read(shard: Shard, folder: Path, reading: Reading, progress: Progress) -> dict[str, Any]:
    writer = _rust.ShardWriter(folder, reading.cleaning.as_dict())
    reports = []
    done = 0
    for file in shard.files:
        file.check_unchanged()
        number = writer.begin_file(shard.language)
        advance = partial(_advance, progress, done, shard.size_bytes)
        report = get_reader(file.format).read(file.path, writer, number, reading.on_bad, advance)
        file.check_unchanged()
        done += file.size_bytes
        reports.append(report.as_dict())
    made = writer.finish()
    counts = made["files"] + [NOTHING] * (len(reports) - len(made["files"]))
    return {
        "files": [report | count for report, count in zip(reports, counts, strict=True)],
        "cleaning": made["cleaning"],
    }


NOTHING: dict[str, Any] = {"documents": 0, "text_bytes": 0, "empty": 0, "dropped": 0, "languages": {}}
"""The counts of a file without a document."""


def _advance(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    progress(before + done, total)


def load_report(folder: Path) -> dict[str, Any]:
    """What became of the files of a finished shard, in their order."""
    return json.loads((folder / REPORT_FILE).read_bytes())


def remove_shards(cache: Path, shards: Sequence[Shard]) -> None:
    """Deletes shards that have become part of a finished preparation, and forgotten ones."""
    for shard in shards:
        shutil.rmtree(shard.folder(cache), ignore_errors=True)
    for folder in (cache / "shards").iterdir():
        if not folder.name.startswith(".") and time.time() - folder.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
