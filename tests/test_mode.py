"""Modes tell the truth: what cannot be had is refused, what compiling came to is counted, and is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bulba.errors import ConfigError, UnsupportedError
from bulba.mode import Compiled, Mode, describe_compiled, keep_compiled_code
from tests.conftest import ROOT
from tests.model.tiny import tiny_gpt, tokens

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_compile_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    Mode("flash", True).check(CPU, True)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnsupportedError, match=r"needs a C\+\+ compiler on a CPU, and none was found: install one"):
        Mode("flash", True).check(CPU, True)
    Mode("flash", False).check(CPU, True)


def test_compile_where_torch_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._dynamo, "is_dynamo_supported", lambda: False)
    with pytest.raises(UnsupportedError, match="cannot compile under this version of Python; use the Python of"):
        Mode("flash", True).check(CPU, True)


def test_compile_on_a_card_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.utils._triton as triton

    monkeypatch.setattr(triton, "has_triton", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old Card")
    with pytest.raises(UnsupportedError, match="needs Triton and a card that it supports, and Old Card with this"):
        Mode("flash", True).check(CUDA, True)


@pytest.mark.parametrize("compile_mode", ["reduce-overhead", "max-autotune"])
def test_cuda_graphs_only_where_they_fit(compile_mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = Mode("flash", True, compile_mode)
    with pytest.raises(
        UnsupportedError, match=f"compile_mode={compile_mode} records CUDA graphs and this is a cpu: se"
    ):
        mode.check(CPU, True)
    monkeypatch.setattr("bulba.mode.check_compiler", lambda device: None)
    mode.check(CUDA, True)
    with pytest.raises(UnsupportedError, match="whose gradients the next micro-batch would overwrite: set data.micro"):
        mode.check(CUDA, False)


@pytest.mark.parametrize("options", [{"compile_mode": "max-autotune"}, {"compile_cache_dir": "here"}])
def test_options_of_the_compiler_without_it(options: Any) -> None:
    with pytest.raises(ConfigError, match="do nothing without torch.compile: choose mode=compile or mode=both"):
        Mode("flash", False, **options).check(CPU, True)


def test_where_compiled_code_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "given"))
    keep_compiled_code(None)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "given")
    keep_compiled_code(str(tmp_path / "config"))
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "config")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    keep_compiled_code(None)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "cache" / "bulba" / "compile")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    keep_compiled_code(None)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / ".cache" / "bulba" / "compile")


def compile_quickly(model: Any, monkeypatch: pytest.MonkeyPatch) -> Compiled[Any, Any]:
    """As a run compiles, but without the slow code generation, which has no part in what is counted."""
    real = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda model, **options: real(model, backend="aot_eager", **(options | {"mode": None}))
    )
    torch._dynamo.reset()
    return Compiled(model, "default")


def test_recompiles_are_counted_beyond_the_first_of_each_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = compile_quickly(model := tiny_gpt(num_layers=1, kernel="flash").train(), monkeypatch)
    # All the lengths that bucketed rows may have, again and again.
    for length in [8 * number for number in range(1, 9)] * 2:
        forward(tokens(2, length), None, None).sum().backward()
    assert describe_compiled([forward]) == {"graphs": 8, "shapes": 8, "graph_breaks": 0, "recompiles": 0}
    model(tokens(1, 8))  # validation runs uncompiled
    assert forward.graphs == 8
    model.rope_base = 7.0  # what no run does: compiled in as a constant
    forward(tokens(2, 8), None, None)
    assert (forward.graphs, forward.recompiles) == (9, 1)


def test_a_sweep_of_many_models_is_not_stopped_by_the_limit_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulba.mode.RECOMPILE_LIMIT", 2)
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 2)
    for number in range(4):
        # Mode.apply, without compiling: torch counts what is compiled from one function against a limit.
        forward = Mode("flash", True).apply(tiny_gpt(num_layers=1, rope_base=100.0 + number))
        assert isinstance(forward, Compiled)
        forward._compiled = torch.compile(forward.function, backend="eager", fullgraph=True, dynamic=False)
        forward(tokens(1, 8), None, None)
        assert (forward.graphs, forward.recompiles) == (1, 0)


PROGRAM = """
import json, torch
import torch._dynamo  # sets the environment variable to a place under /tmp
from torch._dynamo.utils import counters
from bulba.mode import Mode
from tests.model.tiny import tiny_gpt, tokens
forward = Mode("flash", True).apply(tiny_gpt(num_layers=1).train())
forward(tokens(2, 16), None, None).sum().backward()
print(json.dumps(counters["inductor"]["fxgraph_cache_hit"] + counters["aot_autograd"]["autograd_cache_hit"]))
"""


@pytest.mark.slow
def test_a_second_process_finds_the_compiled_code(tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)
    hits = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        hits.append(json.loads(done.stdout))
    assert hits[0] == 0 < hits[1]
    assert (tmp_path / "bulba" / "compile").is_dir()
