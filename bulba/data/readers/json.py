"""JSON: a list of strings, a list of objects with `text`, or one object with `text`."""

from pathlib import Path

from bulba import _rust
from bulba.data.readers.base import FileReport, OnBad, Progress, with_packed

EXTENSIONS = with_packed(".json")


def read(path: Path, shard: _rust.ShardWriter, file: int, on_bad: OnBad, progress: Progress | None) -> FileReport:
    """Adds the documents of the file to the shard."""
    return FileReport(**shard.add_file(path, "json", file, on_bad=on_bad, progress=progress))
