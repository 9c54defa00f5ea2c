"""An ONNX folder is Bulba's model in onnxruntime: for any batch and length, with and without a past."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from omegaconf import OmegaConf

from bulba.attention.standard import StandardAttention
from bulba.checkpoint import load_model, save_checkpoint
from bulba.config.build import build, to_plain
from bulba.config.overrides import check
from bulba.data.tokenizer import Tokenizer
from bulba.errors import ExportError, UnsupportedError
from bulba.export import onnx as onnx_module
from bulba.export import verify_onnx
from bulba.export.onnx import export_onnx
from bulba.export.verify_onnx import Session
from bulba.generation.engine import SamplingOptions, generate_text
from tests.conftest import ROOT
from tests.export.conftest import GPT2, SIZES, MakeCheckpoint
from tests.model.tiny import tiny_gpt

REFUSED = {
    "braid": r"layer 0 \(BraidAttention\) multiplies the frames of all tokens in a number of steps that grows with",
    "fractal": r"layer 0 \(FractalAttention\) builds a tree whose number of levels grows with the text",
    "gauge": r"layer 0 \(GaugeAttention\) multiplies the frames of all tokens in a number of steps that grows with",
}
# What the options of conf/attention need of a tiny model, and windows that its texts cross.
FITTING: dict[str, dict[str, Any]] = {
    "octonion": {"hidden_size": 96},
    "simplicial": {"attention": {"window1_tokens": 5, "window2_tokens": 3}},
    "ultrametric": {"attention": {"num_digits": 2}},
}
MIXTURE = {
    "pattern": ["standard", "ultrametric", "surreal", "simplicial"],
    "num_layers": 4,
}


def attention_node(name: str) -> dict[str, Any]:
    node: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "attention" / f"{name}.yaml"))
    return node | FITTING.get(name, {}).get("attention", {})


def attentions() -> list[str]:
    return sorted({path.stem for path in (ROOT / "conf" / "attention").glob("*.yaml")} - {"hybrid"})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, tokenizer_json: Path) -> tuple[Path, Path]:
    """A checkpoint of a tiny Llama and its folder."""
    place = tmp_path_factory.mktemp("onnx")
    model = tiny_gpt(**SIZES, vocab_size=Tokenizer.load(tokenizer_json).vocab_size)
    save_checkpoint(place / "checkpoint", model.get_model_config(), model.state_dict(), {})
    return place / "checkpoint", export_onnx(place / "checkpoint", tokenizer_json, place / "out" / "tiny", "mit")


def test_logits_of_any_batch_and_length_with_and_without_a_past(exported: tuple[Path, Path]) -> None:
    checkpoint, folder = exported
    model, session = load_model(checkpoint), Session(folder / "model.onnx")
    for batch_size, lengths in [(1, [1, 1]), (5, [2, 7]), (2, [128]), (3, [40, 1, 1, 86])]:
        rows_BT = torch.randint(model.config["vocab_size"], (batch_size, sum(lengths)))
        with torch.no_grad():
            expected = model.logits(model(rows_BT)).numpy()
        found, past = [], session.start(batch_size)
        for part_BT in rows_BT.split(lengths, 1):
            logits, past = session.step(part_BT.numpy(), past)
            found.append(logits)
        np.testing.assert_allclose(np.concatenate(found, 1), expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.5


def test_the_readme_of_the_folder_writes_what_bulba_writes(exported: tuple[Path, Path], tokenizer: Tokenizer) -> None:
    checkpoint, folder = exported
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "license: mit" in readme
    program = readme.split("```python\n")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    options = SamplingOptions(max_new_tokens=50, temperature=0.0)
    expected = generate_text(load_model(checkpoint), tokenizer, "Аднойчы", options)
    assert done.stdout.rstrip("\n").encode() == ("Аднойчы" + expected.text).rstrip("\n").encode()


def test_the_folder_tells_what_was_measured_and_nothing_of_this_machine(exported: tuple[Path, Path]) -> None:
    _, folder = exported
    certificate = json.loads((folder / "onnx.certificate.json").read_text(encoding="utf-8"))
    assert 0 < certificate["max_logit_difference"] <= 1e-3
    assert certificate["num_positions"] > 300
    assert certificate["sha256"].keys() == {"model.onnx"}
    assert str(ROOT).encode() not in (folder / "model.onnx").read_bytes()
    onnx.checker.check_model(folder / "model.onnx", full_check=True)


@pytest.mark.slow
def test_weights_are_stored_once_and_large_ones_beside_the_graph(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_module, "ONE_FILE_BYTES", 1e6)
    # Matrices above what the exporter computes ahead.
    checkpoint = make_checkpoint(hidden_size=256, intermediate_size=256, num_layers=1)
    folder = export_onnx(checkpoint, tokenizer_json, tmp_path / "large", verify=True)
    assert (folder / "model.onnx").stat().st_size < 200_000
    weights = (checkpoint / "model.safetensors").stat().st_size
    assert weights * 0.9 < (folder / "model.onnx.data").stat().st_size < weights * 1.1
    certificate = json.loads((folder / "onnx.certificate.json").read_text(encoding="utf-8"))
    assert certificate["sha256"].keys() == {"model.onnx", "model.onnx.data"}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_graph_cannot_hold_is_refused_with_its_reason(
    name: str, make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path
) -> None:
    sizes = {"hidden_size": 96} if name == "braid" else {}
    checkpoint = make_checkpoint(attention=attention_node(name), **sizes, num_heads=6 if name == "braid" else 4)
    with pytest.raises(UnsupportedError, match=f"cannot become an ONNX file: {REFUSED[name]}"):
        export_onnx(checkpoint, tokenizer_json, tmp_path / "out" / "x")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(attentions()) - REFUSED.keys()))
def test_every_other_attention_is_exported_and_checked(
    name: str, make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path
) -> None:
    sizes = {key: value for key, value in FITTING.get(name, {}).items() if key != "attention"}
    checkpoint = make_checkpoint(attention=attention_node(name), **sizes)
    folder = export_onnx(checkpoint, tokenizer_json, tmp_path / "x")
    certificate = json.loads((folder / "onnx.certificate.json").read_text(encoding="utf-8"))
    assert certificate["decodes_with_past"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"attention": {"pattern": MIXTURE["pattern"]}, "num_layers": 4},
        GPT2 | {"position": "learned", "rope_base": None},
        {"position": "alibi", "rope_base": None},
        {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_seq_len": 32}, "qk_norm": True},
        {"norm_placement": "post", "position": "none", "rope_base": None},
        {"attention": {"_target_": "bulba.attention.reversible.ReversibleAttention", "inner": "ultrametric"}},
    ],
    ids=["mixture", "learned", "alibi", "yarn", "post", "reversible"],
)
def test_other_parts_of_models(
    changes: dict[str, Any], make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path
) -> None:
    attention = changes.get("attention", {})
    if "pattern" in attention:
        changes = changes | {
            "attention": attention | {"mixers": {name: attention_node(name) for name in attention["pattern"]}}
        }
    if "inner" in attention:
        changes = changes | {"attention": attention | {"inner": attention_node(attention["inner"])}}
    export_onnx(make_checkpoint(**changes), tokenizer_json, tmp_path / "x")


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["murashka", "nanochat", "expert_tiny"])
def test_presets(preset: str, tokenizer_json: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    node = to_plain(check([f"model={preset}"]).model)
    # As wide as it is, but few layers: what they are made of is what counts.
    model = build(node | {"num_layers": 2}, path="model", vocab_size=tokenizer.vocab_size)
    save_checkpoint(tmp_path / "checkpoint", model.get_model_config(), model.state_dict(), {})
    export_onnx(tmp_path / "checkpoint", tokenizer_json, tmp_path / "x")


def test_a_layer_without_cache_is_exported_for_whole_texts(
    make_checkpoint: MakeCheckpoint,
    tokenizer_json: Path,
    tokenizer: Tokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(StandardAttention, "capabilities", replace(StandardAttention.capabilities, cache=False))
    checkpoint = make_checkpoint()
    folder = export_onnx(checkpoint, tokenizer_json, tmp_path / "whole")
    assert "reads the whole text for every new token" in capsys.readouterr().out
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "takes no past" in readme
    program = readme.split("```python\n")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    options = SamplingOptions(max_new_tokens=50, temperature=0.0, cache=False)
    expected = generate_text(load_model(checkpoint), tokenizer, "Аднойчы", options)
    assert done.stdout.rstrip("\n") == ("Аднойчы" + expected.text).rstrip("\n")


def test_a_layer_that_cannot_be_traced_is_refused(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(self: Any, x_BTH: torch.Tensor, context: Any, cache: Any = None) -> torch.Tensor:
        return x_BTH if float(x_BTH.sum()) > 0 else -x_BTH

    monkeypatch.setattr(StandardAttention, "forward", forward)
    with pytest.raises(
        UnsupportedError, match=r"torch\.onnx does not follow its layers \(StandardAttention\)"
    ) as found:
        export_onnx(make_checkpoint(), tokenizer_json, tmp_path / "x")
    assert "\n" not in str(found.value)


def test_a_graph_that_computes_something_else_is_not_kept(
    exported: tuple[Path, Path],
    make_checkpoint: MakeCheckpoint,
    tokenizer_json: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["layers.0.mlp.up_proj.weight"][0, 0] += 0.5

    monkeypatch.setattr(onnx_module, "write_graph", lambda _, path: shutil.copy(exported[1] / "model.onnx", path))
    with pytest.raises(ExportError, match=r"not kept: for 1 row\(s\) of 1 tokens .* from Bulba's, over 0\.001"):
        export_onnx(make_checkpoint(change), tokenizer_json, tmp_path / "out" / "x")
    assert not list((tmp_path / "out").iterdir())


def test_another_greedy_text_is_not_kept(
    exported: tuple[Path, Path], tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, folder = exported
    other = load_model(checkpoint)
    other.embed_tokens.weight.data = other.embed_tokens.weight.data.flip(0)
    with pytest.raises(ExportError, match=r"after the prompt '' onnxruntime writes token \d+ at place 0 and Bulba"):
        verify_onnx.check_greedy(Session(folder / "model.onnx"), other, tokenizer, "")


def test_another_tokenizer_is_refused(make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"the tokenizer has \d+ tokens and .* 77 rows"):
        export_onnx(make_checkpoint(vocab_size=77), tokenizer_json, tmp_path / "x")


@pytest.mark.parametrize("module", ["onnxscript", "onnxruntime"])
def test_missing_libraries_are_named(
    module: str, checkpoint: Path, tokenizer_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExportError, match=rf"needs the Python package {module}.* 'bulba\[onnx\]'"):
        export_onnx(checkpoint, tokenizer_json, tmp_path / "x")
