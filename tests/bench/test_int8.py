"""`bench int8`: ONNX is fp32, INT8 is near it and smaller, and every form is timed in each round."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bulba.bench.int8 import bench_int8
from bulba.bench.opened import open_run
from bulba.bench.text import model_bits_per_byte
from bulba.config.snapshot import read_json
from bulba.errors import ConfigError


@pytest.mark.slow
def test_the_three_forms(small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(small_run, tmp_path / "run")
    bench_int8(run=str(run), documents=10_000, new_tokens=4, rounds=2)
    found = read_json(run / "int8_bench.json")
    assert list(found) == ["fp32", "int8", "onnx"]
    fp32, int8, onnx = found.values()
    own = model_bits_per_byte(open_run(str(run)))
    assert fp32["bits_per_byte"] == pytest.approx(own, rel=0.1), own  # beginnings of documents here, all of them there
    assert onnx["bits_per_byte"] == pytest.approx(fp32["bits_per_byte"], rel=1e-5)
    assert 0 < abs(int8["bits_per_byte"] - fp32["bits_per_byte"]) < 0.01 * fp32["bits_per_byte"]
    assert 0 < onnx["max_logit_difference"] < 1e-3 < int8["max_logit_difference"]
    assert int8["size_bytes"] < fp32["size_bytes"] < onnx["size_bytes"]
    assert all(len(form["decode"]) == 2 and min(form["prefill"]) > 0 for form in found.values())
    assert "1 thread" in capsys.readouterr().out


def test_one_form_beside_fp32(small_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(small_run, tmp_path / "run")
    bench_int8(run=str(run), forms=["int8"], documents=1, new_tokens=2, rounds=1)
    assert list(read_json(run / "int8_bench.json")) == ["fp32", "int8"]


def test_what_cannot_be_is_refused(small_run: Path) -> None:
    with pytest.raises(ConfigError, match="forms: int4 does not exist; choose from fp32, int8, onnx"):
        bench_int8(run=str(small_run), forms=["int4"])
    with pytest.raises(ConfigError, match="rounds=0 must be at least 1"):
        bench_int8(run=str(small_run), rounds=0)
    with pytest.raises(ConfigError, match="new_tokens=5000 must be below the run's context"):
        bench_int8(run=str(small_run), new_tokens=5000)
