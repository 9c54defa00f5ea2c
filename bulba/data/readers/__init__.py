"""Readers: one module a format, found by file extension.

A reader is a module of this folder with `EXTENSIONS` and `read(path, shard, file, on_bad, progress)`;
adding a format is adding a file. This module finds the readers and walks the folders they are used on.
"""

import fnmatch
import importlib
import os
import pkgutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bulba.data.readers.base import PACKINGS, Reader
from bulba.errors import DataError


@dataclass(frozen=True)
class FoundFile:
    """One input file: `name` is its path below the source (POSIX slashes), `format` its reader.

    `size_bytes` and `modified_ns` are those at the time it was found.
    """

    path: Path
    name: str
    format: str
    size_bytes: int
    modified_ns: int

    @classmethod
    def at(cls, path: Path, name: str, format: str) -> "FoundFile":
        try:
            status = path.stat()
        except OSError as error:
            raise _unreadable(path, error) from error
        return cls(path, name, format, status.st_size, status.st_mtime_ns)

    def check_unchanged(self) -> None:
        """Raises DataError if the file is not the one that was found: its hash would stand for another text."""
        if self.at(self.path, self.name, self.format) != self:
            raise DataError(f"{self.path} changed while it was read: run again once nothing writes to it")


@dataclass(frozen=True)
class Found:
    """What one source holds: files in a fixed order, and what was left out, by extension or kind."""

    files: list[FoundFile]
    ignored: dict[str, int]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


@cache
def formats() -> dict[str, str]:
    """Extension (with its dot, lower case; of an archive also the one before) -> name of the reader module."""
    table: dict[str, str] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name != "base":
            for extension in get_reader(module.name).EXTENSIONS:
                table[extension] = module.name
    return dict(sorted(table.items()))


def get_reader(format: str) -> Reader:
    """The reader module of a format."""
    return importlib.import_module(f"{__name__}.{format}")


def find_files(path: Path) -> Found:
    """The readable files of a source, sorted by name: a file, everything below a folder, or what a pattern matches.

    A pattern is a path with `*`, `?`, `[...]`, or `**` for any number of folders: `data/**/*.jsonl`.

    Raises:
        DataError: the path does not exist, or nothing in it can be read.
    """
    try:
        if path.is_dir():
            return _take(path, path, _walk(path, set()))
        if path.is_file():
            return _one_file(path)
        if path.exists():
            raise DataError(f"{path} is neither a file nor a folder: set the path of the source to one with text")
    except OSError as error:
        raise _unreadable(path, error) from error
    first = next((index for index, part in enumerate(path.parts) if _is_pattern(part)), None)
    if first is None:
        raise DataError(f"{path} does not exist: set the path of the source to a file or a folder of text")
    return _matching(path, Path(*path.parts[:first]), path.parts[first:])


def _one_file(path: Path) -> Found:
    format = formats().get(_extension(path.name))
    if format is None:
        raise DataError(f"{path} is of a format that cannot be read: give a file that ends in one of {_known()}")
    return Found([FoundFile.at(path, path.name, format)], {})


def _matching(path: Path, folder: Path, pattern: Sequence[str]) -> Found:
    if not folder.is_dir():
        raise DataError(f"{path} matches nothing, as there is no folder {folder}: mend the pattern")
    depth = None if "**" in pattern else len(pattern)
    entries = [entry for entry in _walk(folder, set(), depth) if _matches(entry.relative_to(folder).parts, pattern)]
    if not entries:
        raise DataError(f"{path} matches no file: mend the pattern, or give the folder to read all of it")
    return _take(path, folder, entries)


def _take(path: Path, folder: Path, entries: Iterable[Path]) -> Found:
    """Sorts out what can be read."""
    files: list[FoundFile] = []
    ignored: Counter[str] = Counter()
    for entry in entries:
        format = formats().get(_extension(entry.name))
        if entry.name.startswith("."):
            ignored["hidden"] += 1
        elif format is None:
            ignored[_extension(entry.name) or "no extension"] += 1
        elif not entry.is_file() and entry.exists():
            ignored["not a file"] += 1
        else:
            files.append(FoundFile.at(entry, entry.relative_to(folder).as_posix(), format))
    if not files:
        held = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items())) or "no file"
        raise DataError(f"{path} holds nothing that can be read ({held}): put files that end in {_known()} there")
    files.sort(key=lambda file: file.name)
    return Found(files, dict(sorted(ignored.items())))


def _extension(name: str) -> str:
    """The last extension in lower case, of an archive with the one before: `.jsonl.gz`."""
    path = Path(name.lower())
    return Path(path.stem).suffix + path.suffix if path.suffix in PACKINGS else path.suffix


def _known() -> str:
    known = ", ".join(extension for extension in formats() if not extension.endswith(PACKINGS))
    return f"{known} (texts also with {' or '.join(PACKINGS)} after it)"


def _is_pattern(part: str) -> bool:
    return any(character in part for character in "*?[")


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _walk(folder: Path, seen: set[tuple[int, int]], depth: int | None = None) -> Iterator[Path]:
    """Every file below a folder, down to `depth` folders; a hidden folder comes out as itself, so that it is counted.

    Links to folders are followed, each folder once.
    """
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen and status.st_ino:
            return
        seen.add((status.st_dev, status.st_ino))
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(folder, error) from error
    for entry in entries:
        if not entry.is_dir() or entry.name.startswith("."):
            yield Path(entry.path)
        elif depth != 1:
            yield from _walk(Path(entry.path), seen, depth and depth - 1)


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot read {path}: {error.strerror}; make it readable or move it away")
