"""What every reader has in common: its signature and its report."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from bulba import _rust
from bulba.errors import DataError

OnBad = Literal["skip", "fail"]
"""A broken document is left out and recorded, or ends the preparation."""

Progress = Callable[[int, int], object]
"""Called with (done_bytes, total_bytes) of one file."""

MAX_REJECTS = 20

PACKINGS = (".gz", ".zst")
"""Extensions of archives of one file, which a text reader unpacks while it reads."""


def with_packed(*extensions: str) -> tuple[str, ...]:
    """The extensions, each alone and followed by that of an archive."""
    return tuple(extension + packing for packing in ("", *PACKINGS) for extension in extensions)


@dataclass
class FileReport:
    """What reading met in one file; the shard counts its documents.

    `rejects` holds (place, reason) of the first `MAX_REJECTS` of `num_rejected`.

    `num_cuts`: how often a long plain text was cut into several documents. `encoding` is that of the file's text,
    None for a format that has one of its own.
    """

    num_rejected: int = 0
    rejects: list[tuple[str, str]] = field(default_factory=list)
    num_cuts: int = 0
    encoding: str | None = None

    def reject(self, path: Path, place: str, reason: str, on_bad: OnBad) -> None:
        """Records a broken document, or raises DataError if `on_bad` is "fail"."""
        if on_bad == "fail":
            raise DataError(f"{path}, {place}: {reason}; mend it, or set data.on_bad=skip to leave it out")
        self.num_rejected += 1
        if len(self.rejects) < MAX_REJECTS:
            self.rejects.append((place, reason))

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


class Reader(Protocol):
    """The names a reader module defines."""

    EXTENSIONS: tuple[str, ...]

    def read(
        self, path: Path, shard: _rust.ShardWriter, file: int, on_bad: OnBad, progress: Progress | None
    ) -> FileReport:
        """Adds every document of the file to the shard, as those of its file number `file`."""
        ...
