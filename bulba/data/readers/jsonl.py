"""JSON lines: one string or one object with `text` a line; broken lines cost only themselves."""

from pathlib import Path

from bulba import _rust
from bulba.data.readers.base import FileReport, OnBad, Progress

EXTENSIONS = (".jsonl",)


def read(path: Path, corpus: _rust.CorpusWriter, source: int, on_bad: OnBad, progress: Progress | None) -> FileReport:
    """Adds the documents of the file to the corpus."""
    return FileReport(**corpus.add_file(path, "jsonl", source, on_bad=on_bad, progress=progress))
