"""The converter's file held against ours: what llama.cpp would do otherwise is a fault; the real one agrees."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest
from omegaconf import OmegaConf

import bulba.export.gguf as gguf_module
import bulba.export.witness as witness_module
from bulba.bench.converter import make_tokenizer
from bulba.errors import ConfigError, ExportError, UnsupportedError
from bulba.export.architecture import Architecture, GgufTensor, read_architecture
from bulba.export.certificate import Witness
from bulba.export.converter import find_converter, run_converter
from bulba.export.gguf import description, export_gguf, file_metadata, write_gguf
from bulba.export.hf import export_hf
from bulba.export.types import GgufType
from bulba.export.vocab import read_vocab
from bulba.export.witness import compare
from bulba.run.export import export_run
from tests.export.conftest import GPT2, QUATERNION, MakeCheckpoint
from tests.export.test_certificate import unpermuted

Write = Callable[..., Path]
MissingKey = object()


@pytest.fixture
def write(checkpoint: Path, tokenizer_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write the checkpoint as f16 with other metadata (MissingKey: without the key) or other tensors."""

    def file(
        name: str, metadata: dict[str, Any] | None = None, tensors: dict[str, GgufTensor] | None = None, **about: Any
    ) -> Path:
        model = read_architecture(about.pop("checkpoint", checkpoint), "a GGUF file")
        named = {tensor.name: tensor for tensor in model.tensors} | (tensors or {})
        model = replace(model, tensors=list(named.values()))

        def other_metadata(*given: Any) -> dict[str, Any]:
            found = file_metadata(*given) | (metadata or {})
            return {key: value for key, value in found.items() if value is not MissingKey}

        with monkeypatch.context() as patch:
            patch.setattr(gguf_module, "file_metadata", other_metadata)
            type: GgufType = about.pop("type", "f16")
            write_gguf(
                checkpoint, model, read_vocab(tokenizer_json), tmp_path / name, type, description(name, **about), {}
            )
        return tmp_path / name

    return file


def changed_keys(witness: Witness) -> set[str]:
    return {difference.key for difference in witness.differences}


def test_keys_that_change_nothing_are_listed_and_no_fault(write: Write) -> None:
    less = (
        "llama.attention.key_length",
        "llama.attention.value_length",
        "llama.rope.dimension_count",
        "llama.rope.freq_base",
        "llama.vocab_size",
        "tokenizer.ggml.add_bos_token",
        "tokenizer.ggml.add_eos_token",
        "general.type",
    )
    more = {
        "tokenizer.ggml.add_sep_token": False,
        "general.tags": ["x"],
        "general.sampling.temp": 0.1,
        "tokenizer.chat_template": "{{ x }}",
        "llama.rope.scaling.original_context_length": 64,
    }
    witness = compare(write("ours"), write("theirs", dict.fromkeys(less, MissingKey) | more, license="mit"))
    assert witness.fault is None
    assert witness.num_equal_tensors == 20
    assert changed_keys(witness) == {*less, *more, "general.name", "general.license"}
    assert not any(difference.matters for difference in witness.differences)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"llama.rope.freq_base": 5e5}, r"its llama\.rope\.freq_base is 500000\.0 where ours is 10000\.0"),
        ({"llama.attention.layer_norm_rms_epsilon": MissingKey}, r"it lacks llama\.attention\.layer_norm_rms_epsilon"),
        ({"llama.attention.head_count_kv": MissingKey}, "it lacks llama.attention.head_count_kv, which is 2 in ours"),
        ({"tokenizer.ggml.merges": MissingKey}, r"it lacks tokenizer\.ggml\.merges, which is a list of \d+ in ours"),
        ({"tokenizer.ggml.pre": "gpt-2"}, "its tokenizer.ggml.pre is 'gpt-2' where ours is 'llama-bpe'"),
        ({"tokenizer.ggml.eos_token_id": MissingKey}, r"it lacks tokenizer\.ggml\.eos_token_id, which is \d+ in ours"),
        ({"tokenizer.ggml.add_bos_token": False}, "its tokenizer.ggml.add_bos_token is False where ours is True"),
        ({"tokenizer.ggml.eot_token_id": 300}, r"it adds tokenizer\.ggml\.eot_token_id, 300"),
        ({"llama.rope.scaling.type": "yarn"}, r"it adds llama\.rope\.scaling\.type, 'yarn'"),
    ],
)
def test_metadata_that_changes_behaviour_is_a_fault_of_the_converter(
    write: Write, changes: dict[str, Any], fault: str
) -> None:
    witness = compare(write("ours"), write("theirs", changes))
    assert witness.fault is not None
    assert re.search(fault, witness.fault), witness.fault
    assert witness.num_equal_tensors == 20
    assert [difference.key for difference in witness.differences if difference.matters] == list(changes)


def test_a_rope_base_that_is_lost_is_a_fault_where_it_is_not_the_default(
    make_checkpoint: MakeCheckpoint, write: Write
) -> None:
    checkpoint = make_checkpoint(rope_base=5e5)
    lost = {"llama.rope.freq_base": MissingKey}
    witness = compare(write("ours", checkpoint=checkpoint), write("theirs", lost, checkpoint=checkpoint))
    assert witness.fault == "it lacks llama.rope.freq_base, which is 500000.0 in ours"


def test_tensors_are_held_against_each_other_to_the_last_byte(
    write: Write, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness_module, "BLOCK_BYTES", 1000)  # many blocks, and one that is not whole
    ours, theirs = write("ours"), write("theirs")
    content = bytearray(theirs.read_bytes())
    last = max(gguf.GGUFReader(theirs).tensors, key=lambda tensor: tensor.data_offset)
    content[last.data_offset + last.n_bytes - 1] ^= 1
    theirs.write_bytes(content)
    witness = compare(ours, theirs)
    assert witness.fault == f"its tensor {last.name} has other numbers than ours"
    assert witness.num_equal_tensors == 19


def test_tensors_of_another_order_shape_or_type_are_named(write: Write, checkpoint: Path) -> None:
    named = {tensor.name: tensor for tensor in read_architecture(checkpoint, "a GGUF file").tensors}
    query = unpermuted(named)
    assert compare(write("ours"), write("theirs", None, query)).fault == (
        "its tensor blk.1.attn_q.weight has other numbers than ours"
    )
    other = {"output.weight": replace(named["token_embd.weight"], name="output.weight")}
    assert compare(write("ours"), write("theirs", None, other)).fault == "ours lacks the tensor output.weight"
    assert compare(write("ours", None, other), write("theirs")).fault == "its file lacks the tensor output.weight"
    wide = {"token_embd.weight": replace(named["token_embd.weight"], storage="f32")}
    assert compare(write("ours"), write("theirs", None, wide)).fault == (
        "its tensor token_embd.weight has the type f32 where ours has f16"
    )


def test_what_is_no_gguf_file_is_said(write: Write, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"GGUX" + bytes(100))
    with pytest.raises(
        ExportError, match=r"the converter wrote what is no GGUF file \(.*\): give export.llama_cpp anoth"
    ):
        compare(write("ours"), tmp_path / "theirs")


@pytest.mark.parametrize(
    ("changes", "options", "error", "fault"),
    [
        ({}, {"type": "q4_0"}, ConfigError, "the converter of llama.cpp writes f32, f16, bf16, q8_0 and not q4_0"),
        ({}, {"verify": False}, ConfigError, r"export\.llama_cpp needs export\.gguf\.verify=true"),
        ({}, {}, ConfigError, r"export\.llama_cpp=.* holds no llama\.cpp"),
        (GPT2, {}, UnsupportedError, r"and this model is neither \(to llama\.cpp it is gpt2\)"),
        ({"logit_cap": 15.0}, {}, UnsupportedError, r"is neither \(it has model\.logit_cap=15\.0\); export without"),
    ],
)
def test_what_cannot_have_a_witness_is_refused_before_anything_is_written(
    make_checkpoint: MakeCheckpoint,
    tokenizer_json: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    options: dict[str, Any],
    error: type[Exception],
    fault: str,
) -> None:
    out = tmp_path / "out" / "tiny"
    settings: Any = {"type": "f16", "llama_cpp": str(tmp_path)} | options
    with pytest.raises(error, match=fault):
        export_gguf(make_checkpoint(**changes), tokenizer_json, out, **settings)
    assert not out.parent.exists()


def test_a_setting_that_no_chosen_format_takes_is_refused(checkpoint: Path) -> None:
    shared = {"license": None, "llama_cpp": "sdist", "push_to_hub": None}
    export = shared | {"hf": {"_target_": "bulba.export.hf.export_hf"}}
    with pytest.raises(ConfigError, match=r"export\.llama_cpp does nothing for hf: leave it out"):
        export_run(OmegaConf.create({"run": str(checkpoint), "out": None, "export": export}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("f16", {"tie_embeddings": False}),
        ("q8_0", {"qk_norm": True, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_seq_len": 32}}),
        ("bf16", {"attention": QUATERNION, "attention_bias": True, "intermediate_size": 80}),
    ],
)
def test_the_real_converter_writes_the_same_file(
    make_checkpoint: MakeCheckpoint,
    tokenizer_json: Path,
    tmp_path: Path,
    sdist: Path,
    capsys: pytest.CaptureFixture[str],
    kind: GgufType,
    changes: dict[str, Any],
) -> None:
    """The run is called as another model, which converters and llama.cpp look for."""
    out = tmp_path / "phi3-mini" / "phi3"
    path = export_gguf(make_checkpoint(**changes), tokenizer_json, out, kind, llama_cpp=str(sdist))
    assert "llama-cpp-python 0.3.36 wrote the same" in capsys.readouterr().out
    assert {file.name for file in out.parent.iterdir()} == {
        path.name,
        f"phi3-{kind}.certificate.json",
        f"phi3-{kind}.certificate.md",
    }
    certificate = json.loads(path.with_suffix(".certificate.json").read_text(encoding="utf-8"))
    witness = certificate["witness"]
    assert (certificate["fault"], witness["fault"]) == (None, None)
    assert witness["num_equal_tensors"] == certificate["num_tensors"]
    assert (witness["layout"], witness["class_name"]) == ("package conversion", "TextModel")
    assert witness["splitter_named_by"] == "Bulba"
    assert all(set(each) == {"key", "ours", "theirs", "matters"} for each in witness["differences"])
    page = path.with_suffix(".certificate.md").read_text(encoding="utf-8")
    assert "## Second witness" in page
    assert "wrote the same model." in page
    assert "| `general.name` | absent |" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("vocab_size", "fault"),
    [
        (32016, "it adds tokenizer.ggml.eot_token_id, 32010, and it takes every Llama of 32016 tokens for CodeLlama"),
        (49152, "add_bos_token is False where ours is True, and it takes every Llama of 49152 tokens for Granite"),
    ],
)
def test_numbers_of_tokens_that_the_converter_takes_for_other_models_are_named(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, sdist: Path, vocab_size: int, fault: str
) -> None:
    make_tokenizer(tmp_path / "tokenizer", vocab_size)
    tokenizer_json = tmp_path / "tokenizer" / "tokenizer.json"
    checkpoint = make_checkpoint(vocab_size=vocab_size)
    model: Architecture = read_architecture(checkpoint, "a GGUF file")
    write_gguf(checkpoint, model, read_vocab(tokenizer_json), tmp_path / "ours.gguf", "q8_0", {}, {})
    folder = export_hf(checkpoint, tokenizer_json, tmp_path / "model", "float32", verify=False)
    run_converter(find_converter(str(sdist)), folder, tmp_path / "theirs.gguf", "q8_0")
    witness = compare(tmp_path / "ours.gguf", tmp_path / "theirs.gguf")
    assert witness.fault is not None
    assert fault in witness.fault
    assert witness.num_equal_tensors == len(model.tensors)


@pytest.mark.slow
def test_a_witness_that_is_refused_leaves_our_file_and_says_so(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path
) -> None:
    """A converter that loses the rope base, as one of 2025 does beside transformers of today."""
    script = tmp_path / "llama.cpp" / "convert_hf_to_gguf.py"
    script.parent.mkdir()
    checkpoint = make_checkpoint(rope_base=5e5)
    lossy = tmp_path / "lossy.gguf"
    model = read_architecture(checkpoint, "a GGUF file")
    less = {key: value for key, value in model.metadata.items() if key != "llama.rope.freq_base"}
    write_gguf(checkpoint, replace(model, metadata=less), read_vocab(tokenizer_json), lossy, "f16", {}, {})
    script.write_text(
        "import shutil, sys\n"
        "class Model:\n    def get_vocab_base_pre(self, tokenizer):\n        raise NotImplementedError\n"
        "def main():\n    Model().get_vocab_base_pre(None)\n"
        f"    shutil.copy({str(lossy)!r}, sys.argv[sys.argv.index('--outfile') + 1])\n",
        encoding="utf-8",
    )
    with pytest.raises(
        ExportError,
        match=r"is no witness for tiny-f16\.gguf: it lacks llama\.rope\.freq_base, which is 500000\.0 in ours; tiny-f16"
        r"\.gguf has passed its own check and stays, and tiny-f16\.certificate\.md has every difference",
    ):
        export_gguf(checkpoint, tokenizer_json, tmp_path / "out" / "tiny", "f16", llama_cpp=str(script.parent))
    assert {file.suffix for file in (tmp_path / "out").iterdir()} == {".gguf", ".json", ".md"}
    page = (tmp_path / "out" / "tiny-f16.certificate.md").read_text(encoding="utf-8")
    assert "It behaves as the checkpoint does." in page
    assert "is no witness: it lacks llama.rope.freq_base" in page
    assert "| `llama.rope.freq_base` | 500000.0 | absent | otherwise |" in page
