"""Readers: one module a format, found by file extension.

A reader is a module of this folder with `EXTENSIONS` and `read(path, corpus, source, on_bad, progress)`;
adding a format is adding a file. This module finds the readers and walks the folders they are used on.
"""

import importlib
import os
import pkgutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bulba.data.readers.base import Reader
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
            raise DataError(f"cannot read {path}: {error.strerror}; make it readable or move it away") from error
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
    """Extension (with its dot, lower case) -> name of the reader module."""
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
    """The readable files of a source: the file itself, or every one below a folder, sorted by name.

    Raises:
        DataError: the path does not exist, or nothing in it can be read.
    """
    known = ", ".join(formats())
    if path.is_file():
        format = formats().get(path.suffix.lower())
        if format is None:
            raise DataError(f"{path} is of a format that cannot be read: give a file that ends in one of {known}")
        return Found([FoundFile.at(path, path.name, format)], {})
    if not path.is_dir():
        raise DataError(f"{path} does not exist: set the path of the source to a file or a folder of text")
    files: list[FoundFile] = []
    ignored: Counter[str] = Counter()
    for entry in _walk(path, set()):
        name = entry.relative_to(path).as_posix()
        format = formats().get(entry.suffix.lower())
        if entry.name.startswith("."):
            ignored["hidden"] += 1
        elif format is None:
            ignored[entry.suffix.lower() or "no extension"] += 1
        else:
            files.append(FoundFile.at(entry, name, format))
    if not files:
        held = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items())) or "no file"
        raise DataError(f"{path} holds nothing that can be read ({held}): put files that end in {known} there")
    files.sort(key=lambda file: file.name)
    return Found(files, dict(sorted(ignored.items())))


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Every file below a folder; a hidden folder comes out as itself, so that it is counted.

    Links to folders are followed, each folder once.
    """
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen and status.st_ino:
            return
        seen.add((status.st_dev, status.st_ino))
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot list {folder}: {error.strerror}; make it readable or move it away") from error
    for entry in entries:
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _walk(Path(entry.path), seen)
        else:
            yield Path(entry.path)
