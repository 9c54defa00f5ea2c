"""The importance matrix: measured on a text, kept in llama.cpp's format, and spent where errors show."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from bulba.checkpoint import load_model
from bulba.data.tokenizer import Tokenizer
from bulba.errors import ConfigError, ExportError
from bulba.export.architecture import read_architecture
from bulba.export.gguf import export_gguf
from bulba.export.importance import measure_importances, read_imatrix, write_imatrix
from bulba.export.types import TensorType, dequantize, quantize
from bulba.run.verify import verify_command
from tests.export.conftest import MakeCheckpoint

WIDE = {"hidden_size": 256, "intermediate_size": 512}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("Жыў-быў дзед, сям'я яго жыла ў хаце. " * 300, encoding="utf-8")
    return path


def test_it_is_the_mean_square_of_what_a_matrix_is_multiplied_by(
    checkpoint: Path, tokenizer: Tokenizer, text: Path
) -> None:
    tensors = read_architecture(checkpoint, "a GGUF file").tensors
    found = measure_importances(checkpoint, tokenizer, tensors, text)
    model = load_model(checkpoint).double()
    ids = tokenizer.encode(text.read_text(encoding="utf-8"))
    rows = torch.tensor(ids[: len(ids) // 128 * 128]).view(-1, 128)
    with torch.no_grad():
        x = model.embed_tokens(rows)
        x = x / (x.square().mean(-1, keepdim=True) + model.norm.eps).sqrt() * model.layers[0].input_layernorm.weight
    expected = x.square().flatten(0, 1).mean(0).numpy()
    np.testing.assert_allclose(found["blk.0.attn_q.weight"], expected, rtol=1e-4)
    matrices = {tensor.name for tensor in tensors if tensor.storage in ("matrix", "precise")}
    assert found.keys() == matrices
    assert all(np.isfinite(values).all() and (values > 0).all() for values in found.values())


@pytest.mark.parametrize(
    "type", ["q6_k", "q5_k", "q4_k", "q3_k", "iq4_xs", "iq3_s", "iq3_xxs", "iq4_nl", "q4_0", "q5_1"]
)
def test_errors_move_to_columns_that_matter_less(type: TensorType) -> None:
    draw = np.random.default_rng(0)
    rows, importance = draw.standard_normal((32, 512), np.float32), draw.random(512, np.float32) ** 4
    costs = [
        np.mean((dequantize(quantize(rows, type, weights), type) - rows) ** 2 * importance)
        for weights in (None, importance)
    ]
    assert costs[1] < 0.95 * costs[0]


@pytest.mark.parametrize("type", ["q4_k_m", "iq3_xxs"])
def test_a_file_made_with_it_passes_here_and_anywhere(
    make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path, text: Path, type: str
) -> None:
    checkpoint, out = make_checkpoint(**WIDE), tmp_path / "out"
    shutil.copytree(tokenizer_json.parent, checkpoint.parent / "tokenizer")
    plain = export_gguf(checkpoint, tokenizer_json, out / "plain", type)
    path = export_gguf(checkpoint, tokenizer_json, out / "tiny", type, imatrix=str(text))
    fields = gguf.GGUFReader(path).fields
    assert fields["quantize.imatrix.dataset"].contents() == "text.txt"
    name = "blk.0.ffn_up.weight"
    stored = [{each.name: each.data for each in gguf.GGUFReader(file).tensors}[name] for file in (plain, path)]
    assert not np.array_equal(*stored)
    verify_command(file=str(path), run=str(checkpoint))
    sidecar = path.with_suffix(".imatrix.gguf")
    assert gguf.GGUFReader(sidecar).fields["general.type"].contents() == "imatrix"
    sidecar.unlink()
    with pytest.raises(
        ExportError, match=r"made with the importance matrix tiny-.*\.imatrix\.gguf, and .* is not there"
    ):
        verify_command(file=str(path), run=str(checkpoint))


def test_it_is_read_as_llama_cpp_writes_it(tmp_path: Path) -> None:
    values = {"blk.0.attn_q.weight": np.arange(1, 65, dtype=np.float32)}
    write_imatrix(tmp_path / "a.gguf", values, "text.txt")
    np.testing.assert_array_equal(
        read_imatrix(tmp_path / "a.gguf")["blk.0.attn_q.weight"], values["blk.0.attn_q.weight"]
    )
    writer = gguf.GGUFWriter(tmp_path / "b.gguf", "")
    writer.add_tensor("x.in_sum2", np.full((1, 32), 6.0, np.float32))
    writer.add_tensor("x.counts", np.full((1, 1), 4.0, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    np.testing.assert_array_equal(read_imatrix(tmp_path / "b.gguf")["x"], np.full(32, 1.5, np.float32))


def test_what_cannot_be_measured_on_is_refused(checkpoint: Path, tokenizer_json: Path, tmp_path: Path) -> None:
    def refusal(imatrix: Path, type: str = "q4_0") -> str:
        with pytest.raises(ConfigError) as caught:
            export_gguf(checkpoint, tokenizer_json, tmp_path / "out" / "tiny", type, imatrix=str(imatrix))
        assert not list(tmp_path.glob("out/*"))
        return str(caught.value)

    short, binary = tmp_path / "short.txt", tmp_path / "binary.txt"
    short.write_text("Жыў-быў дзед.", encoding="utf-8")
    binary.write_bytes(b"\xff\xfe\x00")
    assert "and an importance matrix of fewer than 512 would be chance: name a longer text" in refusal(short)
    assert "cannot be read as a text in UTF-8" in refusal(binary)
    assert "cannot be read as a text in UTF-8" in refusal(tmp_path / "nothing.txt")
    assert "export.gguf.imatrix does nothing for type=q8_0" in refusal(short, "q8_0")
