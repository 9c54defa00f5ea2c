"""The benchmark of the GGUF writers: its tokenizer is one that both take, and its figures come from both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bulba.bench.converter import Turn, bench_converter, lines_of, make_tokenizer
from bulba.data.tokenizer import Tokenizer
from bulba.errors import ConfigError
from bulba.export.vocab import read_vocab


@pytest.mark.parametrize("vocab_size", [300, 32003])
def test_the_tokenizer_has_the_size_asked_for_and_gives_texts_back(tmp_path: Path, vocab_size: int) -> None:
    make_tokenizer(tmp_path / "tokenizer", vocab_size)
    path = tmp_path / "tokenizer" / "tokenizer.json"
    tokenizer = Tokenizer.load(path)
    assert tokenizer.vocab_size == len(read_vocab(path).tokens) == vocab_size
    ids = tokenizer.encode("Жыў-быў дзед, 2 + 2 = 4!", bos=False)
    assert tokenizer.decode(ids) == "Жыў-быў дзед, 2 + 2 = 4!"
    merges = json.loads(path.read_text(encoding="utf-8"))["model"]["merges"]
    assert len(merges) == vocab_size - 256 - 3


def test_a_ratio_is_of_one_round_and_the_median_is_shown() -> None:
    turns = [
        (
            Turn(process_s=theirs, work_s=theirs / 2, peak_bytes=2**22),
            Turn(process_s=3.0, work_s=ours, peak_bytes=2**20),
        )
        for theirs, ours in ((6.0, 1.0), (12.0, 1.0), (30.0, 3.0))
    ]
    assert lines_of(turns) == [
        ["process", "12.00 s", "3.00 s", "4.0x (2.0 to 10.0) as fast"],
        ["work", "6.00 s", "1.00 s", "5.0x (3.0 to 6.0) as fast"],
        ["added to an export", "12.00 s", "1.00 s", "10.0x (6.0 to 12.0) as fast"],
        ["peak memory", "4 MiB", "1 MiB", "4.0x (4.0 to 4.0) smaller"],
    ]


def test_what_cannot_be_measured_is_refused_first() -> None:
    with pytest.raises(ConfigError, match="the converter does not write q4_0; choose from"):
        bench_converter(types=["q4_0"])
    for wrong in ({"rounds": 0}, {"vocab_size": 259}, {"vocab_size": 70_000}):
        with pytest.raises(ConfigError, match="must be at least 1, and vocab_size="):
            bench_converter(**wrong)


@pytest.mark.slow
def test_both_programs_write_the_same_tensors(tmp_path: Path, sdist: Path) -> None:
    page = tmp_path / "page.md"
    words = ["model.num_layers=1"]
    bench_converter(str(sdist), ["murashka"], ["q8_0"], vocab_size=300, rounds=1, words=words, out=str(page))
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| murashka")]
    assert [row.split(" | ")[:3] for row in rows] == [["| murashka", "q8_0", "11"]] * 4
