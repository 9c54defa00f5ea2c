"""Cleaning of documents before training: which rules are on, and the report of what they did.

The rules themselves are `bulba_rust/core/src/clean/`. Every text is also brought into Unicode normal form C, which is
no choice. Cleaning cleaned text changes nothing. Source code keeps its lines, its letters and its references.
"""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from bulba import _rust
from bulba.errors import ConfigError

MAX_SAMPLES = 20
APOSTROPHES = ("keep", "U+0027", "U+2019", "U+02BC")


@dataclass(frozen=True)
class Cleaning:
    """Which rules are on.

    Attributes:
        control: every kind of line break becomes a newline; other control characters go, except the tab. U+FFFD is
            counted and stays.
        zero_width: zero-width spaces and direction marks go; joiners too, except between emoji and in scripts that
            need them.
        soft_hyphen: U+00AD goes, together with the line break if it splits a word at the end of a line.
        html: character references (&nbsp;, &#1110;) become characters and formatting tags go, outside code and where
            the text does not speak of HTML itself.
        homoglyphs: Latin letters inside Cyrillic words, and the reverse, become what they look like, if one reading
            is clear.
        repeated_lines: runs of the same line, more than two blank lines, and a long line that comes again and again
            are cut down to one (two if blank).
        apostrophes: the apostrophe between two Cyrillic letters: "keep", "U+0027", "U+2019" or "U+02BC".
        min_chars: documents with fewer characters that are not white space are dropped; 0 keeps all.
    """

    control: bool = True
    zero_width: bool = True
    soft_hyphen: bool = True
    html: bool = True
    homoglyphs: bool = True
    repeated_lines: bool = True
    apostrophes: str = "keep"
    min_chars: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is bool and not isinstance(value, bool):
                raise ConfigError(f"data.cleaning.{field.name}={value!r} must be true or false.")
        if self.apostrophes not in APOSTROPHES:
            known = ", ".join(APOSTROPHES[:-1]) + " or " + APOSTROPHES[-1]
            raise ConfigError(f"data.cleaning.apostrophes={self.apostrophes!r} must be {known}.")
        if not isinstance(self.min_chars, int) or isinstance(self.min_chars, bool) or self.min_chars < 0:
            raise ConfigError(f"data.cleaning.min_chars={self.min_chars!r} must be a whole number, 0 or more.")

    @classmethod
    def none(cls) -> "Cleaning":
        """Every rule off."""
        return cls(
            control=False, zero_width=False, soft_hyphen=False, html=False, homoglyphs=False, repeated_lines=False
        )

    def as_dict(self) -> "_rust._CleanRules":
        return asdict(self)  # type: ignore[return-value]


def merge_reports(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The report of all parts of an input: sums, and samples taken from the parts in turn."""
    merged = {name: sum(report[name] for report in reports) for name in reports[0] if name != "rules"}
    merged["rules"] = {
        rule: {name: sum(report["rules"][rule][name] for report in reports) for name in counts if name != "samples"}
        | {"samples": _in_turn([report["rules"][rule]["samples"] for report in reports])}
        for rule, counts in reports[0]["rules"].items()
    }
    return merged


def _in_turn(samples: Sequence[Sequence[Any]]) -> list[Any]:
    turns = itertools.zip_longest(*samples)
    return list(itertools.islice((sample for turn in turns for sample in turn if sample is not None), MAX_SAMPLES))


def report_table(report: "dict[str, Any] | _rust._CleanReport", max_samples: int = 3) -> Group:
    """What each rule did as a table, and under it at most `max_samples` samples of each."""
    table = Table()
    table.add_column("rule")
    for name in ("documents", "occurrences", "bytes before", "bytes after"):
        table.add_column(name, justify="right")
    samples = []
    for name, counts in _active(report):
        figures = [counts[key] for key in ("documents", "occurrences", "bytes_before", "bytes_after")]
        table.add_row(name, *(f"{figure:,}" for figure in figures))
        samples += [Text(f"{name}: {sample}") for sample in _samples(counts, max_samples)]
    return Group(Text(_headline(report)), table, *samples)


def report_text(report: "dict[str, Any] | _rust._CleanReport", max_samples: int = 20) -> str:
    """The same as plain text, for a log or a file."""
    lines = [_headline(report)]
    for name, counts in _active(report):
        sizes = f"{counts['bytes_before']:,} -> {counts['bytes_after']:,} bytes"
        lines.append(f"{name}: {counts['documents']:,} documents, {counts['occurrences']:,} occurrences, {sizes}")
        lines += [f"    {sample}" for sample in _samples(counts, max_samples)]
    return "\n".join(lines) + "\n"


def _headline(report: Any) -> str:
    changed = f"{report['documents_changed']:,} of {report['documents']:,} documents changed"
    sizes = f"{report['bytes_before']:,} -> {report['bytes_after']:,} bytes"
    left = report["replacement_characters"]
    return f"Cleaning: {changed}, {sizes}" + (f", {left:,} U+FFFD left in place" if left else "")


def _active(report: Any) -> list[tuple[str, Any]]:
    return [(name, counts) for name, counts in report["rules"].items() if counts["documents"]]


def _samples(counts: Any, max_samples: int) -> list[str]:
    return [f"{_visible(before)} -> {_visible(after)}" for before, after in counts["samples"][:max_samples]]


def _visible(text: str) -> str:
    """Line breaks and characters that do not show as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
