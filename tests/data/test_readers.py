"""Reading files: what is taken, what is left out and said, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulba import _rust
from bulba.data.readers import find_files, formats, get_reader
from bulba.data.readers.base import FileReport, OnBad
from bulba.errors import DataError


def read(path: Path, on_bad: OnBad = "skip") -> FileReport:
    (found,) = find_files(path).files
    writer = _rust.CorpusWriter(path.with_name("corpus"))
    report = get_reader(found.format).read(path, writer, 0, on_bad, None)
    assert writer.num_documents == report.documents
    assert writer.text_bytes == report.text_bytes
    writer.finish()
    return report


def read_texts(path: Path) -> str:
    """All documents back to back."""
    read(path)
    return path.with_name("corpus.text").read_bytes().decode()


def test_every_reader_has_extensions_of_its_own() -> None:
    assert set(formats()) == {".txt", ".md", ".json", ".jsonl", ".parquet"}


BAD: dict[str, tuple[str, bytes, str, str]] = {
    # name: (file, content, what skip records, what fail says)
    "text not UTF-8": ("a.txt", b"abc\xff", "byte 3", "not UTF-8 at byte 3"),
    "markdown not UTF-8": ("a.md", "слова".encode("cp1251"), "byte 0", "not UTF-8 at byte 0"),
    "UTF-16": ("a.txt", "слова".encode("utf-16"), "byte 0", "looks like UTF-16"),
    "json not UTF-8": ("a.json", b'["a\xff"]', "byte 3", "not UTF-8 at byte 3"),
    "json broken off": ("a.json", b'["a", "b', "line 1", "a.json, line 1: broken JSON"),
    "json of numbers": ("a.json", b"[1]", "element 1", "a number where a string"),
    "json object": ("a.json", b'{"data": []}', "top level", "without `text`"),
    "empty json": ("a.json", b"", "line 1", "broken JSON"),
    "broken line": ("a.jsonl", b'"a"\n{"text": "b"\n', "line 2", "a.jsonl, line 2: broken JSON"),
    "line without text": ("a.jsonl", b'{"txt": "b"}\n', "line 1", "without `text`"),
    "text of another type": ("a.jsonl", b'{"text": 5}\n', "line 1", "`text` is not a string"),
    "line not UTF-8": ("a.jsonl", b'"a"\n"\xff"\n', "line 2", "not UTF-8 at byte 5"),
    "lone surrogate": ("a.jsonl", b'"\\ud800"\n', "line 1", "broken JSON"),
    "not a parquet file": ("a.parquet", b"PAR1 and then nothing", "the file", "broken Parquet"),
    "empty parquet file": ("a.parquet", b"", "the file", "broken Parquet"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_recorded_or_ends_the_reading(case: str, tmp_path: Path) -> None:
    name, content, place, sentence = BAD[case]
    path = tmp_path / name
    path.write_bytes(content)
    report = read(path)
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
    (folder / "c.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), folder / "d.parquet")
    expected = "".join(_rust.normalize(text) for text in texts if text.strip() or _has_ink(text))
    for path in sorted(folder.glob("?.*")):
        assert read_texts(path) == expected, path.name


def _has_ink(text: str) -> bool:
    # Python counts U+001C to U+001F as white space, Unicode (and Rust) does not.
    return any(character in "\x1c\x1d\x1e\x1f" for character in text)


def test_documents_are_normalised_and_empty_ones_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('"и\u0306"\n""\n"  \\n "\n\n{"text": "b"}\n', encoding="utf-8")
    report = read(path)
    assert (report.documents, report.empty, report.num_rejected) == (2, 2, 0)
    assert read_texts(path) == "йb"


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
    report = read(path)
    assert report.documents == 2
    assert [place for place, _ in report.rejects] == ["row 1", "row 2"]
    with pytest.raises(DataError, match="row 1: `text` is null"):
        read(path, "fail")


def test_parquet_without_the_column_names_those_there(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"content": ["a"], "url": ["b"]}), path)
    with pytest.raises(DataError, match=r"no column 'text', only content, url"):
        read(path)
    pq.write_table(pa.table({"text": [1]}), path)
    with pytest.raises(DataError, match="holds int64, not strings"):
        read(path)


def test_folders_are_walked_in_order_and_the_rest_is_counted(tmp_path: Path) -> None:
    for name in ["b.txt", "a/z.md", "a/b/c.json", ".hidden.txt", ".git/x.txt", "x.pdf", "y.PDF", "README", "C.TXT"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    found = find_files(tmp_path)
    assert [file.name for file in found.files] == ["C.TXT", "a/b/c.json", "a/z.md", "b.txt"]
    assert found.ignored == {".pdf": 2, "hidden": 2, "no extension": 1}


def test_links_that_form_a_loop_are_walked_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("x")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert [file.name for file in find_files(tmp_path).files] == ["a/x.txt"]


def test_sources_that_hold_nothing_are_refused_with_the_formats(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        find_files(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no file.*\.json, \.jsonl, \.md, \.parquet, \.txt"):
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
    writer = _rust.CorpusWriter(tmp_path / "corpus")
    get_reader("jsonl").read(path, writer, 0, "skip", lambda done, total: seen.append((done, total)))
    assert seen[-1] == (7000, 7000)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get_reader("jsonl").read(path, writer, 0, "skip", stop)


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    writer = _rust.CorpusWriter(tmp_path / "corpus")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"data\.on_bad: expected skip or fail, got ignore"):
        writer.add_file(tmp_path / "a.txt", "text", 0, on_bad="ignore")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="format: expected text, json or jsonl, got pdf"):
        writer.add_file(tmp_path / "a.txt", "pdf", 0)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"cannot open .*b\.txt"):
        writer.add_file(tmp_path / "b.txt", "text", 0)
    writer.finish()
    with pytest.raises(DataError, match="a finished one"):
        writer.add_documents(["x"], 0)
