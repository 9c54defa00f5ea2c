"""`bench types`: sizes are those of the files, the loss is the run's own and grows as bits are taken away."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import pytest

from bulba.bench.opened import open_run
from bulba.bench.text import model_bits_per_byte
from bulba.bench.types import measure_types
from bulba.checkpoint_folder import find_checkpoint
from bulba.config.snapshot import read_json
from bulba.errors import ConfigError
from bulba.export.gguf import export_gguf


def test_sizes_and_losses(small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(small_run, tmp_path / "run")
    measure_types(run=str(run), types=["q4_0", "f32", "q8_0"])
    found = read_json(run / "types.json")
    assert list(found) == ["f32", "q8_0", "q4_0"]
    own = model_bits_per_byte(open_run(str(run)))
    losses = [found[type]["bits_per_byte"] for type in found]
    assert losses[0] == pytest.approx(own, rel=2e-3)  # of the predicted bytes, and there of all
    assert abs(losses[1] - losses[0]) < 0.01 * losses[0]
    assert abs(losses[2] - losses[0]) > abs(losses[1] - losses[0])
    checkpoint = find_checkpoint(run).folder
    path = export_gguf(checkpoint, run / "tokenizer" / "tokenizer.json", tmp_path / "tiny", "q4_0", verify=False)
    stored = gguf.GGUFReader(path).tensors
    assert found["q4_0"]["mb"] == pytest.approx(sum(tensor.n_bytes for tensor in stored) / 1e6)
    weights = sum(int(tensor.n_elements) for tensor in stored)
    assert found["q4_0"]["bits_per_weight"] == pytest.approx(8e6 * found["q4_0"]["mb"] / weights)
    assert found["f32"]["bits_per_weight"] == 32
    assert "bits per weight" in capsys.readouterr().out


def test_what_does_not_exist_is_refused(small_run: Path) -> None:
    with pytest.raises(ConfigError, match="types: q9_0 does not exist; choose from f32, f16"):
        measure_types(run=str(small_run), types=["q9_0"])
    with pytest.raises(ConfigError, match="rows=0 must be at least 1"):
        measure_types(run=str(small_run), rows=0)
