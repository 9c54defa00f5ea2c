"""Duplicates: the binding against the definition, and planted near copies."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulba import _rust
from bulba.bench.dedup import TARGETS, TOLERANCE, jaccard, measure_dedup, plant
from bulba.errors import ConfigError, DataError

SENTENCE = "Мама мыла раму, а тата чытаў газету і піў гарбату з мёдам."


@given(st.lists(st.text("аб ", max_size=40), max_size=12), st.sampled_from([0.3, 0.8, 1.0]))
@settings(deadline=None)
def test_what_is_dropped_repeats_an_earlier_kept_text(texts: list[str], threshold: float) -> None:
    dropped = _rust.find_duplicates(texts, threshold)
    indices = [index for index, _, _, _ in dropped]
    assert indices == sorted(set(indices))
    for index, of, kind, index_of_sets in dropped:
        assert of < index
        assert of not in indices
        assert (kind == "exact") == (texts[of] == texts[index])
        if kind == "near":
            assert index_of_sets == jaccard(texts[index], texts[of]) >= threshold
    kept = [text for index, text in enumerate(texts) if index not in indices]
    assert len(set(kept)) == len(kept)
    if threshold >= 0.8:  # what the signatures are made for
        pairs = [(text, other) for text in kept for other in kept if text != other]
        assert not [pair for pair in pairs if jaccard(*pair) >= 0.95]


def test_spelling_does_not_hide_a_copy() -> None:
    shouted = SENTENCE.upper().replace(",", "").replace(" ", "\n")
    stressed = SENTENCE.replace("Мама", "Ма\u0301ма")
    texts = [SENTENCE, SENTENCE, shouted, stressed, "Мама мыла", "Мама мыла", "мама мыла"]
    assert _rust.find_duplicates(texts) == [
        (1, 0, "exact", 1.0),
        (2, 0, "near", 1.0),
        (3, 0, "near", 1.0),
        (5, 4, "exact", 1.0),  # four words and fewer have exact copies only
    ]


def test_sorting_through_files_gives_the_same(tmp_path: Path) -> None:
    rng = random.Random(0)
    words = [f"слова{number}" for number in range(300)]
    texts = [" ".join(words[start : start + 80]) for start in (rng.randrange(200) for _ in range(300))]
    expected = _rust.find_duplicates(texts, num_threads=1)
    assert {kind for _, _, kind, _ in expected} == {"exact", "near"}
    assert _rust.find_duplicates(texts, memory_bytes=1, num_threads=2, work_folder=tmp_path) == expected
    assert not list(tmp_path.iterdir())


def test_planted_copies_are_found_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    found = measure_dedup(pairs=20)
    printed = capsys.readouterr().out
    assert [row.target for row in found] == list(TARGETS)
    for row, least in zip(found, (0.75, 0.95, 1.0), strict=True):
        assert row.pairs == 20
        assert row.candidates >= least
        assert f"{row.candidates:.4f}" in printed
        if row.target == 0.7:
            assert row.recall is row.precision is None
        else:
            assert row.recall is not None
            assert row.recall >= 0.9
            assert row.precision == 1.0


@given(st.integers(50, 400), st.sampled_from(TARGETS), st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_a_planted_copy_has_the_index_asked_for(num_words: int, target: float, seed: int) -> None:
    rng = random.Random(seed)
    pair = plant([f"w{rng.randrange(10_000)}" for _ in range(num_words)], target, rng)
    assert pair.jaccard == jaccard(pair.passage, pair.copy)
    assert abs(pair.jaccard - target) <= TOLERANCE + 1e-9


def test_passages_can_come_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "long.txt").write_text(" ".join(f"слова{number}" for number in range(30_000)), encoding="utf-8")
    assert [row.recall for row in measure_dedup(str(tmp_path), pairs=1, threshold=0.75)] == [None, 1.0, 1.0]


def test_faults_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="min_jaccard: expected a number above 0 and at most 1, got 0"):
        _rust.find_duplicates([SENTENCE], 0.0)
    with pytest.raises(DataError, match="cannot create .*missing"):
        _rust.find_duplicates([SENTENCE, SENTENCE], memory_bytes=1, work_folder=tmp_path / "missing")
    with pytest.raises(DataError, match=re.escape("no edits bring a passage of 5 words to a Jaccard index of 0.8")):
        plant(SENTENCE.split()[:5], 0.8, random.Random(0))
    with pytest.raises(ConfigError, match=r"has no \.txt or \.md files"):
        measure_dedup(str(tmp_path))
    (tmp_path / "short.txt").write_text(SENTENCE, encoding="utf-8")
    with pytest.raises(ConfigError, match="too few words for so many pairs"):
        measure_dedup(str(tmp_path))


def test_progress_can_stop_the_search() -> None:
    def stop(done: int, total: int) -> None:
        raise RuntimeError(f"stopped at {done} of {total}")

    with pytest.raises(RuntimeError, match="stopped at 0 of 10"):
        _rust.find_duplicates([SENTENCE, SENTENCE], progress=stop)
