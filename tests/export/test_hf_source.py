"""A Hugging Face folder as the source of an export gives the files that the checkpoint behind it gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from bulba.errors import CheckpointError, UnsupportedError
from bulba.export.gguf import export_gguf
from bulba.export.hf import export_hf
from bulba.run.export import export_run, find_source
from tests.export.conftest import MakeCheckpoint

GAUGE: dict[str, Any] = {
    "_target_": "bulba.attention.gauge.GaugeAttention",
    "block_size": 4,
    "transport_values": True,
    "scale": 0.1,
    "rope_base": None,
}
KINDS: list[dict[str, Any]] = [
    {},
    {"tie_embeddings": False, "num_kv_heads": 1, "rope_base": 5e5, "attention_bias": True},
    {"qk_norm": True, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_seq_len": 32}},
]


def export_from(source: Path, **formats: dict[str, Any]) -> list[Path]:
    nodes = {name: {"_target_": f"bulba.export.{name}.export_{name}"} | node for name, node in formats.items()}
    shared = {"license": None, "llama_cpp": None, "push_to_hub": None}
    return export_run(OmegaConf.create({"run": str(source), "out": None, "export": shared | nodes}))


@pytest.mark.parametrize("changes", KINDS)
def test_the_gguf_is_that_of_the_checkpoint(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    checkpoint = make_checkpoint(**changes)
    direct = export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", "f32")
    folder = export_hf(checkpoint, tokenizer_json, tmp_path / "tiny", "float32", verify=False)
    (written,) = export_from(folder, gguf={"type": "f32"})
    assert written == folder / "export" / "tiny-hf-f32.gguf"
    ours, theirs = gguf.GGUFReader(direct), gguf.GGUFReader(written)
    assert ours.fields.keys() == theirs.fields.keys()
    for key in ours.fields.keys() - {"general.name"}:
        assert ours.fields[key].contents() == theirs.fields[key].contents(), key
    for one, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert (one.name, one.tensor_type) == (other.name, other.tensor_type)
        np.testing.assert_array_equal(one.data, other.data)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_what_transformers_saves_is_read(checkpoint: Path, tokenizer_json: Path, tmp_path: Path) -> None:
    folder = export_hf(checkpoint, tokenizer_json, tmp_path / "tiny", "float32", verify=False)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.norm.weight.mul_(2)
    model.save_pretrained(folder)
    (again,) = export_from(folder, hf={"dtype": "float32"})
    before, after = load_file(checkpoint / "model.safetensors"), load_file(again / "model.safetensors")
    torch.testing.assert_close(after["model.norm.weight"], 2 * before["model.norm.weight"])


def test_a_folder_with_bulbas_code_and_a_file_of_a_checkpoint(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(attention=GAUGE)
    folder = export_hf(checkpoint, tokenizer_json, tmp_path / "tiny", "float32", verify=False)
    (again,) = export_from(folder, hf={"dtype": "float32", "verify": False})
    assert json.loads((again / "config.json").read_text()) == json.loads((folder / "config.json").read_text())
    with pytest.raises(UnsupportedError, match="layer 0 mixes its tokens with GaugeAttention"):
        export_from(folder, gguf={"type": "f32"})
    assert find_source(str(checkpoint / "model.safetensors")) == checkpoint


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"model_type": "gemma3"}, "model_type=gemma3"),
        ({"hidden_act": "gelu"}, "hidden_act=gelu"),
        ({"mlp_bias": True}, "mlp_bias=True"),
        ({"head_dim": 32}, "head_dim=32 beside 4 heads and a width of 64"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rope_type=llama3"),
        ({"quantization_config": {"bits": 4}}, "quantization_config="),
    ],
)
def test_what_bulba_does_not_compute_is_refused_by_name(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, changes: dict[str, Any], fact: str
) -> None:
    folder = export_hf(checkpoint, tokenizer_json, tmp_path / "tiny", "float32", verify=False)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
    with pytest.raises(UnsupportedError, match=f"cannot be exported: its config.json has {fact}"):
        export_from(folder, gguf={"type": "f32"})


def test_a_folder_that_is_not_whole_is_refused(checkpoint: Path, tokenizer_json: Path, tmp_path: Path) -> None:
    folder = export_hf(checkpoint, tokenizer_json, tmp_path / "tiny", "float32", verify=False)
    config = (folder / "config.json").read_text(encoding="utf-8")
    for file, content, fault in (
        ("config.json", "{", "is no JSON"),
        ("config.json", config.replace('"hidden_size"', '"hidden"'), "does not describe a model"),
        ("config.json", config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'), "of another shape"),
        ("tokenizer.json", None, r"has no tokenizer\.json, and a model is not exported"),
        ("model.safetensors", "broken", "cannot be read"),
        ("model.safetensors", None, r"has no model\.safetensors: only a model in one safetensors file is read"),
    ):
        before = (folder / file).read_bytes()
        (folder / file).unlink()
        if content is not None:
            (folder / file).write_text(content, encoding="utf-8")
        with pytest.raises(CheckpointError, match=fault):
            export_from(folder, gguf={"type": "f32"})
        (folder / file).write_bytes(before)
    assert not (folder / "export").exists()
