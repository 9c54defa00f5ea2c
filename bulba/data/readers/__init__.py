"""Readers: one module a format, found by file extension.

A reader is a module of this folder with `EXTENSIONS` and `read(path, shard, file, on_bad, progress)`;
adding a format is adding a file. This module finds the readers and walks the folders they are used on.
"""

import fnmatch
import importlib
import os
import pkgutil
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from bulba.data.readers.base import PACKINGS, OnBad, Reader
from bulba.errors import DataError

OnFault = Callable[[Path, OSError], None]
"""Called with a file or folder that cannot be opened, and why."""


class LostFileError(DataError):
    """A file that was found can no longer be opened."""


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

    def check_unchanged(self) -> None:
        """Raises DataError if the file is not the one that was found: its hash would stand for another text.

        LostFileError, which is one, if it cannot be opened at all.
        """
        try:
            status = _open_status(self.path)
        except OSError as error:
            raise unreadable(self.path, error) from error
        if (status.st_size, status.st_mtime_ns) != (self.size_bytes, self.modified_ns):
            raise DataError(f"{self.path} changed while it was read: run again once nothing writes to it")


@dataclass(frozen=True)
class Found:
    """What one source holds: files in a fixed order, and what was left out.

    `ignored` counts by extension or kind. `unopened`: name of a file or folder that cannot be opened -> the reason.
    """

    files: list[FoundFile]
    ignored: dict[str, int]
    unopened: dict[str, str] = field(default_factory=dict)

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


def find_files(path: Path, on_bad: OnBad = "fail") -> Found:
    """The readable files of a source, sorted by name: a file, everything below a folder, or what a pattern matches.

    A pattern is a path with `*`, `?`, `[...]`, or `**` for any number of folders: `data/**/*.jsonl`.

    Args:
        on_bad: what becomes of a file or folder that cannot be opened: left out, with its reason, or an error.

    Raises:
        DataError: the path does not exist, or nothing in it can be read.
    """
    unopened: dict[Path, str] = {}

    def on_fault(place: Path, error: OSError) -> None:
        if on_bad == "fail":
            raise unreadable(place, error) from error
        unopened[place] = error.strerror or type(error).__name__

    try:
        if path.is_dir():
            return _take(path, path, _walk(path, set(), on_fault), on_fault, unopened)
        if path.is_file():
            return _one_file(path)
        if path.exists():
            raise DataError(f"{path} is neither a file nor a folder: set the path of the source to one with text")
    except OSError as error:
        raise unreadable(path, error) from error
    first = next((index for index, part in enumerate(path.parts) if _is_pattern(part)), None)
    if first is None:
        raise DataError(f"{path} does not exist: set the path of the source to a file or a folder of text")
    folder, pattern = Path(*path.parts[:first]), path.parts[first:]
    return _take(path, folder, _matching(path, folder, pattern, on_fault), on_fault, unopened)


def _one_file(path: Path) -> Found:
    format = formats().get(_extension(path.name))
    if format is None:
        raise DataError(f"{path} is of a format that cannot be read: give a file that ends in one of {_known()}")
    return Found([_found_file(path, path.name, format)], {})


def _found_file(path: Path, name: str, format: str) -> FoundFile:
    status = _open_status(path)
    return FoundFile(path, name, format, status.st_size, status.st_mtime_ns)


def _open_status(path: Path) -> os.stat_result:
    """The status of a file that can be opened for reading; OSError of one that cannot."""
    with path.open("rb") as file:
        return os.fstat(file.fileno())


def _matching(path: Path, folder: Path, pattern: Sequence[str], on_fault: OnFault) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{path} matches nothing, as there is no folder {folder}: mend the pattern")
    depth = None if "**" in pattern else len(pattern)
    entries = [
        entry for entry in _walk(folder, set(), on_fault, depth) if _matches(entry.relative_to(folder).parts, pattern)
    ]
    if not entries:
        raise DataError(f"{path} matches no file: mend the pattern, or give the folder to read all of it")
    return entries


def _take(path: Path, folder: Path, entries: Iterable[Path], on_fault: OnFault, unopened: dict[Path, str]) -> Found:
    """Sorts out what can be read."""
    files: list[FoundFile] = []
    ignored: Counter[str] = Counter()
    for entry in entries:
        format = formats().get(_extension(entry.name))
        if entry.name.startswith("."):
            ignored["hidden"] += 1
        elif format is None:
            ignored[_extension(entry.name) or "no extension"] += 1
        else:
            try:
                # A pipe is not opened: that would wait for whoever writes to it.
                if stat.S_ISREG(entry.stat().st_mode):
                    files.append(_found_file(entry, entry.relative_to(folder).as_posix(), format))
                else:
                    ignored["not a file"] += 1
            except OSError as error:
                on_fault(entry, error)
    names = {place.relative_to(folder).as_posix(): reason for place, reason in sorted(unopened.items())}
    if not files:
        left_out = [f"{count} {kind}" for kind, count in sorted(ignored.items())]
        if names:
            left_out.append(f"{len(names)} that cannot be opened, {next(iter(unopened))}: {next(iter(names.values()))}")
        held = ", ".join(left_out) or "no file"
        raise DataError(f"{path} holds nothing that can be read ({held}): put files that end in {_known()} there")
    files.sort(key=lambda file: file.name)
    return Found(files, dict(sorted(ignored.items())), names)


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


def _walk(folder: Path, seen: set[tuple[int, int]], on_fault: OnFault, depth: int | None = None) -> Iterator[Path]:
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
        on_fault(folder, error)
        return
    for entry in entries:
        if not _is_folder(entry) or entry.name.startswith("."):
            yield Path(entry.path)
        elif depth != 1:
            yield from _walk(Path(entry.path), seen, on_fault, depth and depth - 1)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # What it is cannot be told: if its name is that of a text, opening it says why.
        return False


def unreadable(path: Path, error: OSError) -> LostFileError:
    return LostFileError(f"cannot read {path}: {error.strerror}; make it readable or move it away")
