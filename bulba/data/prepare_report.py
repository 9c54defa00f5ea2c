"""The counts in prepare.json: of every input file, added up for its source."""

from typing import Any

from bulba.data.readers import Found
from bulba.data.shards import NOTHING


def of_files(files: list[dict[str, Any]], found: Found) -> dict[str, Any]:
    """The part of a source's report that its files decide; those that cannot be opened stand last."""
    unopened = [
        {"name": name, "bytes": 0, "num_rejected": 1, "rejects": [["the file", f"cannot be opened: {reason}"]]}
        | NOTHING
        | {"unopened": reason}
        for name, reason in found.unopened.items()
    ]
    files = [file for file in files if "unopened" not in file] + unopened
    return _add_up(files) | {"ignored": found.ignored, "files": files}


def _add_up(files: list[dict[str, Any]]) -> dict[str, Any]:
    """The sums of the whole numbers and of the counts by language."""
    totals: dict[str, Any] = {}
    for file in files:
        for name, value in file.items():
            if isinstance(value, int):
                totals[name] = totals.get(name, 0) + value
    languages: dict[str, int] = {}
    for file in files:
        for language, count in file["languages"].items():
            languages[language] = languages.get(language, 0) + count
    return totals | {"languages": languages}


def totals(written: dict[str, Any]) -> dict[str, int]:
    """What both token files hold, under the names of the report."""
    return {
        f"{side}_{name}": written[side][name]
        for side in ("train", "val")
        for name in ("tokens", "documents", "text_bytes")
    }
