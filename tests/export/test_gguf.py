"""GGUF files: what stands in them, and that real llama.cpp behaves as Bulba does on every kind of Llama model."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

import bulba.model.mlp as mlp
from bulba.data.tokenizer import Tokenizer
from bulba.errors import BulbaError, CheckpointError, ExportError, UnsupportedError
from bulba.export.blocks import made_ahead
from bulba.export.gguf import export_gguf
from bulba.export.rotary import interleave_halves
from bulba.export.types import GgufType
from tests.export.conftest import FEED, GPT2, QUATERNION, SWIGLU, MakeCheckpoint

RMS = "bulba.model.norm.RMSNorm"
ATTENTION = "bulba.attention.standard.StandardAttention"
KINDS: list[tuple[GgufType, dict[str, Any]]] = [
    ("f32", {}),
    ("f16", {"tie_embeddings": False, "num_kv_heads": 1, "rope_base": 5e5}),
    ("bf16", {"num_kv_heads": 4, "attention": {"_target_": ATTENTION, "bias": True}}),
    ("q8_0", {"tie_embeddings": False, "num_layers": 3}),
    ("f32", {"norm": {"_target_": RMS, "eps": 1e-6, "affine": False}, "max_seq_len": 20}),
]


def metadata(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def tensors(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def values(tensor: Any) -> NDArray[np.float32]:
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type)


@pytest.mark.parametrize(("kind", "changes"), KINDS)
def test_every_kind_of_llama_passes_the_gate(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path, kind: GgufType, changes: dict[str, Any]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"tiny-{kind}.gguf.rejected").write_bytes(b"of an earlier try")
    path = export_gguf(make_checkpoint(**changes), tokenizer_json, tmp_path / "out" / "tiny", kind)
    assert path == tmp_path / "out" / f"tiny-{kind}.gguf"
    report = json.loads(path.with_suffix(".certificate.json").read_text(encoding="utf-8"))
    assert report["fault"] is None
    assert report["num_strings"] >= 200
    assert report["num_tokens"] == len(metadata(path)["tokenizer.ggml.tokens"])
    assert report["num_prompts"] >= 20
    assert report["num_positions"] >= 64
    assert report["nfd_differences"] > 0
    assert 0 < report["max_difference_sd"] < report["limit_sd"]
    if kind == "f32":
        assert report["max_difference_sd"] < 1e-4
        assert report["divergences"] == []
    assert {entry.name for entry in path.parent.iterdir()} == {
        path.name,
        f"tiny-{kind}.certificate.json",
        f"tiny-{kind}.certificate.md",
    }


def test_metadata(checkpoint: Path, tokenizer_json: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", "f16", license="cc-by-sa-4.0", verify=False)
    found = metadata(path)
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"]
    vocabulary = json.loads(tokenizer_json.read_text(encoding="utf-8"))["model"]
    tokens = sorted(vocabulary["vocab"], key=vocabulary["vocab"].get)
    tokens = [token for token in tokens if token not in special] + special
    assert found.pop("tokenizer.ggml.tokens") == tokens
    assert found.pop("tokenizer.ggml.token_type") == [1] * (len(tokens) - 3) + [3, 3, 3]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in vocabulary["merges"]]
    assert found.pop("tokenizer.ggml.merges") == merges
    assert {name: value for name, value in found.items() if not name.startswith("GGUF.")} == {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "tiny",
        "general.license": "cc-by-sa-4.0",
        "general.file_type": 1,
        "general.quantization_version": 2,
        "llama.block_count": 2,
        "llama.context_length": 128,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 96,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 16,
        "llama.attention.value_length": 16,
        "llama.attention.layer_norm_rms_epsilon": pytest.approx(1e-5),
        "llama.rope.dimension_count": 16,
        "llama.rope.freq_base": 10000.0,
        "llama.vocab_size": tokenizer.vocab_size,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.bos_token_id": tokenizer.bos_id,
        "tokenizer.ggml.eos_token_id": tokenizer.eos_id,
        "tokenizer.ggml.padding_token_id": tokenizer.pad_id,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
    }


def test_a_name_by_which_llama_cpp_knows_another_model_is_left_out(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = export_gguf(checkpoint, tokenizer_json, tmp_path / "My-Phi3", "f32")
    assert "general.name" not in metadata(path)
    assert "My-Phi3 contains phi3, by which llama.cpp knows another model" in capsys.readouterr().out


@pytest.mark.parametrize("tied", [True, False])
def test_f32_tensors_are_the_weights(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path, tied: bool
) -> None:
    checkpoint = make_checkpoint(tie_embeddings=tied)
    stored = tensors(export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", "f32", verify=False))
    weights = {name: weight.numpy() for name, weight in load_file(checkpoint / "model.safetensors").items()}
    assert len(stored) == len(weights)
    assert ("output.weight" in stored) != tied
    for ours, theirs in (
        ("model.embed_tokens", "token_embd"),
        ("model.layers.1.mlp.down_proj", "blk.1.ffn_down"),
        ("model.layers.0.mlp.gate_proj", "blk.0.ffn_gate"),
        ("model.layers.1.self_attn.v_proj", "blk.1.attn_v"),
        ("model.layers.1.post_attention_layernorm", "blk.1.ffn_norm"),
        ("model.norm", "output_norm"),
    ):
        np.testing.assert_array_equal(values(stored[f"{theirs}.weight"]), weights[f"{ours}.weight"])
    q = weights["model.layers.0.self_attn.q_proj.weight"]
    # Rows 0, 8, 1, 9, .. of each head of 16.
    order = [head * 16 + half * 8 + pair for head in range(4) for pair in range(8) for half in range(2)]
    np.testing.assert_array_equal(values(stored["blk.0.attn_q.weight"]), q[order])


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0"])
def test_matrices_are_rounded_to_the_type_and_norms_are_not(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path, kind: GgufType
) -> None:
    checkpoint = make_checkpoint()
    stored = tensors(export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", kind, verify=False))
    weights = load_file(checkpoint / "model.safetensors")
    type = gguf.GGMLQuantizationType[kind.upper()]
    up = weights["model.layers.0.mlp.up_proj.weight"].numpy()
    assert stored["blk.0.ffn_up.weight"].tensor_type == type
    expected = np.ascontiguousarray(gguf.quants.quantize(up, type)).view(np.uint8)
    assert np.ascontiguousarray(stored["blk.0.ffn_up.weight"].data).view(np.uint8).tobytes() == expected.tobytes()
    norm = stored["blk.0.attn_norm.weight"]
    assert norm.tensor_type == gguf.GGMLQuantizationType.F32
    np.testing.assert_array_equal(norm.data, weights["model.layers.0.input_layernorm.weight"].numpy())


@pytest.mark.parametrize("kind", ["f32", "q8_0"])
def test_the_size_of_a_block_does_not_change_the_file(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, kind: GgufType, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = export_gguf(checkpoint, tokenizer_json, tmp_path / "a" / "tiny", kind, verify=False)
    monkeypatch.setattr("bulba.export.blocks.BLOCK_BYTES", 20 * 4 * 64)
    blocks = export_gguf(checkpoint, tokenizer_json, tmp_path / "b" / "tiny", kind, verify=False)
    assert whole.read_bytes() == blocks.read_bytes()


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_a_file_is_written_without_torch(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, kind: GgufType
) -> None:
    # Importing torch would take longer than writing the file.
    code = (
        "import sys; from pathlib import Path; from bulba.export.gguf import export_gguf; a = sys.argv; "
        "export_gguf(Path(a[1]), Path(a[2]), Path(a[3]), a[4], verify=False); assert 'torch' not in sys.modules"
    )
    words = [sys.executable, "-c", code, str(checkpoint), str(tokenizer_json), str(tmp_path / "tiny"), kind]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert gguf.GGUFReader(tmp_path / f"tiny-{kind}-unproved.gguf").tensors


def test_an_error_in_a_thread_comes_out_where_its_turn_is() -> None:
    def fail() -> int:
        raise ExportError("the third one")

    made = made_ahead([lambda: 1, lambda: 2, fail, *[lambda: 4] * 40])
    assert [next(made), next(made)] == [1, 2]
    with pytest.raises(ExportError, match="the third one"):
        next(made)
    assert list(made_ahead(partial(int, number) for number in range(100))) == list(range(100))


def test_rows_that_q8_0_cannot_store_become_f16_and_it_is_said_and_stored(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = make_checkpoint(num_layers=1, intermediate_size=80)
    path = export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", "q8_0")
    printed = capsys.readouterr().out
    assert (
        "1 tensors have rows that are no whole blocks of q8_0 and are stored otherwise: blk.0.ffn_down.weight as"
        in printed
    )
    assert metadata(path)["bulba.fallback"] == ["blk.0.ffn_down.weight as f16"]
    stored = tensors(path)
    assert stored["blk.0.ffn_down.weight"].tensor_type == gguf.GGMLQuantizationType.F16
    assert stored["blk.0.ffn_up.weight"].tensor_type == gguf.GGMLQuantizationType.Q8_0


def test_a_bf16_checkpoint_is_read(make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    file = checkpoint / "model.safetensors"
    save_file({name: weight.bfloat16() for name, weight in load_file(file).items()}, file)
    stored = tensors(export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", "f32", verify=False))
    expected = load_file(file)["model.embed_tokens.weight"].float().numpy()
    np.testing.assert_array_equal(values(stored["token_embd.weight"]), expected)


def test_interleaving_pairs_each_dimension_with_its_partner() -> None:
    rows = np.arange(12, dtype=np.float32)
    assert interleave_halves(rows, 6).tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]


@pytest.mark.parametrize(("kind", "value"), [("f16", 1e5), ("f32", float("nan")), ("q8_0", float("inf"))])
def test_weights_that_the_type_cannot_hold_are_refused(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path, kind: GgufType, value: float
) -> None:
    def edit(weights: dict[str, torch.Tensor]) -> None:
        weights["layers.1.mlp.up_proj.weight"][3, 5] = value

    with pytest.raises(ExportError, match=rf"layers\.1\.mlp\.up_proj\.weight has values up to .*{kind} cannot hold"):
        export_gguf(make_checkpoint(edit), tokenizer_json, tmp_path / "out" / "tiny", kind)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "mechanism"),
    [
        ({"norm": {"_target_": "bulba.model.norm.LayerNorm", "eps": 1e-5}}, "it has model.position=rope beside LayerN"),
        ({"norm_placement": "post"}, "layer 0 has its norms behind the residual sum"),
        ({"position": "sinusoidal"}, r"it has model\.position=sinusoidal beside RMSNorm"),
        ({"position": "alibi", "rope_base": None}, r"it has model\.position=alibi beside RMSNorm"),
        ({"qk_norm": True, "attention_bias": True}, "its projections have biases beside QK-norm"),
        ({"mlp": FEED | {"activation": "gelu", "bias": False}}, "layer 0 has a feed-forward with gelu beside RMSNorm"),
        (
            {"mlp": FEED | {"activation": "relu_squared", "bias": True}},
            "layer 0 has a feed-forward with relu_squared and",
        ),
        ({**GPT2, "qk_norm": True}, r"it has model\.qk_norm=True beside LayerNorm"),
        ({**GPT2, "mlp": SWIGLU}, "layer 0 has the feed-forward SwiGLU beside LayerNorm"),
        ({"attention": QUATERNION | {"rotor_gate": True}}, "layer 0 mixes its tokens with QuaternionAttention"),
    ],
)
def test_what_llama_cpp_does_not_hold_is_refused_by_name(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path, changes: dict[str, Any], mechanism: str
) -> None:
    with pytest.raises(UnsupportedError, match=rf"cannot become a GGUF file: {mechanism}.*own checkpoint folder\.$"):
        export_gguf(make_checkpoint(**changes), tokenizer_json, tmp_path / "tiny", "f32")


def test_another_feed_forward_is_refused_by_name(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(mlp.SwiGLU):
        pass

    monkeypatch.setattr(mlp, "Other", Other, raising=False)
    checkpoint = make_checkpoint(mlp={"_target_": "bulba.model.mlp.Other"})
    with pytest.raises(UnsupportedError, match="layer 0 has the feed-forward Other"):
        export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", "f32")


def test_weights_that_llama_does_not_know_and_missing_ones_are_named(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(lambda weights: weights.update({"layers.0.self_attn.q_norm.weight": torch.ones(16)}))
    with pytest.raises(UnsupportedError, match=r"the weight model\.layers\.0\.self_attn\.q_norm\.weight"):
        export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", "f32")
    checkpoint = make_checkpoint(lambda weights: weights.__delitem__("layers.1.mlp.up_proj.weight"))
    with pytest.raises(CheckpointError, match=r"the weight model\.layers\.1\.mlp\.up_proj\.weight is absent"):
        export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", "f32")
    checkpoint = make_checkpoint(lambda weights: weights.update({"norm.weight": torch.ones(65)}))
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight is \(65,\) where model\.json says \(64,\)"):
        export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", "f32")


def test_a_full_disk_is_one_sentence_and_leaves_nothing(checkpoint: Path, tokenizer_json: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(BulbaError, match=r"the disk is full: .*tiny-f32\.gguf could not be written"):
            export_gguf(checkpoint, tokenizer_json, tmp_path / "out" / "tiny", "f32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_is_no_safetensors_and_a_dtype_that_is_no_float_are_refused(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(lambda weights: weights.update({"norm.weight": torch.ones(64, dtype=torch.int64)}))
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight in .* has dtype I64, not one of F32, F16, BF16"):
        export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", "f32")
    (checkpoint / "model.safetensors").write_bytes(b"PK" + bytes(100))
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a safetensors file"):
        export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", "f32")


def test_a_foreign_tokenizer_is_refused(make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(vocab_size=777)
    with pytest.raises(ExportError, match="export with the tokenizer that the model was trained with"):
        export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", "f32")


def test_verify_false_says_so(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", "f32", verify=False)
    assert path.name == "tiny-f32-unproved.gguf"
    assert f"{path} is unproved: it was not tried in llama.cpp, because verify=false" in capsys.readouterr().out


def test_without_llama_cpp_a_file_is_written_and_called_unproved(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    # What Python takes for a module that cannot be found.
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    path = export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", "q8_0")
    assert path.name == "tiny-q8_0-unproved.gguf"
    assert gguf.GGUFReader(path).tensors
    assert "because xllamacpp is not installed (uv pip install 'bulba[export]')" in capsys.readouterr().out
    with pytest.raises(ExportError, match=r"xllamacpp, which is not installed"):
        export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", "iq4_nl")
