"""Hugging Face datasets by name: fetched once into a folder of .jsonl files, then read like any other source.

What it does not do: log in, or refresh a download; delete its folder in the cache to fetch a dataset anew.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bulba.errors import DataError
from bulba.files import atomic_folder

DOCUMENTS_PER_FILE = 100_000


def download(
    name: str,
    cache_dir: str | Path,
    config_name: str | None = None,
    split: str = "train",
    column: str = "text",
    max_documents: int | None = None,
) -> Path:
    """The folder that holds the documents of a dataset, fetched if it is not there yet.

    Args:
        name: such as "HuggingFaceFW/fineweb-2", or a local folder that `datasets.load_dataset` opens.
        column: the column that holds the text.
        max_documents: stop after this many; None takes all.

    Raises:
        DataError: `datasets` is not installed, the dataset cannot be reached, or it has no such column.
    """
    folder = folder_of(name, cache_dir, config_name, split, column, max_documents)
    if not folder.is_dir():
        with atomic_folder(folder) as temporary:
            _write(documents(name, config_name, split, column, max_documents), temporary)
    return folder


def folder_of(
    name: str,
    cache_dir: str | Path,
    config_name: str | None = None,
    split: str = "train",
    column: str = "text",
    max_documents: int | None = None,
) -> Path:
    """Where `download`, with the same arguments, puts the documents."""
    choice = [name, config_name, split, column, max_documents, _local_state(Path(name))]
    digest = hashlib.sha256(json.dumps(choice).encode()).hexdigest()[:12]
    return Path(cache_dir) / f"hub-{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-')}-{digest}"


def documents(
    name: str,
    config_name: str | None = None,
    split: str = "train",
    column: str = "text",
    max_documents: int | None = None,
) -> Iterator[str | None]:
    """The text of each row as it comes, None where there is none. Arguments and errors are `download`'s."""
    try:
        import datasets
    except ImportError as error:
        raise DataError("reading a Hugging Face dataset needs one more library: uv pip install 'bulba[hub]'") from error
    rows = _guarded(lambda: iter(datasets.load_dataset(name, config_name, split=split, streaming=True)), name)
    number = 0
    while max_documents is None or number < max_documents:
        row = _guarded(lambda: next(rows, None), name)
        if row is None:
            return
        if column not in row:
            raise DataError(f"the dataset {name} has no column {column!r}, only {', '.join(row)}: set data.column")
        if not isinstance(row[column], str | None):
            raise DataError(f"the column {column!r} of the dataset {name} does not hold text: set data.column")
        yield row[column]
        number += 1


def _guarded(step: Any, name: str) -> Any:
    """One step of `datasets`, its many kinds of failure turned into one sentence."""
    import datasets

    try:
        return step()
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        offline = " (HF_HUB_OFFLINE is set)" if datasets.config.HF_HUB_OFFLINE else ""
        raise DataError(
            f"the dataset {name} cannot be read{offline}: {reason}; check its name, config and split, and the network"
        ) from error


def _write(texts: Iterable[str | None], folder: Path) -> None:
    file = None
    try:
        for number, text in enumerate(texts):
            if number % DOCUMENTS_PER_FILE == 0:
                if file is not None:
                    file.close()
                path = folder / f"{number // DOCUMENTS_PER_FILE:05d}.jsonl"
                file = path.open("w", encoding="utf-8")
            assert file is not None
            file.write(json.dumps({"text": text}) + "\n")
    finally:
        if file is not None:
            file.close()


def _local_state(path: Path) -> list[list[Any]]:
    """Names, sizes and times of the files of a local folder, so that a change of them is noticed."""
    if not path.is_dir():
        return []
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return [[str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
