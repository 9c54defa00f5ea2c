"""Parquet: one document a row of the column `text`; read row group by row group."""

from pathlib import Path
from typing import Any

from bulba import _rust
from bulba.data.readers.base import FileReport, OnBad, Progress
from bulba.errors import DataError

EXTENSIONS = (".parquet",)
COLUMN = "text"
ROWS_AT_A_TIME = 1024


def read(path: Path, corpus: _rust.CorpusWriter, source: int, on_bad: OnBad, progress: Progress | None) -> FileReport:
    """Adds every row of the column `text` to the corpus.

    Raises:
        DataError: there is no such column, or it does not hold strings: no row of the file could be used.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    report = FileReport()
    try:
        with pq.ParquetFile(path) as file:
            _check_column(path, file.schema_arrow)
            total, row = path.stat().st_size, 0
            for batch in file.iter_batches(ROWS_AT_A_TIME, columns=[COLUMN]):
                column = batch.column(0)
                _add(path, column, row, corpus, source, on_bad, report)
                row += len(column)
                if progress is not None:
                    progress(total * row // max(file.metadata.num_rows, 1), total)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        before = f"; the {report.documents} rows before it were kept" if report.documents else ""
        report.reject(path, "the file", f"broken Parquet, {_one_line(error)}{before}", on_bad)
    return report


def _check_column(path: Path, schema: Any) -> None:
    import pyarrow as pa

    names = schema.names
    if COLUMN not in names:
        raise DataError(f"{path} has no column {COLUMN!r}, only {', '.join(names)}: rename the one that holds the text")
    kind = schema.field(COLUMN).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise DataError(f"{path}: the column {COLUMN!r} holds {kind}, not strings: convert it to strings")


def _add(
    path: Path,
    column: Any,
    first_row: int,
    corpus: _rust.CorpusWriter,
    source: int,
    on_bad: OnBad,
    report: FileReport,
) -> None:
    texts = []
    for row, value in enumerate(column, first_row):
        try:
            text = value.as_py()
        except UnicodeDecodeError as error:
            report.reject(path, f"row {row}", f"not UTF-8 at byte {error.start} of the text", on_bad)
            continue
        if text is None:
            report.reject(path, f"row {row}", "`text` is null", on_bad)
        else:
            texts.append(text)
    report.add(corpus.add_documents(texts, source))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
