"""`python -m bulba data parquet`: texts for programs that read Parquet, and a report of what came along."""

from __future__ import annotations

from pathlib import Path

from bulba.data.parquet_shards import Converted, write_parquet_shards
from bulba.data.readers.base import OnBad
from bulba.run.bars import Bars

MAX_SHOWN = 30


def parquet_command(
    path: str,
    out: str,
    shard_mb: float = 256,
    val_frac: float = 0.01,
    language: bool = False,
    on_bad: OnBad = "skip",
) -> None:
    """Write the texts of `path` as Parquet shards of `shard_mb` megabytes of text into the new folder `out`.

    val_frac: share of the documents in the last shard, which is for validation; 0 for no such shard. language: add a
    column with the language of each document. on_bad: as in data.on_bad.
    """
    with Bars() as bars:
        converted = write_parquet_shards(
            Path(path),
            Path(out),
            shard_bytes=round(shard_mb * 1e6),
            val_frac=val_frac,
            with_language=language,
            on_bad=on_bad,
            progress=lambda done, total: bars("read", done, total),
        )
    say_converted(converted, Path(out), bool(val_frac))


def say_converted(converted: Converted, out: Path, has_validation: bool) -> None:
    """What was written, and everything that was not."""
    found = converted.found
    for name, count, first in converted.rejects[:MAX_SHOWN]:
        print(f"left out: {name}, {count} ({first})")
    if len(converted.rejects) > MAX_SHOWN:
        print(f"left out: parts of {len(converted.rejects) - MAX_SHOWN} more files")
    if converted.num_empty:
        print(f"left out: {converted.num_empty} empty documents")
    for kind, count in found.ignored.items():
        print(f"not read: {count} {kind}")
    print(
        f"{converted.num_documents:,} documents, {converted.text_bytes / 1e6:,.1f} MB of text from "
        f"{len(found.files):,} files"
    )
    last, held_out = converted.shards[-1]
    ending = f", of which {last} is for validation ({held_out:,} documents)" if has_validation else ""
    print(f"written: {len(converted.shards)} shards in {out}{ending}")
