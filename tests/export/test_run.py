"""From a run or checkpoint folder to files, with the formats of conf/export."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from bulba.errors import CheckpointError, ConfigError
from bulba.export.run import export
from tests.conftest import ROOT

# One row for each file in conf/export: the options with which this file tries it.
CONTRACT: dict[str, dict[str, Any]] = {
    "hf": {},
    "gguf": {"verify": False},
    "onnx": {"verify": False},
    "int8": {},
    "handover": {"types": ["q8_0"], "verify": False},
}


def load_format(name: str, **changes: Any) -> dict[str, dict[str, Any]]:
    shared = OmegaConf.load(ROOT / "conf" / "export.yaml").export
    config = OmegaConf.create({"export": {**shared, name: OmegaConf.load(ROOT / "conf" / "export" / f"{name}.yaml")}})
    node: Any = OmegaConf.to_container(config, resolve=True)
    return {name: node["export"][name] | changes}


@pytest.fixture
def run(checkpoint: Path, tokenizer_json: Path, tmp_path: Path) -> Path:
    """A run folder with two checkpoints."""
    folder = tmp_path / "runs" / "2026_tiny"
    for step in (5, 10):
        shutil.copytree(checkpoint, folder / "checkpoints" / f"step_{step:08d}")
    (folder / "config.yaml").write_text("seed: 1\n", encoding="utf-8")
    shutil.copytree(tokenizer_json.parent, folder / "tokenizer", ignore=shutil.ignore_patterns("*.bin"))
    return folder


def test_every_format_is_tried_here() -> None:
    assert {path.stem for path in (ROOT / "conf" / "export").glob("*.yaml")} == set(CONTRACT)


@pytest.mark.parametrize("name", CONTRACT)
def test_a_format_writes_under_the_name_that_it_is_given(run: Path, name: str) -> None:
    (written,) = export(run, load_format(name, **CONTRACT[name]))
    assert written.parent == run / "export"
    assert written.name.startswith("2026_tiny-step_00000010-")
    assert [entry.name for entry in written.parent.iterdir()] == [written.name]


def test_a_run_becomes_several_formats_from_its_newest_checkpoint(run: Path) -> None:
    written = export(run, load_format("hf") | load_format("gguf", verify=False))
    name = "2026_tiny-step_00000010"
    assert written == [run / "export" / f"{name}-hf", run / "export" / f"{name}-f16-unproved.gguf"]
    assert all(path.exists() for path in written)


def test_one_checkpoint_of_a_run_and_another_folder(run: Path, tmp_path: Path) -> None:
    source = run / "checkpoints" / "step_00000005"
    written = export(source, load_format("hf"), tmp_path / "elsewhere")
    assert written == [tmp_path / "elsewhere" / "2026_tiny-step_00000005-hf"]


@pytest.mark.parametrize("place", ["tokenizer", "checkpoint"])
def test_a_lone_checkpoint_takes_the_tokenizer_beside_it(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, place: str
) -> None:
    shutil.copytree(tokenizer_json.parent, tmp_path / place, dirs_exist_ok=True)
    assert export(checkpoint, load_format("hf")) == [tmp_path / "export" / "checkpoint-hf"]


def test_a_missing_tokenizer_is_named(run: Path, checkpoint: Path) -> None:
    shutil.rmtree(run / "tokenizer")
    for source in (run, checkpoint):
        with pytest.raises(CheckpointError, match=r"has no tokenizer/tokenizer\.json, and a model is not exported"):
            export(source, load_format("hf"))


def test_a_tokenizer_that_is_not_the_runs_is_refused(run: Path) -> None:
    tokenizer = run / "tokenizer" / "tokenizer.json"
    fingerprint = hashlib.sha256(tokenizer.read_bytes()).hexdigest()
    (run / "run.json").write_text(json.dumps({"tokenizer_fingerprint": fingerprint}), encoding="utf-8")
    export(run, load_format("hf"), run / "right")
    # As many tokens, two of them in each other's place.
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    vocab = content["model"]["vocab"]
    first, second = list(vocab)[300:302]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    tokenizer.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"is not the tokenizer that .* was trained with \(its SHA-256 is not"):
        export(run, load_format("hf"), run / "wrong")
    assert not (run / "wrong").exists()


def test_a_run_without_checkpoints_and_what_is_no_run_are_refused(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(CheckpointError, match="has no checkpoints"):
        export(run, load_format("hf"))
    with pytest.raises(CheckpointError, match="does not exist"):
        export(tmp_path / "nothing", load_format("hf"))


def test_a_damaged_checkpoint_is_refused_before_anything_is_written(run: Path) -> None:
    weights = run / "checkpoints" / "step_00000010" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="is missing or damaged"):
        export(run, load_format("hf"))
    assert not (run / "export").exists()


@pytest.mark.parametrize(
    ("formats", "fault"),
    [
        ({}, "no format is asked for"),
        (load_format("gguf", type="q3"), r"export\.gguf\.type='q3' must be one of f32, f16, bf16, q8_0"),
        (load_format("hf", typ="float32"), r"export\.hf\.typ is not an option of export_hf"),
        (load_format("hf", out="x"), r"export\.hf\.out is not an option of export_hf"),
        ({"x": {"_target_": "os.system"}}, r"export\.x\._target_=os\.system is not allowed"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(run: Path, formats: Any, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        export(run, load_format("hf") | formats if formats else {})
    assert not (run / "export").exists()
