"""INT8 folders: torchao's numbers, the text of the run, a quarter of the bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from bulba.checkpoint import load_model
from bulba.data.tokenizer import Tokenizer
from bulba.errors import CheckpointError, ExportError, UnsupportedError
from bulba.export import int8
from bulba.export.int8 import Int8Linear, export_int8, load_int8, quantize_int8
from bulba.generation.engine import SamplingOptions, generate_text
from bulba.run.generate import generate_command
from tests.conftest import ROOT
from tests.export.conftest import GPT2, MakeCheckpoint
from tests.model.tiny import tiny_gpt, tokens

ATTENTIONS = sorted({path.stem for path in (ROOT / "conf" / "attention").glob("*.yaml")} - {"hybrid"})


def folder_of(checkpoint: Path, tokenizer_json: Path, tmp_path: Path) -> Path:
    return export_int8(checkpoint, tokenizer_json, tmp_path / "out" / "tiny")


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_is_torchaos(bias: bool) -> None:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    torch.manual_seed(0)
    linear = nn.Linear(96, 64, bias=bias)
    ours, theirs = Int8Linear.of(linear), nn.Sequential(linear)
    quantize_(theirs, Int8DynamicActivationInt8WeightConfig())
    weight: Any = theirs[0].weight
    assert torch.equal(ours.weight, weight.qdata)
    torch.testing.assert_close(ours.scale, weight.scale.flatten())
    x_BTI = torch.randn(3, 7, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(x_BTI), theirs(x_BTI), rtol=0, atol=1e-5)


def test_no_token_feels_its_neighbours() -> None:
    layer = Int8Linear.of(nn.Linear(32, 16))
    x_BTI = torch.randn(2, 5, 32)
    louder_BTI = torch.cat([x_BTI[:, :4], 1000 * x_BTI[:, 4:]], 1)
    assert torch.equal(layer(x_BTI)[:, :4], layer(louder_BTI)[:, :4])
    assert torch.equal(layer(torch.zeros(1, 1, 32)), layer.bias.expand(1, 1, -1))


def test_the_folder_writes_what_the_quantized_model_writes(
    checkpoint: Path, tokenizer_json: Path, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(checkpoint, tokenizer_json, tmp_path)
    assert "14 linear layers, " in capsys.readouterr().out
    assert folder == tmp_path / "out" / "tiny-int8"
    quantized = load_model(checkpoint)
    quantize_int8(quantized)
    expected = generate_text(quantized, tokenizer, "Жыў-быў", SamplingOptions(max_new_tokens=20, temperature=0.0)).text
    generate_command(run=str(folder), prompt="Жыў-быў", max_new_tokens=20, temperature=0.0)
    assert capsys.readouterr().out == f"Жыў-быў{expected}\n"
    with pytest.raises(UnsupportedError, match="computes on a CPU alone: set device=cpu"):
        generate_command(run=str(folder), device="cuda")


def test_linear_layers_shrink_four_times_and_logits_stay_near(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(hidden_size=128, intermediate_size=256, tie_embeddings=False, init_std=0.05)
    exact, model = load_model(checkpoint), load_int8(folder_of(checkpoint, tokenizer_json, tmp_path))
    layers = [module for module in model.layers.modules() if isinstance(module, Int8Linear)]
    small = sum(layer.weight.nbytes + layer.scale.nbytes for layer in layers)
    large = sum(module.weight.nbytes for module in exact.layers.modules() if isinstance(module, nn.Linear))
    assert 3.8 < large / small < 4
    assert model.embed_tokens.weight.dtype == torch.float32
    assert isinstance(model.lm_head, nn.Linear)
    rows_BT = tokens(2, 40, exact.config["vocab_size"])
    with torch.no_grad():
        expected, got = (one.logits(one(rows_BT)) for one in (exact, model))
    assert 0 < (got - expected).std() < 0.05 * expected.std()


@pytest.mark.parametrize("name", ATTENTIONS)
def test_every_attention_decodes_as_it_reads(name: str) -> None:
    node: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "attention" / f"{name}.yaml"))
    model = tiny_gpt(attention=node, hidden_size=96)
    quantize_int8(model)
    assert any(isinstance(module, Int8Linear) for module in model.layers[0].self_attn.modules()) == (
        name not in ("quaternion", "octonion")
    )
    ids_BT = tokens(2, 9)
    cache = model.new_cache(2, 9)
    with torch.no_grad():
        whole = model.logits(model(ids_BT))
        parts = [model.logits(model(part_BT, cache=cache)) for part_BT in ids_BT.split([4, 1, 1, 3], 1)]
    # Another order of fp32 sums may round an activation to the next of 255 levels.
    assert (torch.cat(parts, 1) - whole).std() < 0.05 * whole.std()


def test_biases_are_kept(make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(**GPT2)
    model, exact = load_int8(folder_of(checkpoint, tokenizer_json, tmp_path)), load_model(checkpoint)
    assert torch.equal(model.layers[1].mlp.up_proj.bias, exact.layers[1].mlp.up_proj.bias)


def test_weights_that_are_not_finite_are_refused(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path
) -> None:
    def break_one(weights: dict[str, torch.Tensor]) -> None:
        weights["layers.1.mlp.up_proj.weight"][0, 0] = torch.inf

    with pytest.raises(ExportError, match=r"layers\.1\.mlp\.up_proj\.weight has values that are not finite"):
        folder_of(make_checkpoint(break_one), tokenizer_json, tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_damaged_folder_is_named(checkpoint: Path, tokenizer_json: Path, tmp_path: Path) -> None:
    folder = folder_of(checkpoint, tokenizer_json, tmp_path)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing or damaged"):
        load_int8(folder)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing or damaged"):
        load_int8(folder)
    manifest = json.loads((folder / "int8.json").read_text(encoding="utf-8"))
    (folder / "int8.json").write_text(json.dumps(manifest | {"format_version": 2}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="INT8 format 2 and this Bulba reads 1"):
        load_int8(folder)
    with pytest.raises(CheckpointError, match="is no INT8 folder"):
        load_int8(checkpoint)


def test_a_folder_that_reads_back_otherwise_is_not_kept(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "load_int8", lambda folder: load_model(checkpoint))
    with pytest.raises(ExportError, match="what was read back computes something else"):
        folder_of(checkpoint, tokenizer_json, tmp_path)
    assert not list((tmp_path / "out").iterdir())
