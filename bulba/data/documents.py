"""Documents as Python strings with their language, for measurements: read as a preparation reads them, not cleaned.

Where the files hold more than is asked for, about the same share is taken of each, from its beginning.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bulba import _rust
from bulba.data.cleaning import Cleaning
from bulba.data.readers import FoundFile, find_files, get_reader

OnSkip = Callable[[str], object]
"""Called with the place of a document that is left out, and why."""


class _EnoughError(Exception):
    """The share of a file is read."""


def documents(
    paths: Sequence[str | Path], max_bytes: int | None = None, on_skip: OnSkip = lambda place: None
) -> list[tuple[str, str]]:
    """(text, language) of every document, in NFC; or of documents that hold about `max_bytes` bytes.

    Raises:
        DataError: a path does not exist or holds nothing that can be read.
    """
    files = [file for path in paths for file in find_files(Path(path)).files]
    size = sum(file.size_bytes for file in files)
    share = 1.0 if max_bytes is None else min(1.0, max_bytes / max(size, 1))
    with tempfile.TemporaryDirectory() as folder:
        writer = _rust.ShardWriter(folder, Cleaning.none().as_dict())
        for file in files:
            _read_beginning(file, share, writer, on_skip)
        made = writer.finish()
        if not any(counts["documents"] for counts in made["files"]):
            return []
        corpus = _rust.Corpus([(folder, 0, 0)])
        # A file is left only when its reader looks up, so there may be more than was asked for.
        step = 1 if max_bytes is None else max(1, round(corpus.text_bytes / max_bytes))
        found = (corpus.document(index) for index in range(0, corpus.num_documents, step))
        return [(text, language) for text, _, _, language in found]


def _read_beginning(file: FoundFile, share: float, writer: _rust.ShardWriter, on_skip: OnSkip) -> None:
    def look_up(done: int, total: int) -> None:
        if done > share * total:
            raise _EnoughError

    try:
        report = get_reader(file.format).read(file.path, writer, writer.begin_file(), "skip", look_up)
    except _EnoughError:
        return
    for place, reason in report.rejects:
        on_skip(f"{file.path}, {place}: {reason}")
