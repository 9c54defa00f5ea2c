"""A folder of tales in the formats that people keep their texts in.

Each language has one large file, and a few dozen tales as single .txt and .md files in a folder of its own::

    be.jsonl  one {"text": tale} a line         be/001.txt  be/002.md  ...
    ru.json   a list of {"text": tale}          ru/...
    uk.jsonl  as be.jsonl                       uk/...
    en.json   a list of strings                 en/...

Every other tale of a large file has no title.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from bulba.data.tales.story import LANGUAGES, tale
from bulba.errors import ConfigError
from bulba.files import atomic_file

MIN_SIZE_BYTES = 100_000
MAX_SINGLE_FILES = 24  # of each language
SINGLE_FILES_FRAC = 0.15  # of the bytes of a language at most, so that a small corpus keeps its large files


def write_tales(folder: Path, size_bytes: int, seed: int) -> None:
    """Write about `size_bytes` bytes of tales to `folder`, the languages in equal parts.

    The same size and seed give the same files, byte for byte.

    Raises:
        ConfigError: `size_bytes` is below `MIN_SIZE_BYTES`.
    """
    if size_bytes < MIN_SIZE_BYTES:
        raise ConfigError(
            f"{size_bytes} bytes of tales are too few to train on: ask for at least {MIN_SIZE_BYTES} bytes."
        )
    for language in LANGUAGES:
        _write_language(folder, language, size_bytes // len(LANGUAGES), random.Random(f"{seed} {language}"))


def _write_language(folder: Path, language: str, size_bytes: int, rng: random.Random) -> None:
    written = 0
    for number in range(1, MAX_SINGLE_FILES + 1):
        text = tale(language, rng) + "\n"
        if number % 2 == 0:
            text = f"# {text}"  # the title of a Markdown page
        if number > 2 and written + len(text.encode()) > size_bytes * SINGLE_FILES_FRAC:
            break
        _write(folder / language / f"{number:03}.{'txt' if number % 2 else 'md'}", text)
        written += len(text.encode())
    lines: list[str] = []
    while True:
        text = tale(language, rng)
        if len(lines) % 2:
            text = text.split("\n\n", 1)[1]  # without its title, so that a model can begin either way
        line = json.dumps(text if language == "en" else {"text": text}, ensure_ascii=False)
        length = len(line.encode()) + 2
        if written + length / 2 > size_bytes:
            break
        lines.append(line)
        written += length
    if language in ("be", "uk"):
        _write(folder / f"{language}.jsonl", "\n".join(lines) + "\n")
    else:
        _write(folder / f"{language}.json", "[\n" + ",\n".join(lines) + "\n]\n")


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and with the same line ends on every system."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(text.encode())
