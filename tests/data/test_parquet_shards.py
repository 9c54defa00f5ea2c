"""`data parquet`: every document once, a last shard for validation, and nothing overwritten."""

import itertools
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulba import _rust
from bulba.data.documents import documents
from bulba.data.parquet_shards import Converted, write_parquet_shards
from bulba.errors import BulbaError, ConfigError, DataError
from tests.conftest import ROOT, run_program
from tests.data.conftest import write_corpus


def convert(path: Path, out: Path, **changes: Any) -> Converted:
    options: dict[str, Any] = {"shard_bytes": 1 << 20, "val_frac": 0.1, "with_language": False, "on_bad": "skip"}
    return write_parquet_shards(path, out, **(options | changes))


def shards_of(out: Path) -> list[list[str]]:
    """The texts of every shard, as pyarrow reads them, in the order of their names."""
    paths = sorted(out.iterdir())
    assert [path.name for path in paths] == [f"shard_{number:05d}.parquet" for number in range(len(paths))]
    tables = [pq.read_table(path) for path in paths]
    assert all(table.schema.field("text").type == pa.string() for table in tables)
    return [table.column("text").to_pylist() for table in tables]


def test_every_document_comes_back_once_by_pyarrow_and_by_our_own_reader(tmp_path: Path) -> None:
    texts = [_rust.normalize(text) for text in write_corpus(tmp_path / "texts")]
    (tmp_path / "texts" / "bad.jsonl").write_text('broken\n""\n')
    (tmp_path / "texts" / "gone.txt").symlink_to("nowhere")
    (tmp_path / "texts" / "book.pdf").write_text("x")
    converted = convert(tmp_path / "texts", tmp_path / "out", shard_bytes=2000)
    found = shards_of(tmp_path / "out")
    assert Counter(itertools.chain(*found)) == Counter(texts)
    assert Counter(text for text, _ in documents([tmp_path / "out"])) == Counter(texts)
    assert len(found) > 4
    assert converted.shards == [(f"shard_{number:05d}.parquet", len(shard)) for number, shard in enumerate(found)]
    assert all(2000 <= sum(len(text.encode()) for text in shard) < 4000 for shard in found[:-2])
    assert (converted.num_documents, converted.num_empty) == (41, 1)
    assert converted.rejects == [
        ("gone.txt", 1, "cannot be opened: No such file or directory"),
        ("bad.jsonl", 1, "line 1: broken JSON, expected value at column 1"),
    ]
    assert converted.found.ignored == {".pdf": 1}
    assert pq.read_schema(tmp_path / "out" / "shard_00000.parquet").names == ["text"]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from("абвгдежзік"), min_size=1, max_size=12), st.sampled_from([0.01, 0.3, 0.9]))
def test_the_last_shard_shares_no_text_with_the_others(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], val_frac: float
) -> None:
    folder = tmp_path_factory.mktemp("copies")
    (folder / "a.jsonl").write_text("".join(f'"{text}"\n' for text in texts), encoding="utf-8")
    if len(set(texts)) == 1:
        with pytest.raises(DataError, match=r"a\.jsonl holds only one distinct document.*val_frac=0 for one shard"):
            convert(folder / "a.jsonl", folder / "out", val_frac=val_frac)
        assert not (folder / "out").exists()
        convert(folder / "a.jsonl", folder / "out", val_frac=0.0)
        assert shards_of(folder / "out") == [texts]
        return
    convert(folder / "a.jsonl", folder / "out", shard_bytes=4, val_frac=val_frac)
    *train, val = shards_of(folder / "out")
    assert train
    assert val
    assert not set(val) & set(itertools.chain(*train))
    assert Counter([*val, *itertools.chain(*train)]) == Counter(texts)


def test_the_last_shard_is_a_sample_of_everything_and_languages_can_be_added(tmp_path: Path) -> None:
    (tmp_path / "be.jsonl").write_text("".join(f'"Жыў-быў дзед нумар {n} каля ракі."\n' for n in range(1000)))
    (tmp_path / "en.jsonl").write_text("".join(f'"Once upon a time lived man {n} there."\n' for n in range(1000)))
    convert(tmp_path, tmp_path / "out", val_frac=0.2, with_language=True)
    val = pq.read_table(tmp_path / "out" / "shard_00001.parquet")
    assert val.schema.names == ["text", "language"]
    counts = Counter(val.column("language").to_pylist())
    assert counts.keys() == {"be", "en"}
    assert all(150 < count < 250 for count in counts.values())


def test_what_exists_is_not_overwritten_and_faults_leave_nothing(tmp_path: Path) -> None:
    write_corpus(tmp_path / "texts")
    out = tmp_path / "out"
    out.mkdir()
    convert(tmp_path / "texts", out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    for place in (out, tmp_path / "texts" / "one.txt"):
        with pytest.raises(DataError, match="is not an empty folder, and nothing is overwritten: give another out"):
            convert(tmp_path / "texts", place)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "texts" / "bad.jsonl").write_text("broken\n")
    cases: list[tuple[Path, dict[str, Any], type[BulbaError], str]] = [
        (tmp_path / "nowhere", {}, DataError, "does not exist"),
        (tmp_path / "blank.txt", {}, DataError, "holds no text at all"),
        (tmp_path / "texts", {"on_bad": "fail"}, DataError, r"bad\.jsonl, line 1: broken JSON"),
        (tmp_path / "texts", {"val_frac": 1.0}, ConfigError, "val_frac=1.0 must be a share"),
        (tmp_path / "texts", {"shard_bytes": 0}, ConfigError, "shard_mb must be above 0"),
    ]
    for path, changes, kind, sentence in cases:
        with pytest.raises(kind, match=sentence):
            convert(path, tmp_path / "new", **changes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blank.txt", "out", "texts"]


MEASURED = """
    import sys
    from pathlib import Path
    import psutil
    from tests.data.test_parquet_shards import convert
    peak = 0
    def look(done, total):
        global peak
        memory = psutil.Process().memory_info()
        peak = max(peak, memory.rss - memory.shared)
    for name in ("[0-2].jsonl", "*.jsonl"):
        convert(Path(sys.argv[1]) / name, Path(sys.argv[2]) / f"out{len(name)}", shard_bytes=8 << 20, progress=look)
        print(peak >> 20)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_texts(tmp_path: Path) -> None:
    line = "Жыў-быў дзед, жыла-была баба, і была ў іх курачка рабая. " * 20
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(10):
        with (texts / f"{number}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(f'"{number} {row} {line}"\n' for row in range(8_000))
    words = [sys.executable, "-c", textwrap.dedent(MEASURED), str(texts), str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    print(done.stdout)
    some, all_of_them = map(int, done.stdout.split())
    assert sum(path.stat().st_size for path in texts.iterdir()) > 150e6
    assert all_of_them - some < 40, "MB that ten files took more than three"


def test_the_command_says_what_it_wrote_and_left_out(tmp_path: Path) -> None:
    write_corpus(tmp_path / "texts")
    (tmp_path / "texts" / "bad.jsonl").write_text("broken\n")
    words = ["path=texts", "out=out", "shard_mb=0.005", "val_frac=0.1"]
    done = run_program("-m", "bulba", "data", "parquet", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    number = len(list((tmp_path / "out").iterdir()))
    assert "left out: bad.jsonl, 1 (line 1: broken JSON" in done.stdout
    assert "41 documents, " in done.stdout
    assert f"written: {number} shards in out, of which shard_{number - 1:05d}.parquet is for validation" in done.stdout
