"""Parquet: one document a row of the column `text`; read row group by row group."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bulba import _rust
from bulba.data.readers.base import PACKINGS, FileReport, OnBad, Progress, with_packed

EXTENSIONS = with_packed(".parquet")
COLUMN = "text"
ROWS_AT_A_TIME = 1024


def read(path: Path, shard: _rust.ShardWriter, file: int, on_bad: OnBad, progress: Progress | None) -> FileReport:
    """Adds every row of the column `text` to the shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    report, row = FileReport(), 0
    if path.suffix.lower() in PACKINGS:
        report.reject(path, "the file", "Parquet is compressed inside: unpack it", on_bad)
        return report
    try:
        with pq.ParquetFile(path) as table:
            if fault := _column_fault(table.schema_arrow):
                report.reject(path, "the file", fault, on_bad)
                return report
            total = path.stat().st_size
            for batch in table.iter_batches(ROWS_AT_A_TIME, columns=[COLUMN]):
                column = batch.column(0)
                _add(path, column, row, shard, file, on_bad, report)
                row += len(column)
                if progress is not None:
                    progress(total * row // max(table.metadata.num_rows, 1), total)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        before = f"; the {row} rows before it were read" if row else ""
        report.reject(path, "the file", f"broken Parquet, {_one_line(error)}{before}", on_bad)
    return report


def _column_fault(schema: Any) -> str | None:
    """Why no row of a file with this schema could be used."""
    import pyarrow as pa

    if COLUMN not in schema.names:
        return f"there is no column `{COLUMN}`, only {', '.join(schema.names)}: rename the one that holds the text"
    kind = schema.field(COLUMN).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        return f"the column `{COLUMN}` holds {kind}, not strings: convert it to strings"
    return None


def _add(
    path: Path,
    column: Any,
    first_row: int,
    shard: _rust.ShardWriter,
    file: int,
    on_bad: OnBad,
    report: FileReport,
) -> None:
    try:
        texts = column.to_pylist()
    except UnicodeDecodeError:
        texts = None
    if texts is None or column.null_count > 0:
        texts = list(_whole_rows(path, column, first_row, on_bad, report))
    shard.add_documents(texts, file)


def _whole_rows(path: Path, column: Any, first_row: int, on_bad: OnBad, report: FileReport) -> Iterator[str]:
    """The texts of a batch, one by one; a row without one is recorded."""
    for row, value in enumerate(column, first_row):
        try:
            text = value.as_py()
        except UnicodeDecodeError as error:
            report.reject(path, f"row {row}", f"not UTF-8 at byte {error.start} of the text", on_bad)
            continue
        if text is None:
            report.reject(path, f"row {row}", "`text` is null", on_bad)
        else:
            yield text


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
