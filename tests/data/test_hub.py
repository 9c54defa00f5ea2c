"""Hugging Face datasets, through the real library on local folders."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulba.data.hub import documents, download
from bulba.data.prepare import Source, TokenizerSpec, prepare
from bulba.errors import DataError

pytest.importorskip("datasets")


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    folder = tmp_path / "lines"
    folder.mkdir()
    rows = [{"content": f"дакумент {number}", "id": number} for number in range(20)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_dataset_is_streamed_and_its_column_chosen(lines: Path) -> None:
    assert list(documents(str(lines), column="content")) == [f"дакумент {number}" for number in range(20)]
    assert list(documents(str(lines), column="content", max_documents=3)) == [f"дакумент {n}" for n in range(3)]


def test_a_download_is_a_source_like_any_other_and_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    texts = [*(f"дакумент {number}" for number in range(20)), None]
    pq.write_table(pa.table({"text": texts}), folder / "train.parquet")
    cache = tmp_path / "cache"
    first = download(str(folder), cache)
    times = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    assert download(str(folder), cache) == first
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == times
    prepared = prepare([Source(first)], TokenizerSpec(vocab_size=256), cache, val_frac=0.3)
    (source,) = prepared.report["sources"]
    assert (source["documents"], source["num_rejected"]) == (20, 1)
    # A local folder that has changed is fetched anew, and so is another choice.
    pq.write_table(pa.table({"text": texts[:5]}), folder / "train.parquet")
    second = download(str(folder), cache)
    assert second not in (first, download(str(folder), cache, max_documents=2))
    assert (second / "00000.jsonl").read_text().count("\n") == 5


def test_wrong_names_are_explained(lines: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'text', only content, id: set data\.column"):
        list(documents(str(lines)))
    with pytest.raises(DataError, match="column 'id' .* does not hold text"):
        list(documents(str(lines), column="id"))
    with pytest.raises(DataError, match="cannot be read.*split"):
        list(documents(str(lines), split="test", column="content"))
    with pytest.raises(DataError):
        download(str(lines), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_offline_is_one_sentence_that_names_the_dataset(tmp_path: Path) -> None:
    program = """
        from bulba.data.hub import documents
        from bulba.errors import DataError
        try:
            next(documents("nobody/no-such-dataset"))
        except DataError as error:
            print(error)
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True
    )
    assert result.stdout.startswith("the dataset nobody/no-such-dataset cannot be read (HF_HUB_OFFLINE is set)")
    assert result.stdout.count("\n") == 1
    assert result.stdout.rstrip().endswith("and the network")


def test_without_the_library_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"bulba\[hub\]"):
        next(documents("any/thing"))
