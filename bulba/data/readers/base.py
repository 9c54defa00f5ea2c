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


@dataclass
class FileReport:
    """What came of one file. `rejects` holds (place, reason) of the first `MAX_REJECTS` of `num_rejected`."""

    documents: int = 0
    text_bytes: int = 0
    empty: int = 0
    num_rejected: int = 0
    rejects: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: "_rust._FileReport") -> None:
        """Adds the counts of another part of the same file."""
        self.documents += other["documents"]
        self.text_bytes += other["text_bytes"]
        self.empty += other["empty"]

    def reject(self, path: Path, place: str, reason: str, on_bad: OnBad) -> None:
        """Records a broken document, or raises DataError if `on_bad` is "fail"."""
        if on_bad == "fail":
            raise DataError(f"{path}, {place}: {reason}; mend it, or set data.on_bad=skip to leave it out")
        self.num_rejected += 1
        if len(self.rejects) < MAX_REJECTS:
            self.rejects.append((place, reason))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Reader(Protocol):
    """The names a reader module defines."""

    EXTENSIONS: tuple[str, ...]

    def read(
        self, path: Path, corpus: _rust.CorpusWriter, source: int, on_bad: OnBad, progress: Progress | None
    ) -> FileReport:
        """Adds every document of the file to the corpus under the given source index."""
        ...
