"""Models that transformers does not know open there with their own code, where Bulba is not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from safetensors.torch import load_file

from bulba.checkpoint import load_model, save_checkpoint
from bulba.data.tokenizer import Tokenizer
from bulba.errors import CheckpointError, ExportError, UnsupportedError
from bulba.export import hf, remote_code
from bulba.export.hf import export_hf
from bulba.export.remote_code import flatten, modelling_code, targets_source
from bulba.generation.engine import SamplingOptions, decode_tokens, seeded
from tests.attention.rows import ROWS
from tests.conftest import ROOT
from tests.export.conftest import SIZES, MakeCheckpoint
from tests.export.stranger import NUM_NEW, rows
from tests.model.tiny import TINY, tiny_gpt

ATTENTIONS = sorted(ROWS)
POST = {"norm_placement": "post", "position": "alibi", "rope_base": None}


def attention(name: str) -> dict[str, Any]:
    """The attention of a YAML file, with the options that reach all of it in short rows."""
    node: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "attention" / f"{name}.yaml"))
    return {key: value for key, value in node.items() if key != "defaults"} | ROWS[name].options


def preset(name: str) -> dict[str, Any]:
    """What a preset of conf/model says beside its sizes."""
    node: Any = OmegaConf.load(ROOT / "conf" / "model" / f"{name}.yaml")
    for base in node.pop("defaults", []):
        if base != "_self_":
            node = OmegaConf.merge(preset(base), node)
    node["attention"] = attention("standard")
    plain: Any = OmegaConf.to_container(node)
    return {key: value for key, value in plain.items() if key not in ("_target_", *SIZES, "num_layers", "init_std")}


def kinds() -> dict[str, dict[str, Any]]:
    """By name, what each model is made of."""
    found = {name: {"attention": attention(name)} for name in ATTENTIONS}
    # Otherwise these are Llamas.
    found["standard"] |= POST
    found["quaternion"] |= {"norm_placement": "post"}
    found["octonion"] |= {"norm_placement": "post"}
    found["hybrid"] = {
        "attention": {
            "pattern": ["tropical", "reversible", "reversible", "standard"],
            "mixers": {name: attention(name) for name in ("tropical", "reversible", "standard")},
        },
        "num_layers": 4,
    }
    return found | {name: preset(name) | {"num_kv_heads": 4} for name in ("nanochat", "expert_tiny")}


KINDS = kinds()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tokenizer_json: Path, tokenizer: Tokenizer) -> Path:
    """A folder with a checkpoint NAME and the export NAME-hf of every kind."""
    home = tmp_path_factory.mktemp("folders")
    for name, changes in KINDS.items():
        model = tiny_gpt(**{"vocab_size": tokenizer.vocab_size, **SIZES, **changes})
        save_checkpoint(home / name, model.get_model_config(), model.state_dict(), {})
        export_hf(home / name, tokenizer_json, home / name, "float32", verify=False)
    return home


@pytest.fixture(scope="module")
def visited(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a process without Bulba found in them."""
    out = tmp_path_factory.mktemp("visited")
    script = ROOT / "tests" / "export" / "stranger.py"
    done = subprocess.run(
        [sys.executable, "-I", str(script), str(out), *(str(folders / f"{name}-hf") for name in KINDS)],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(out / "modules")},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def test_every_attention_is_here() -> None:
    assert set(KINDS) >= {path.stem for path in (ROOT / "conf" / "attention").glob("*.yaml")}


@pytest.mark.parametrize("name", KINDS)
def test_a_stranger_computes_what_bulba_computes(folders: Path, visited: Path, name: str) -> None:
    model = load_model(folders / name)
    found = load_file(visited / f"{name}-hf.safetensors")
    tokens_BT, prompt_1T = rows(model.config["vocab_size"])
    with torch.no_grad():
        expected = model.logits(model(tokens_BT))
        alone = model.logits(model(tokens_BT[1:, :33]))[0]
    assert expected.std() > 0.3
    torch.testing.assert_close(found["logits"], expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(found["again"], expected, rtol=0, atol=1e-4)
    targets = tokens_BT[:, 1:].clone()
    targets[0, :4] = -100
    loss = F.cross_entropy(expected[:, :-1].flatten(0, 1), targets.flatten(), ignore_index=-100)
    torch.testing.assert_close(found["loss"], loss, rtol=0, atol=1e-4)
    for side in ("left", "right"):
        torch.testing.assert_close(found[side], alone, rtol=0, atol=1e-4)
    options = SamplingOptions(max_new_tokens=NUM_NEW, temperature=0.0)
    new = torch.stack(list(decode_tokens(model, prompt_1T, NUM_NEW, options, [seeded(0)])), 1)
    text = torch.cat([prompt_1T, new], 1)
    assert torch.equal(found["cached"], text)
    assert torch.equal(found["recomputed"], text)
    assert torch.equal(found["left_texts"], found["alone_text"])
    assert found["beams"].shape == text.shape
    assert found["gradient"].abs().sum() > 0


@pytest.mark.parametrize("name", KINDS)
def test_what_the_folder_cannot_do_is_said_in_a_sentence(visited: Path, tokenizer: Tokenizer, name: str) -> None:
    said = json.loads((visited / f"{name}-hf.json").read_text(encoding="utf-8"))
    assert said["ids"] == tokenizer.encode("Жыў-быў дзед")
    expected = {
        "padded cache": "padded rows cannot be decoded with a cache: set use_cache=False.",
        "holes": "attention_mask has zeros between ones: pad each row on one side only.",
        "too long": "the context of this model is 128 tokens, and the text would have 129: shorten the prompt or "
        "max_new_tokens.",
        "beams": "beam search cannot share a cache between beams: set use_cache=False.",
        "labels": "labels need the logits of all places: leave logits_to_keep at 0.",
        "rows": "a Bulba model has one row for each token of its own tokenizer and takes no others.",
    }
    name = said["refused"].pop("foreign name")
    assert name.startswith("_target_=os.system of config.json is not in this folder, which has bulba.")
    assert said["refused"] == expected


def test_the_export_proves_the_folder_in_a_process_without_bulba(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = make_checkpoint(**KINDS["hybrid"])
    folder = export_hf(checkpoint, tokenizer_json, tmp_path / "2026.1 x", "bfloat16")
    said = capsys.readouterr().out
    assert "texts have equal ids; logits differ by" in said
    assert "brings its own code: open it with trust_remote_code=True" in said
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["bulba"] == json.loads((checkpoint / "model.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda code: code | {"bulba_model_norm.py": "import bulba\n"}, r"without Bulba \(ModuleNotFoundError.*bulba"),
        (
            lambda code: {name: text.replace("F.rms_norm(", "2 * F.rms_norm(") for name, text in code.items()},
            "a logit in transformers is .* from Bulba's",
        ),
    ],
)
def test_a_folder_whose_code_does_not_run_or_computes_otherwise_is_not_kept(
    make_checkpoint: MakeCheckpoint,
    tokenizer_json: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Any,
    fault: str,
) -> None:
    right = hf.modelling_code
    monkeypatch.setattr(hf, "modelling_code", lambda sizes: damage(right(sizes)))
    with pytest.raises(ExportError, match=f"the folder is not kept: .*{fault}"):
        export_hf(make_checkpoint(norm_placement="post"), tokenizer_json, tmp_path / "tiny", "float32")
    assert not (tmp_path / "tiny-hf").exists()


def test_only_what_the_config_names_goes_into_the_folder(folders: Path) -> None:
    names = {path.name for path in (folders / "tropical-hf").glob("*.py")}
    assert "bulba_attention_tropical.py" in names
    assert not names & {"bulba_attention_surreal.py", "bulba_attention_standard.py", "bulba_kernels_tropical.py"}


def test_parts_from_elsewhere_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="its part os.system is not Bulba's"):
        targets_source(["os.system"])


def test_weights_that_do_not_fit_the_model_are_refused(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(norm_placement="post")
    sizes = json.loads((checkpoint / "model.json").read_text(encoding="utf-8"))
    sizes |= {"intermediate_size": 64, "num_params": None, "num_params_non_embedding": None}
    (checkpoint / "model.json").write_text(json.dumps(sizes), encoding="utf-8")
    with pytest.raises(CheckpointError, match="is a checkpoint of another shape"):
        export_hf(checkpoint, tokenizer_json, tmp_path / "tiny", "float32")


def test_imports_become_relative_and_kernels_an_error() -> None:
    source = (
        '"""Дзень."""\n\nimport math\nfrom bulba.model.norm import (\n    RMSNorm,\n)\n\n\n'
        "def f():\n    from bulba.kernels import tropical as kernels\n\n    return kernels\n"
    )
    text, needed = flatten("bulba.model.x", source)
    assert needed == ["bulba.model.norm"]
    assert "from .bulba_model_norm import (\n    RMSNorm,\n)" in text
    assert "import math" in text
    space: dict[str, Any] = {}
    exec(text[text.index("def f") :], space)
    with pytest.raises(NotImplementedError, match=r"bulba\.kernels: this folder has no Triton kernels"):
        space["f"]()


def test_code_that_needs_another_library_does_not_pass() -> None:
    with pytest.raises(AssertionError, match="a reader of the folder need not have"):
        flatten("bulba.model.x", "def f():\n    import psutil\n")


def test_the_code_holds_nothing_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    files = modelling_code({**TINY, "attention": attention("surreal")})
    assert set(remote_code.SUBSTITUTES.values()) <= {f"{remote_code.HERE}{Path(name).stem}" for name in files}
    for name, text in files.items():
        compile(text, name, "exec")
        assert "omegaconf" not in text
        assert str(ROOT) not in text
