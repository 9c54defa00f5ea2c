"""Every preset in `both`: one graph for each shape of rows, no graph break, no recompile."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bulba.bench.compile import bench_compile
from bulba.errors import ConfigError


@pytest.fixture
def _without_code_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are counted before inductor turns them into code, which takes most of the time."""
    real = torch.compile

    def compile_quickly(model: Any, **options: Any) -> Any:
        return real(model, backend="aot_eager", **(options | {"mode": None}))

    monkeypatch.setattr(torch, "compile", compile_quickly)


@pytest.mark.slow
@pytest.mark.usefixtures("_without_code_generation")
@pytest.mark.parametrize("activation_checkpointing", ["none", "full"])
def test_no_graph_breaks_and_no_recompiles(activation_checkpointing: Any) -> None:
    counts = bench_compile(
        num_layers=1, seq_len=32, rounds=2, activation_checkpointing=activation_checkpointing, device="cpu"
    )
    assert [row["model"] for row in counts] == ["krolik"] * 2 + ["aist"] * 2 + ["zubr"] * 2
    for row in counts:
        # The forward pass and the loss.
        assert row["graphs"] == row["shapes"] == {"packed": 2, "bucketed": 16}[row["rows"]]
        assert (row["graph_breaks"], row["recompiles"]) == (0, 0)


def test_a_mode_that_does_not_compile() -> None:
    with pytest.raises(ConfigError, match="nothing to count: choose mode=compile or mode=both"):
        bench_compile(models="murashka", mode="flash", device="cpu")
    with pytest.raises(ConfigError, match="seq_len at least twice num_lengths"):
        bench_compile(seq_len=8)
