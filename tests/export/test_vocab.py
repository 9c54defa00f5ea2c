"""A tokenizer.json that `llama-bpe` does not stand for is refused before it is labelled so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bulba.data.tokenizer import Tokenizer
from bulba.errors import BulbaError, ExportError
from bulba.export.vocab import read_vocab


def changed(tokenizer_json: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    shutil.copytree(tokenizer_json.parent, tmp_path / "tokenizer", ignore=shutil.ignore_patterns("*.bin"))
    path = tmp_path / "tokenizer" / "tokenizer.json"
    spec = json.loads(path.read_text(encoding="utf-8"))
    change(spec)
    path.write_text(json.dumps(spec), encoding="utf-8")
    return path


def pattern_as_plain_text(spec: dict[str, Any]) -> None:
    split = spec["pre_tokenizer"]["pretokenizers"][0]
    split["pattern"] = {"String": split["pattern"]["Regex"]}


CHANGES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda spec: spec["model"].update(ignore_merges=False), "model.ignore_merges is False"),
    (lambda spec: spec["model"].update(byte_fallback=True), "model.byte_fallback is True"),
    (lambda spec: spec["model"].update(dropout=0.1), "model.dropout is 0.1"),
    (lambda spec: spec["model"].update(type="Unigram"), "its model is Unigram, not BPE"),
    (lambda spec: spec.update(normalizer={"type": "Lowercase"}), "its normalizer Lowercase changes the text"),
    (lambda spec: spec.update(pre_tokenizer={"type": "ByteLevel"}), "Split pattern is None"),
    (pattern_as_plain_text, "Split pattern is {'String'"),
    (lambda spec: spec["pre_tokenizer"]["pretokenizers"][0].update(behavior="Removed"), "behavior is 'Removed'"),
    (lambda spec: spec["pre_tokenizer"]["pretokenizers"][1].update(use_regex=True), "use_regex is True"),
]


@pytest.mark.parametrize(("change", "fault"), CHANGES)
def test_another_pipeline_is_refused_by_name(
    tokenizer_json: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], fault: str
) -> None:
    path = changed(tokenizer_json, tmp_path, change)
    with pytest.raises(BulbaError, match="cannot") as caught:
        read_vocab(path)
    assert fault in str(caught.value)


@pytest.mark.parametrize("token", ["x", "!"])
def test_gaps_and_tokens_that_are_there_twice_are_refused(tokenizer_json: Path, tmp_path: Path, token: str) -> None:
    def add(spec: dict[str, Any]) -> None:
        last = max(entry["id"] for entry in spec["added_tokens"])
        copied = spec["added_tokens"][-1] | {"content": token, "id": last + (2 if token == "x" else 1)}
        spec["added_tokens"].append(copied)

    with pytest.raises(ExportError, match="has ids that are not 0 to|the same token twice"):
        read_vocab(changed(tokenizer_json, tmp_path, add))


def test_added_tokens_that_are_not_special_are_user_defined(tokenizer_json: Path, tmp_path: Path) -> None:
    def add(spec: dict[str, Any]) -> None:
        last = max(entry["id"] for entry in spec["added_tokens"])
        spec["added_tokens"].append(spec["added_tokens"][-1] | {"content": "<думка>", "id": last + 1, "special": False})

    path = changed(tokenizer_json, tmp_path, add)
    vocab, loaded = read_vocab(path), Tokenizer.load(path)
    assert vocab.user_defined == {len(vocab.tokens) - 1}
    assert vocab.control == {loaded.bos_id, loaded.eos_id, loaded.pad_id}
    assert vocab.tokens[-1] == "<думка>"
