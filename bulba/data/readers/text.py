"""Plain text and Markdown: the whole file is one document, held in memory while it is read."""

from pathlib import Path

from bulba import _rust
from bulba.data.readers.base import FileReport, OnBad, Progress

EXTENSIONS = (".txt", ".md")


def read(path: Path, corpus: _rust.CorpusWriter, source: int, on_bad: OnBad, progress: Progress | None) -> FileReport:
    """Adds the documents of the file to the corpus."""
    return FileReport(**corpus.add_file(path, "text", source, on_bad=on_bad, progress=progress))
