"""A small corpus in every format, and one preparation of it that the tests of this folder share."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulba.data.cleaning import Cleaning
from bulba.data.dedup import Dedup
from bulba.data.prepare import PreparedData, Source, TokenizerSpec, prepare
from bulba.data.tokenizer import Tokenizer
from tests.hard_strings import HARD_STRINGS

SMALL_SPEC = TokenizerSpec(vocab_size=500)
UNTOUCHED: dict[str, Any] = {"cleaning": Cleaning.none(), "dedup": Dedup(exact=False, near=False)}
"""Options of `prepare` that leave every text as it is, but for NFC."""


def write_corpus(folder: Path) -> list[str]:
    """Writes 41 documents in every format that is read; returns their texts."""
    texts = [
        f"Казка {number}. " + " ".join(HARD_STRINGS[number::20]) + " Жыў-быў дзед, жыла-была баба." * 3
        for number in range(40)
    ]
    folder.mkdir(parents=True)
    (folder / "one.txt").write_text(texts[0], encoding="utf-8")
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "two.md").write_text("\ufeff" + texts[1], encoding="utf-8")
    (folder / "list.json").write_text(json.dumps(texts[2:10]), encoding="utf-8")
    (folder / "objects.json").write_text(json.dumps([{"text": text} for text in texts[10:20]]))
    lines = "".join(json.dumps({"id": 1, "text": text}, ensure_ascii=False) + "\n" for text in texts[20:30])
    (folder / "lines.jsonl").write_text(lines, encoding="utf-8")
    pq.write_table(pa.table({"id": range(10), "text": texts[30:40]}), folder / "table.parquet")
    (folder / "single.json").write_text(json.dumps({"text": "Адзін дакумент."}))
    return [*texts, "Адзін дакумент."]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "texts"
    write_corpus(folder)
    return folder


@pytest.fixture(scope="session")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare([Source(corpus)], SMALL_SPEC, tmp_path_factory.mktemp("cache"), val_frac=0.1, seed=3, **UNTOUCHED)


@pytest.fixture(scope="session")
def tokenizer(prepared: PreparedData) -> Tokenizer:
    return Tokenizer.load(prepared.folder)
