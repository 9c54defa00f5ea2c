"""The report of a preparation (prepare.json) as tables for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from bulba.data.cleaning import report_table

MAX_ROWS = 30


def preparation_tables(report: dict[str, Any]) -> Iterator[RenderableType]:
    """What came from each source, which rules changed what, and which files had broken or rejected parts."""
    yield sources_table(report)
    yield languages_table(report)
    yield report_table(report["cleaning"])
    rejected = list(rejected_files(report))
    if rejected:
        yield rejects_table(rejected)


def sources_table(report: dict[str, Any]) -> Table:
    """Documents on their way from the files to the token files; what fell out stands below its source."""
    table = Table(title="sources", title_justify="left")
    columns = ("source", "files", "documents", "left out", "train", "val", "tokens")
    for name in columns:
        table.add_column(name, justify="left" if name == "source" else "right")
    for source in report["sources"]:
        train, val = source["train"], source["val"]
        reasons = {
            "empty": source["empty"],
            "rejected": source["num_rejected"],
            "dropped by cleaning": source["dropped"],
            "duplicates": source["documents"] - train["documents"] - val["documents"],
        }
        met = source["documents"] + sum(reasons.values()) - reasons["duplicates"]
        numbers = (len(source["files"]), met, sum(reasons.values()), train["documents"], val["documents"])
        tokens = train["tokens"] + val["tokens"]
        table.add_row(source["path"], *(f"{number:,}" for number in (*numbers, tokens)))
        for reason, count in reasons.items():
            if count:
                table.add_row(f"  {reason}", "", "", f"{count:,}")
        for kind, count in source["ignored"].items():
            table.add_row(f"  not read: {kind}", f"{count:,}")
    return table


def languages_table(report: dict[str, Any]) -> Table:
    """Tokens and characters by language, over all sources."""
    table = Table(title="languages", title_justify="left")
    for name in ("language", "documents", "tokens", "share", "bytes a token"):
        table.add_column(name, justify="left" if name == "language" else "right")
    totals: dict[str, list[int]] = {}
    for source in report["sources"]:
        for side in ("train", "val"):
            for language, counts in source[side]["languages"].items():
                row = totals.setdefault(language, [0, 0, 0])
                for place, name in enumerate(("documents", "tokens", "text_bytes")):
                    row[place] += counts[name]
    all_tokens = sum(tokens for _, tokens, _ in totals.values())
    for language, (documents, tokens, text_bytes) in sorted(totals.items(), key=lambda item: -item[1][1]):
        share, size = tokens / max(all_tokens, 1), text_bytes / max(tokens, 1)
        table.add_row(language, f"{documents:,}", f"{tokens:,}", f"{share:.1%}", f"{size:.2f}")
    return table


def rejected_files(report: dict[str, Any]) -> Iterator[tuple[str, int, str]]:
    """(file, how many parts of it were rejected, the first place and reason) of every file with rejects."""
    for source in report["sources"]:
        for file in source["files"]:
            if file["num_rejected"]:
                place, reason = file["rejects"][0]
                yield f"{source['path']}: {file['name']}", file["num_rejected"], f"{place}: {reason}"


def rejects_table(rejected: list[tuple[str, int, str]]) -> Table:
    """The files with rejects, the worst first."""
    table = Table(title="rejected", title_justify="left")
    for name in ("file", "rejected", "the first"):
        table.add_column(name, justify="right" if name == "rejected" else "left")
    for name, count, first in sorted(rejected, key=lambda row: -row[1])[:MAX_ROWS]:
        table.add_row(name, f"{count:,}", first)
    if len(rejected) > MAX_ROWS:
        table.add_row(f"and {len(rejected) - MAX_ROWS:,} more files", "", "all are in prepare.json")
    return table
