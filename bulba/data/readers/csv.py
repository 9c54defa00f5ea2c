"""Tables of text: one document a row of the column `text`, divided by commas, semicolons or tabs."""

from pathlib import Path

from bulba import _rust
from bulba.data.readers.base import FileReport, OnBad, Progress, with_packed

EXTENSIONS = with_packed(".csv", ".tsv")


def read(path: Path, shard: _rust.ShardWriter, file: int, on_bad: OnBad, progress: Progress | None) -> FileReport:
    """Adds the documents of the file to the shard."""
    return FileReport(**shard.add_file(path, "csv", file, on_bad=on_bad, progress=progress))
