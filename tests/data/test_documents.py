"""Documents in memory for measurements: the same as a preparation reads, and a fair share of large files."""

from pathlib import Path

import pytest

from bulba import _rust
from bulba.data.documents import documents
from bulba.errors import DataError
from tests.data.conftest import write_corpus


def test_every_document_comes_with_its_language(tmp_path: Path) -> None:
    expected = [_rust.normalize(text.removeprefix("\ufeff")) for text in write_corpus(tmp_path / "texts")]
    found = documents([tmp_path / "texts"])
    assert sorted(text for text, _ in found) == sorted(expected)
    assert {language for _, language in found} <= {"be", "ru", "uk", "en", "code", "other"}
    (tmp_path / "uk.txt").write_text("Їжачок приніс яблука до своєї хатки, бо надворі вже холодно.")
    assert documents([tmp_path / "uk.txt"])[0][1] == "uk"


def test_of_much_text_about_the_share_asked_for_is_taken(tmp_path: Path) -> None:
    for name in "ab":
        lines = (f'"{name} {number} {"слова " * 50}"\n' for number in range(4000))
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    texts = [text for text, _ in documents([tmp_path], max_bytes=400_000)]
    assert 200_000 < sum(len(text.encode()) for text in texts) < 800_000
    assert {text[0] for text in texts} == {"a", "b"}


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('"раз"\nзламано\n"два"\n')
    places: list[str] = []
    assert [text for text, _ in documents([tmp_path], on_skip=places.append)] == ["раз", "два"]
    assert len(places) == 1
    assert "a.jsonl, line 2: broken JSON" in places[0]
    with pytest.raises(DataError, match="does not exist"):
        documents([tmp_path / "absent"])
