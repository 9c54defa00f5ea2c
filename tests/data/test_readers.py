"""Reading files: what is taken, what is left out and said, and what is refused."""

import csv
import gzip
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulba import _rust
from bulba.data.cleaning import Cleaning
from bulba.data.readers import find_files, formats, get_reader
from bulba.data.readers.base import FileReport, OnBad
from bulba.errors import DataError


@dataclass(frozen=True)
class Read:
    """What came of one file: what its reader says, what the shard counted, and the documents."""

    report: FileReport
    counts: dict[str, Any]
    texts: list[str]


def read(path: Path, on_bad: OnBad = "skip") -> Read:
    (found,) = find_files(path).files
    with tempfile.TemporaryDirectory() as folder:
        writer = _rust.ShardWriter(folder, Cleaning.none().as_dict())
        report = get_reader(found.format).read(path, writer, writer.begin_file(), on_bad, None)
        files = writer.finish()["files"]
        counts = files[0] if files else {"documents": 0, "empty": 0, "text_bytes": 0}
        if not counts["documents"]:
            return Read(report, counts, [])
        corpus = _rust.Corpus([(folder, 0, 0)])
        return Read(report, counts, [corpus.document(index)[0] for index in range(corpus.num_documents)])


def read_texts(path: Path) -> str:
    """All documents back to back."""
    return "".join(read(path).texts)


def test_every_reader_has_extensions_of_its_own() -> None:
    readers = {
        "text": ".txt .md .py .rs .js .ts .c .h .cpp .java .go .sh .sql",
        "json": ".json",
        "jsonl": ".jsonl .ndjson",
        "csv": ".csv .tsv",
        "parquet": ".parquet",
    }
    expected = {
        extension + packing: name
        for name, extensions in readers.items()
        for extension in extensions.split()
        for packing in ("", ".gz", ".zst")
    }
    assert formats() == expected


CYRILLIC = "Ранкам дзед запаліў печ, і ў хаце запахла бульбай. Вечером он ушёл домой. Її син поїхав до Києва.\n"
AT_ONCE = "after byte 0 of the unpacked text"

BAD: dict[str, tuple[str, bytes, str, str]] = {
    # name: (file, content, what skip records, what fail says)
    "text not UTF-8": ("a.txt", b"abc\xff", "byte 3", "not UTF-8 at byte 3"),
    "uncertain": ("a.md", "слова".encode("cp1251"), "byte 0", "byte 0 .perhaps windows-1251.*: convert it to UTF-8"),
    "seldom encoding": (
        "a.sql",
        CYRILLIC.encode("cp866", "ignore"),
        "byte 0",
        "looks like IBM866.: convert it to UTF-8",
    ),
    "binary": ("a.c", b"\x7fELF\2\1\1\0", "byte 7", "a zero byte, so this is a binary file"),
    "UTF-32": ("a.txt", "слова".encode("utf-32"), "byte 0", "this is UTF-32"),
    "gzip by another name": ("a.txt", gzip.compress(b"a"), "byte 0", "a gzip archive: let its name end in .gz"),
    "not a gzip archive": ("a.txt.gz", b"plain text", AT_ONCE, "the gzip archive is broken"),
    "gzip cut short": ("a.jsonl.gz", gzip.compress(b'"a"\n')[:-3], "after byte 4 of the unpacked text", "breaks off"),
    "empty zstd": ("a.csv.zst", b"", AT_ONCE, "the zstd archive breaks off"),
    "json not UTF-8": ("a.json", b'["a\xff"]', "byte 3", "not UTF-8 at byte 3"),
    "json broken off": ("a.json", b'["a", "b', "line 1", "a.json, line 1: broken JSON"),
    "json of numbers": ("a.json", b"[1]", "element 1", "a number where a string"),
    "json object": ("a.json", b'{"data": []}', "top level", "without `text`"),
    "json string": ("a.json", b'"a"', "top level", "a string where a list"),
    "empty json": ("a.json", b"", "line 1", "broken JSON"),
    "broken line": ("a.jsonl", b'"a"\n{"text": "b"\n', "line 2", "a.jsonl, line 2: broken JSON"),
    "line without text": ("a.jsonl", b'{"txt": "b"}\n', "line 1", "without `text`"),
    "text of another type": ("a.ndjson", b'{"text": 5}\n', "line 1", "`text` is not a string"),
    "line not UTF-8": ("a.jsonl", b'"a"\n"\xff"\n', "line 2", "not UTF-8 at byte 5"),
    "row not UTF-8": ("a.csv", b"text\n\xff\n", "line 2", "a.csv, line 2: `text` is not UTF-8"),
    "table without text": ("a.csv", b"body,url\n1,2\n", "line 1", "no column `text` in the header row, only body, url"),
    "empty table": ("a.tsv", b"", "line 1", "no header row with a column `text`"),
    "short row": ("a.csv", b"id,text\n1\n", "line 2", "1 fields where the header row has 2"),
    "open quote": ("a.csv", b'text\n"a\n', "line 2", "a quote that is not closed"),
    "lone surrogate": ("a.jsonl", b'"\\ud800"\n', "line 1", "broken JSON"),
    "not a parquet file": ("a.parquet", b"PAR1 and then nothing", "the file", "broken Parquet"),
    "empty parquet file": ("a.parquet", b"", "the file", "broken Parquet"),
    "packed parquet": ("a.parquet.gz", b"", "the file", "Parquet is compressed inside: unpack it"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_recorded_or_ends_the_reading(case: str, tmp_path: Path) -> None:
    name, content, place, sentence = BAD[case]
    path = tmp_path / name
    path.write_bytes(content)
    report = read(path).report
    assert report.num_rejected == 1
    assert report.rejects[0][0] == place
    with pytest.raises(DataError, match=sentence) as caught:
        read(path, "fail")
    assert name in str(caught.value)
    assert "data.on_bad=skip" in str(caught.value)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=8))
def test_all_formats_give_the_same_documents(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("formats")
    (folder / "a.json").write_text(json.dumps(texts))
    (folder / "b.json").write_text(json.dumps([{"text": text} for text in texts], ensure_ascii=False))
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    (folder / "c.jsonl").write_text(lines)
    (folder / "d.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), folder / "e.parquet")
    expected = "".join(_rust.normalize(text) for text in texts if text.strip() or _has_ink(text))
    for path in sorted(folder.glob("?.*")):
        assert read_texts(path) == expected, path.name


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), max_size=8), st.sampled_from(",;\t"))
def test_tables_as_python_writes_them(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("tables") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_NONNUMERIC)
        rows.writerows([["id", "text"], *([7, text] for text in texts)])
    assert read_texts(path) == "".join(_rust.normalize(text) for text in texts if text.strip() or _has_ink(text))


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-u", "utf-16", "utf-16-le", "utf-8-sig"])
@pytest.mark.parametrize("name", ["a.py", "a.txt.zst", "a.csv", "a.jsonl.gz"])
def test_other_encodings_are_converted_and_named(encoding: str, name: str, tmp_path: Path) -> None:
    text = CYRILLIC.encode(encoding, "ignore").decode(encoding)
    body = {".csv": f'text\n"{text}"\n', ".jsonl.gz": json.dumps(text, ensure_ascii=False)}.get(name[1:], text)
    content = body.encode(encoding)
    if name.endswith((".gz", ".zst")):
        codec = {"gz": "gzip", "zst": "zstd"}[name.rsplit(".", 1)[1]]
        content = pa.compress(content, codec=codec, asbytes=True)
    (tmp_path / name).write_bytes(content)
    found = read(tmp_path / name)
    report = found.report
    assert (found.texts, report.rejects) == ([text], [])
    name_of = {"cp1251": "windows-1251", "koi8-u": "KOI8-U", "utf-8-sig": "UTF-8"}
    assert report.encoding == name_of.get(encoding, "UTF-16LE")


def test_a_long_text_is_cut_and_the_cuts_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A line of this text.\n\n" * 2_000_000)
    found = read(tmp_path / "a.txt")
    assert (len(found.texts), found.report.num_cuts, found.counts["text_bytes"]) == (3, 2, 44_000_000)


def _has_ink(text: str) -> bool:
    # Python counts U+001C to U+001F as white space, Unicode (and Rust) does not.
    return any(character in "\x1c\x1d\x1e\x1f" for character in text)


def test_documents_are_normalised_and_empty_ones_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('"и\u0306"\n""\n"  \\n "\n\n{"text": "b"}\n', encoding="utf-8")
    found = read(path)
    assert (found.texts, found.counts["empty"], found.report.num_rejected) == (["й", "b"], 2, 0)


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    for name, text in [("a.txt", "a"), ("a.json", '["a"]'), ("a.jsonl", '"a"')]:
        (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8")
        assert read_texts(tmp_path / name) == "a"


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_takes_every_kind_of_string(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.array(["a", "b"], pa.string()).cast(kind)}), path)
    assert read_texts(path) == "ab"


def test_parquet_rejects_null_rows_and_rows_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    raw = pa.array([b"a", None, b"\xff", b"d"], pa.binary())
    column = pa.StringArray.from_buffers(4, *raw.buffers()[1:], raw.buffers()[0])
    pq.write_table(pa.table({"text": column}), path)
    found = read(path)
    assert found.texts == ["a", "d"]
    assert found.report.rejects == [("row 1", "`text` is null"), ("row 2", "not UTF-8 at byte 0 of the text")]
    with pytest.raises(DataError, match="row 1: `text` is null"):
        read(path, "fail")


def test_parquet_without_the_column_names_those_there(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for table, sentence in [
        ({"content": ["a"], "url": ["b"]}, "no column `text`, only content, url: rename the one"),
        ({"text": [1]}, "the column `text` holds int64, not strings: convert it"),
    ]:
        pq.write_table(pa.table(table), path)
        report = read(path).report
        assert report.num_rejected == 1
        assert sentence in report.rejects[0][1]
        with pytest.raises(DataError, match=f"a.parquet, the file: .*{sentence}"):
            read(path, "fail")


def test_folders_are_walked_in_order_and_the_rest_is_counted(tmp_path: Path) -> None:
    for name in ["b.txt", "a/z.md", "a/b/c.json", ".hidden.txt", ".git/x.txt", "x.pdf", "y.PDF", "README", "C.TXT"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    found = find_files(tmp_path)
    assert [file.name for file in found.files] == ["C.TXT", "a/b/c.json", "a/z.md", "b.txt"]
    assert found.ignored == {".pdf": 2, "hidden": 2, "no extension": 1}


def test_a_pattern_takes_what_it_matches(tmp_path: Path) -> None:
    names = [
        "a.jsonl",
        "b.txt",
        "d/a.jsonl",
        "d/e/f.JSONL.GZ",
        "d/e/f.jsonl",
        "d/.h/x.jsonl",
        "dd/a.jsonl",
        "d[1]/a.txt",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")

    def found(pattern: str) -> list[str]:
        return [file.name for file in find_files(tmp_path / pattern).files]

    assert found("*.jsonl") == ["a.jsonl"]
    assert found("**/*.jsonl") == ["a.jsonl", "d/a.jsonl", "d/e/f.jsonl", "dd/a.jsonl"]
    assert found("d/**") == ["a.jsonl", "e/f.JSONL.GZ", "e/f.jsonl"]
    assert found("d*/?.jsonl") == ["d/a.jsonl", "dd/a.jsonl"]
    assert found("[ab].*") == ["a.jsonl", "b.txt"]
    assert found("d[1]/a.txt") == ["a.txt"], "a name that exists is no pattern"
    assert find_files(tmp_path / "d/**").ignored == {"hidden": 1}
    (tmp_path / "d" / "up").symlink_to(tmp_path)
    assert found("**/e/*.jsonl") == ["d/e/f.jsonl"]
    with pytest.raises(DataError, match=r"\*\.csv matches no file: mend the pattern"):
        found("**/*.csv")
    with pytest.raises(DataError, match=r"matches nothing, as there is no folder .*nowhere"):
        found("nowhere/*.csv")


def test_odd_files_are_named_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "a.txt").write_text("x")
    found = find_files(tmp_path)
    assert ([file.name for file in found.files], found.ignored) == (["a.txt"], {"not a file": 1})
    with pytest.raises(DataError, match=r"pipe\.txt is neither a file nor a folder"):
        find_files(tmp_path / "pipe.txt")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"cannot read .*gone\.txt: No such file"):
        find_files(tmp_path)


def test_links_that_form_a_loop_are_walked_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("x")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert [file.name for file in find_files(tmp_path).files] == ["a/x.txt"]


def test_sources_that_hold_nothing_are_refused_with_the_formats(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        find_files(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no file.*\.json, \.jsonl, .*\.txt.*texts also with \.gz or \.zst"):
        find_files(tmp_path / "empty")
    (tmp_path / "book.pdf").write_text("x")
    with pytest.raises(DataError, match=r"1 \.pdf.*\.parquet"):
        find_files(tmp_path)
    with pytest.raises(DataError, match=r"book\.pdf is of a format that cannot be read.*\.parquet"):
        find_files(tmp_path / "book.pdf")


def test_a_reader_reports_progress_and_stops_when_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('"text"\n' * 1000)
    seen: list[tuple[int, int]] = []
    (tmp_path / "shard").mkdir()
    writer = _rust.ShardWriter(tmp_path / "shard", Cleaning.none().as_dict())
    get_reader("jsonl").read(path, writer, 0, "skip", lambda done, total: seen.append((done, total)))
    assert seen[-1] == (7000, 7000)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get_reader("jsonl").read(path, writer, 0, "skip", stop)


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    (tmp_path / "shard").mkdir()
    writer = _rust.ShardWriter(tmp_path / "shard", Cleaning.none().as_dict())
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"data\.on_bad: expected skip or fail, got ignore"):
        writer.add_file(tmp_path / "a.txt", "text", 0, on_bad="ignore")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="format: expected text, json, jsonl or csv, got pdf"):
        writer.add_file(tmp_path / "a.txt", "pdf", 0)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"cannot open .*b\.txt"):
        writer.add_file(tmp_path / "b.txt", "text", 0)
    writer.finish()
    with pytest.raises(DataError, match="a finished one"):
        writer.add_documents(["x"], 0)
