"""Planted faults: each is found in the file, and the sentence names its cause; a sound file gets its certificate."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bulba.export.gguf as gguf_module
from bulba.errors import ConfigError, ExportError
from bulba.export.architecture import Architecture, Filled, GgufTensor, Weight, read_architecture
from bulba.export.gguf import file_metadata, write_gguf
from bulba.export.hard_strings import HARD_STRINGS
from bulba.export.splits import splits_fault
from bulba.export.types import GgufType
from bulba.export.verify import certify
from bulba.export.vocab import Vocab, read_vocab
from bulba.run.verify import verify_command
from tests.export.conftest import MakeCheckpoint

Change = Callable[[Architecture, Vocab], tuple[Architecture, Vocab]]


def with_metadata(**changes: Any) -> Change:
    """Keys of the architecture, dots as __; None takes one away."""

    def change(model: Architecture, vocab: Vocab) -> tuple[Architecture, Vocab]:
        metadata = dict(model.metadata)
        for name, value in changes.items():
            key = f"{model.name}.{name.replace('__', '.')}"
            assert key in metadata
            metadata |= {key: value}
        return replace(model, metadata={key: value for key, value in metadata.items() if value is not None}), vocab

    return change


def with_tensors(edit: Callable[[dict[str, GgufTensor]], dict[str, GgufTensor]]) -> Change:
    def change(model: Architecture, vocab: Vocab) -> tuple[Architecture, Vocab]:
        named = {tensor.name: tensor for tensor in model.tensors}
        return replace(model, tensors=list((named | edit(named)).values())), vocab

    return change


def unpermuted(named: dict[str, GgufTensor]) -> dict[str, GgufTensor]:
    tensor = named["blk.1.attn_q.weight"]
    (part,) = tensor.parts
    assert isinstance(part, Weight)
    return {tensor.name: replace(tensor, parts=(replace(part, change=None),))}


def swapped_norms(named: dict[str, GgufTensor]) -> dict[str, GgufTensor]:
    first, second = named["blk.0.attn_norm.weight"], named["blk.0.ffn_norm.weight"]
    return {first.name: replace(first, parts=second.parts), second.name: replace(second, parts=first.parts)}


def padded_rows(named: dict[str, GgufTensor]) -> dict[str, GgufTensor]:
    tensor = named["token_embd.weight"]
    more = Filled(0.0, (16, tensor.shape[1]))
    return {tensor.name: replace(tensor, shape=(tensor.shape[0] + 16, tensor.shape[1]), parts=(*tensor.parts, more))}


def padded_vocabulary(model: Architecture, vocab: Vocab) -> tuple[Architecture, Vocab]:
    model, _ = with_tensors(padded_rows)(model, vocab)
    size = len(vocab.tokens) + 16
    model, _ = with_metadata(vocab_size=size)(replace(model, config={**model.config, "vocab_size": size}), vocab)
    return model, replace(vocab, tokens=[*vocab.tokens, *(f"[PAD{n}]" for n in range(16))])


PLANTED: list[tuple[Change, str]] = [
    (with_tensors(unpermuted), "attn_q.weight is .* its rows are in the order of the checkpoint, and were not changed"),
    (
        with_tensors(swapped_norms),
        "attn_norm.weight is .* no more than 0: it holds what belongs into blk.0.ffn_norm",
    ),
    (with_tensors(padded_rows), r"token_embd.weight is \d+ x 64 where the checkpoint has \d+ x 64"),
    (padded_vocabulary, r"the metadata llama.vocab_size is \d+ where the checkpoint has \d+"),
    (
        with_metadata(rope__freq_base=None),
        "the metadata llama.rope.freq_base is absent where the checkpoint has 1000",
    ),
    (
        with_metadata(rope__freq_base=10001.0),
        "llama.rope.freq_base is 10001.0 where the checkpoint has 10000.0",
    ),
    (
        with_metadata(attention__layer_norm_rms_epsilon=1e-6),
        "rms_epsilon is .* where the checkpoint has 1e-05",
    ),
    (lambda model, vocab: (model, replace(vocab, eos_id=vocab.bos_id)), r"eos_token_id is \d+ where the checkpoint"),
]


def fault_of(checkpoint: Path, tokenizer_json: Path, file: Path, change: Change, kind: GgufType = "f32") -> str | None:
    model, vocab = read_architecture(checkpoint, "a GGUF file"), read_vocab(tokenizer_json)
    write_gguf(checkpoint, *change(model, vocab), file, kind, {}, {})
    return certify(file, file.name, checkpoint, tokenizer_json, kind, {}).fault


@pytest.mark.parametrize(("change", "sentence"), PLANTED)
def test_a_planted_fault_is_named(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, change: Change, sentence: str
) -> None:
    fault = fault_of(checkpoint, tokenizer_json, tmp_path / "planted.gguf", change)
    assert fault is not None
    assert re.search(sentence, fault), fault


@pytest.mark.parametrize("kind", ["f16", "q8_0", "q4_0"])
def test_unpermuted_rows_are_named_in_every_type(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, kind: GgufType
) -> None:
    fault = fault_of(checkpoint, tokenizer_json, tmp_path / "planted.gguf", with_tensors(unpermuted), kind)
    assert fault is not None
    assert "its rows are in the order of the checkpoint" in fault


@pytest.mark.parametrize(("key", "value"), [("tokenizer.ggml.pre", "gpt-2"), ("tokenizer.ggml.add_bos_token", False)])
def test_a_wrong_key_of_the_tokenizer_is_named(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: Any
) -> None:
    monkeypatch.setattr(gguf_module, "file_metadata", lambda *given: file_metadata(*given) | {key: value})
    fault = fault_of(checkpoint, tokenizer_json, tmp_path / "planted.gguf", lambda *both: both)
    assert fault is not None
    assert fault.startswith(f"the metadata {key} is {value!r} where the checkpoint has")


def test_another_regex_under_the_same_name_is_seen_in_the_pieces(tokenizer_json: Path, tmp_path: Path) -> None:
    """The ids of this small vocabulary hide it for most texts."""
    assert splits_fault(tokenizer_json, HARD_STRINGS) is None
    spec = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    pattern = spec["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    pattern["Regex"] = pattern["Regex"].replace(r"\p{N}{1,3}", r"\p{N}{1,2}")
    other = tmp_path / "tokenizer.json"
    other.write_text(json.dumps(spec), encoding="utf-8")
    shutil.copy(tokenizer_json.with_name("tokenizer_config.json"), tmp_path)
    fault = splits_fault(other, HARD_STRINGS)
    assert fault is not None
    assert "under llama-bpe llama.cpp cuts the text" in fault
    assert "in Bulba and" in fault
    with pytest.raises(ExportError, match="cannot become a GGUF vocabulary: its pre_tokenizer Split pattern"):
        read_vocab(other)


def test_a_file_can_be_verified_anywhere(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.gguf"
    assert fault_of(checkpoint, tokenizer_json, file, lambda *both: both, "q5_0") is None
    shutil.copytree(tokenizer_json.parent, checkpoint.parent / "tokenizer")
    verify_command(file=str(file), run=str(checkpoint))
    assert "have equal ids" in capsys.readouterr().out
    certificate = json.loads((tmp_path / "mine.certificate.json").read_text(encoding="utf-8"))
    assert certificate["fault"] is None
    assert (certificate["type"], certificate["architecture"]) == ("q5_0", "llama")
    assert certificate["num_tensors"] == 20
    assert certificate["num_metadata"] > 25
    assert certificate["num_special"] == 3
    assert certificate["num_splits"] == len(HARD_STRINGS)
    page = (tmp_path / "mine.certificate.md").read_text(encoding="utf-8")
    assert "It behaves as the checkpoint does." in page
    assert certificate["sha256"] in page


def test_a_file_of_another_model_stays_and_the_exit_says_so(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path
) -> None:
    file, vocab = tmp_path / "mine.gguf", read_vocab(tokenizer_json)
    checkpoint = make_checkpoint()
    write_gguf(checkpoint, read_architecture(checkpoint, "a GGUF file"), vocab, file, "f16", {}, {})
    other = make_checkpoint(rope_base=5e4)
    shutil.copytree(tokenizer_json.parent, other.parent / "tokenizer")
    with pytest.raises(
        ExportError, match=r"^mine\.gguf is not the model of .*: the metadata llama\.rope\.freq_base is"
    ):
        verify_command(file=str(file), run=str(other))
    assert file.is_file()
    assert "**Rejected**" in (tmp_path / "mine.certificate.md").read_text(encoding="utf-8")


def test_what_is_no_gguf_is_said(checkpoint: Path, tokenizer_json: Path, tmp_path: Path) -> None:
    shutil.copytree(tokenizer_json.parent, checkpoint.parent / "tokenizer")
    with pytest.raises(ConfigError, match=r"there is no file .*absent\.gguf"):
        verify_command(file=str(tmp_path / "absent.gguf"), run=str(checkpoint))
    (tmp_path / "no.gguf").write_bytes(b"GGUX" + bytes(100))
    with pytest.raises(ExportError, match=r"no\.gguf is not a GGUF file that can be read"):
        verify_command(file=str(tmp_path / "no.gguf"), run=str(checkpoint))
