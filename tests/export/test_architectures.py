"""Models that are no plain Llama in real llama.cpp: each has the logits and the greedy text that it has in Bulba."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from bulba.checkpoint import load_model
from bulba.export.architecture import read_architecture, write_out
from bulba.export.gguf import export_gguf
from bulba.export.rounding import reference_model
from bulba.export.types import GgufType
from tests.export.conftest import FEED, GPT2, QUATERNION, MakeCheckpoint

RMS = {"_target_": "bulba.model.norm.RMSNorm", "eps": 1e-6}
OCTONION = {"_target_": "bulba.attention.octonion.OctonionAttention", "rotor_gate": False}
SURREAL = {"_target_": "bulba.attention.surreal.SurrealAttention", "levels": 1, "omega": None}
SQUARED = FEED | {"activation": "relu_squared", "bias": False}
NANOCHAT: dict[str, Any] = {
    "norm": RMS | {"affine": False},
    "mlp": SQUARED,
    "qk_norm": True,
    "logit_cap": 15.0,
    "tie_embeddings": False,
}
LAYER_NORM = {"_target_": "bulba.model.norm.LayerNorm", "eps": 1e-5, "affine": False}


def stretched(kind: str) -> dict[str, Any]:
    return {"rope_scaling": {"type": kind, "factor": 4.0, "original_max_seq_len": 32}}


WIDE = {"hidden_size": 256, "intermediate_size": 512}  # whole blocks of the K-quants
KINDS: list[tuple[str, GgufType, dict[str, Any]]] = [
    ("qwen3", "f32", {"qk_norm": True}),
    ("qwen3", "q8_0", {"qk_norm": True, "norm": RMS | {"affine": False}, "tie_embeddings": False}),
    ("arcee", "f32", {"mlp": SQUARED}),
    ("apertus", "f32", NANOCHAT),
    ("apertus", "f16", {**NANOCHAT, "norm": RMS, "logit_cap": None}),
    ("gpt2", "f32", GPT2),
    ("gpt2", "bf16", {**GPT2, "position": "learned", "rope_base": None, "norm": LAYER_NORM}),
    ("gpt2", "f32", {**GPT2, "mlp": FEED | {"activation": "relu", "bias": True}}),
    ("gpt2", "f16", {**GPT2, "mlp": FEED | {"activation": "relu", "bias": False}, "attention_bias": False}),
    (
        "gpt2",
        "q8_0",
        {**GPT2, "mlp": FEED | {"activation": "relu", "bias": True}, "position": "none", "rope_base": None},
    ),
    ("gpt2", "f32", {**GPT2, "tie_embeddings": True, "num_kv_heads": 2}),
    ("llama", "f32", {"attention": QUATERNION}),
    ("llama", "q8_0", {"attention": OCTONION, "attention_bias": True}),
    ("qwen3", "f32", {"attention": OCTONION, "qk_norm": True}),
    ("gpt2", "f32", {**GPT2, "attention": QUATERNION}),
    ("llama", "f32", {"attention": SURREAL, "logit_cap": 3.0}),
    ("llama", "f32", stretched("linear")),
    ("llama", "f32", stretched("yarn")),
    ("qwen3", "f32", {**stretched("yarn"), "qk_norm": True}),
    ("llama", "q5_1", {}),
    ("llama", "q5_0", {"tie_embeddings": False}),
    ("llama", "q4_1", {}),
    ("llama", "q4_0", {"num_kv_heads": 4}),
    ("llama", "q4_k_m", {**WIDE, "num_layers": 4}),
    ("llama", "q5_k_m", {**WIDE, "intermediate_size": 96}),  # rows that fall back to q5_1 and q8_0
    ("qwen3", "q6_k", {**WIDE, "qk_norm": True, "tie_embeddings": False}),
    ("gpt2", "q4_k_m", {**GPT2, **WIDE, "num_kv_heads": 4}),
    ("llama", "iq4_nl", {}),
    ("llama", "iq4_xs", WIDE),
    ("llama", "q3_k_m", {**WIDE, "num_layers": 4}),
    ("qwen3", "iq3_s", {**WIDE, "qk_norm": True}),
    ("llama", "iq3_xxs", {**WIDE, "intermediate_size": 96}),  # rows that fall back to iq4_nl
]


@pytest.mark.parametrize(("name", "kind", "changes"), KINDS)
def test_llama_cpp_computes_what_bulba_does(
    make_checkpoint: MakeCheckpoint,
    tokenizer_json: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    kind: GgufType,
    changes: dict[str, Any],
) -> None:
    path = export_gguf(make_checkpoint(**changes), tokenizer_json, tmp_path / "tiny", kind)
    reader = gguf.GGUFReader(path)
    assert reader.fields["general.architecture"].contents() == name
    report = json.loads(path.with_suffix(".certificate.json").read_text(encoding="utf-8"))
    assert report["fault"] is None
    if kind == "f32":
        is_gelu = changes.get("mlp", {}).get("activation") == "gelu"
        assert report["max_difference_sd"] < (5e-3 if is_gelu else 1e-4)
        assert is_gelu or report["divergences"] == []
    cap = changes.get("logit_cap")
    assert ("bulba.difference" in reader.fields) == (cap is not None)
    assert (f"the soft cap of its logits, {cap:g}," in capsys.readouterr().out) if cap else True


@pytest.mark.parametrize("attention", [QUATERNION, OCTONION])
def test_hypercomplex_weights_are_written_out_whatever_the_block(
    make_checkpoint: MakeCheckpoint, attention: dict[str, Any]
) -> None:
    checkpoint = make_checkpoint(attention=attention)
    mixer: Any = load_model(checkpoint).layers[0].self_attn
    dense = mixer.dense_weights()["q_proj.weight"]
    rows = mixer.q_proj.weight.detach().numpy()
    torch.testing.assert_close(torch.from_numpy(write_out(rows, mixer.num_components)), dense, rtol=0, atol=0)
    np.testing.assert_array_equal(
        write_out(rows[2:4], mixer.num_components),
        dense.numpy()[2 * mixer.num_components :][: 2 * mixer.num_components],
    )
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(
            reference_model(checkpoint)(tokens), load_model(checkpoint)(tokens), rtol=1e-4, atol=1e-4
        )


def test_the_planner_of_a_capped_model_knows_what_the_file_cannot_say(make_checkpoint: MakeCheckpoint) -> None:
    model = read_architecture(make_checkpoint(**NANOCHAT), "a GGUF file")
    assert model.difference is not None
    assert "put 15 * tanh(logit / 15) in the place of every logit" in model.difference
    assert read_architecture(make_checkpoint(), "a GGUF file").difference is None
