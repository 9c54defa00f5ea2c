"""The Hugging Face folder opens offline in transformers and is the same model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from bulba.checkpoint import load_model
from bulba.data.tokenizer import Tokenizer
from bulba.errors import ExportError
from bulba.export.hf import export_hf
from bulba.generation.engine import SamplingOptions, generate_text
from tests.export.conftest import QUATERNION, MakeCheckpoint
from tests.hard_strings import HARD_STRINGS

SURREAL = {"_target_": "bulba.attention.surreal.SurrealAttention", "levels": 2, "omega": 4.0}
KINDS: list[dict[str, Any]] = [
    {},
    {"tie_embeddings": False, "num_kv_heads": 1, "rope_base": 5e5},
    {"attention_bias": True},
    {"norm": {"_target_": "bulba.model.norm.RMSNorm", "eps": 1e-6, "affine": False}},
    {"qk_norm": True},
    {"attention": QUATERNION, "attention_bias": True},
    {"rope_scaling": {"type": "linear", "factor": 4.0, "original_max_seq_len": 32}},
    {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_seq_len": 32}, "qk_norm": True},
]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("changes", KINDS)
def test_logits_and_greedy_text_equal_transformers(
    make_checkpoint: MakeCheckpoint,
    tokenizer_json: Path,
    tokenizer: Tokenizer,
    tmp_path: Path,
    changes: dict[str, Any],
) -> None:
    checkpoint = make_checkpoint(**changes)
    folder = export_hf(checkpoint, tokenizer_json, tmp_path / "out" / "tiny", "float32")
    assert folder == tmp_path / "out" / "tiny-hf"
    ours = load_model(checkpoint)
    theirs: Any = AutoModelForCausalLM.from_pretrained(folder)
    rows = torch.randint(tokenizer.vocab_size, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = ours.logits(ours(rows))
        torch.testing.assert_close(theirs(rows).logits, expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.5
    for prompt in ("", "Жыў-быў дзед"):
        text = generate_text(ours, tokenizer, prompt, SamplingOptions(max_new_tokens=25, temperature=0.0))
        ids = torch.tensor([tokenizer.encode(prompt)])
        written = theirs.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=25)
        new = written[0, ids.shape[1] :].tolist()
        assert new[: len(text.ids)] == text.ids
        assert text.finish_reason == "length" or new[len(text.ids)] == tokenizer.eos_id


def test_the_tokenizer_opens_in_transformers_with_equal_ids(
    checkpoint: Path, tokenizer_json: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    auto = AutoTokenizer.from_pretrained(export_hf(checkpoint, tokenizer_json, tmp_path / "tiny", "float32"))
    for text in HARD_STRINGS:
        if "<|" not in text:
            assert auto(text)["input_ids"] == tokenizer.encode(text), text
    assert (auto.bos_token_id, auto.eos_token_id, auto.pad_token_id) == (
        tokenizer.bos_id,
        tokenizer.eos_id,
        tokenizer.pad_id,
    )
    assert auto.model_max_length == 128


def test_the_folder_and_its_config(checkpoint: Path, tokenizer_json: Path, tmp_path: Path) -> None:
    folder = export_hf(checkpoint, tokenizer_json, tmp_path / "tiny", "bfloat16", license="cc0-1.0")
    assert {file.name for file in folder.iterdir()} >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
    }
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # Readers before transformers 5 know only these.
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 1e4
    assert config["torch_dtype"] == config["dtype"] == "bfloat16"
    assert config["num_key_value_heads"] == 2
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    assert (
        (folder / "README.md")
        .read_text(encoding="utf-8")
        .startswith("---\nlicense: cc0-1.0\nlibrary_name: transformers\n")
    )


def test_norms_without_gain_get_ones(make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path) -> None:
    folder = export_hf(make_checkpoint(**KINDS[3]), tokenizer_json, tmp_path / "tiny", "float32")
    weights = load_file(folder / "model.safetensors")
    for name in ("model.norm", "model.layers.1.input_layernorm", "model.layers.0.post_attention_layernorm"):
        assert torch.equal(weights[f"{name}.weight"], torch.ones(64))


POST_NORM = {"norm_placement": "post"}  # no class of transformers: the weights go as they are


@pytest.mark.parametrize("changes", [{"attention": QUATERNION}, POST_NORM | {"attention": SURREAL}])
def test_the_size_of_a_block_does_not_change_the_weights(
    make_checkpoint: MakeCheckpoint,
    tokenizer_json: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkpoint = make_checkpoint(**changes)
    whole = export_hf(checkpoint, tokenizer_json, tmp_path / "a", "float32", verify=False)
    monkeypatch.setattr("bulba.export.blocks.BLOCK_BYTES", 20 * 4 * 64)
    blocks = export_hf(checkpoint, tokenizer_json, tmp_path / "b", "float32", verify=False)
    assert (whole / "model.safetensors").read_bytes() == (blocks / "model.safetensors").read_bytes()
    weights = load_file(blocks / "model.safetensors")
    if "norm_placement" in changes:
        own = load_file(checkpoint / "model.safetensors")
        assert all(torch.equal(weights[f"model.{name.removeprefix('model.')}"], own[name]) for name in own)
        assert len(weights) == len(own)
    else:
        mixer: Any = load_model(checkpoint).mixers()[1]
        torch.testing.assert_close(weights["model.layers.1.self_attn.v_proj.weight"], mixer.v_proj.dense())


def test_weights_that_the_dtype_cannot_hold_are_refused(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(lambda weights: weights["embed_tokens.weight"][0].fill_(1e5))
    with pytest.raises(ExportError, match=r"model\.embed_tokens\.weight has values that torch\.float16 cannot hold"):
        export_hf(checkpoint, tokenizer_json, tmp_path / "tiny", "float16")
    assert not (tmp_path / "tiny-hf").exists()


def test_a_foreign_tokenizer_is_refused(make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="export with the tokenizer that the model was trained with"):
        export_hf(make_checkpoint(vocab_size=777), tokenizer_json, tmp_path / "tiny", "float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_check_passes_and_says_what_it_saw(
    make_checkpoint: MakeCheckpoint,
    tokenizer_json: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    dtype: Any,
) -> None:
    export_hf(make_checkpoint(), tokenizer_json, tmp_path / "tiny", dtype)
    assert "texts have equal ids; logits differ by" in capsys.readouterr().out


def test_a_folder_that_is_another_model_is_not_kept(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bulba.export import hf

    right = hf.hf_config
    monkeypatch.setattr(
        hf,
        "hf_config",
        lambda *given: (
            right(*given) | {"rope_theta": 7.0, "rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}
        ),
    )
    with pytest.raises(ExportError, match="the folder is not kept: a logit in transformers is"):
        export_hf(make_checkpoint(), tokenizer_json, tmp_path / "tiny", "float32")
    assert not (tmp_path / "tiny-hf").exists()
