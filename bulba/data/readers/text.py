"""Plain text, Markdown and source code: the whole file is one document, above 16 MiB it is cut at line ends."""

from pathlib import Path

from bulba import _rust
from bulba.data.readers.base import FileReport, OnBad, Progress, with_packed

PROSE = (".txt", ".md")
SOURCE_CODE = (".py", ".rs", ".js", ".ts", ".c", ".h", ".cpp", ".java", ".go", ".sh", ".sql")
EXTENSIONS = with_packed(*PROSE, *SOURCE_CODE)


def read(path: Path, shard: _rust.ShardWriter, file: int, on_bad: OnBad, progress: Progress | None) -> FileReport:
    """Adds the documents of the file to the shard."""
    return FileReport(**shard.add_file(path, "text", file, on_bad=on_bad, progress=progress))
