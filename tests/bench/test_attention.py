"""`bench attention`: its counts are those of the formulas, its page is written, and what it cannot do is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bulba.bench.attention import attention_flops, bench_attention, chosen, layer_model, peak_bytes
from bulba.config.overrides import attention_names
from bulba.errors import ConfigError

SIZES = {"hidden_size": 32, "num_heads": 2}


@pytest.fixture
def _without_code_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **options: real(f, backend="aot_eager", fullgraph=True))


def test_operations_and_memory_are_those_of_the_attention() -> None:
    model = layer_model("standard", 64, SIZES)
    projections, pairs = 2 * 64 * 4 * 32 * 32, 4 * 64 * 64 * 32
    assert attention_flops(model, 64) == 3 * (projections + pairs)
    few, many = (peak_bytes("standard", 2, length, SIZES) for length in (256, 512))
    assert 2 * 4 * 256 * 32 < few < many < 3 * few  # the square of the tokens would be 4


@pytest.mark.parametrize("name", sorted(attention_names()))
def test_the_memory_of_every_attention_is_planned_as_compiled(name: str) -> None:
    """Braid, quaternion and octonion have constants in both passes."""
    sizes = {"hidden_size": 64, "num_heads": 2}
    assert peak_bytes(name, 1, 64, sizes) >= 2 * 4 * 64 * 64  # input and output of the layer


@pytest.mark.slow
@pytest.mark.usefixtures("_without_code_generation")
def test_a_table_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "benchmarks.md"
    lines = bench_attention(
        attentions=["simplicial"],
        seq_len=32,
        rounds=2,
        steps=1,
        exponents=True,
        lengths=[16, 32],
        device="cpu",
        out=str(page),
        **SIZES,
    )
    assert [line[0] for line in lines] == ["attention", "standard", "simplicial"]
    assert lines[1][2] == "1.00x (1.00 to 1.00)"
    assert lines[2][5] == f"{6 * 32 * 32:,}"
    assert lines[0][-1] == "time exponent"
    text = page.read_text(encoding="utf-8")
    assert "## Attentions" in text
    assert "exponents=true lengths=[16, 32] attentions=[simplicial]" in text
    assert "round 2 of 2" in capsys.readouterr().out


def test_what_cannot_be_measured_is_said() -> None:
    assert chosen(None)[0] == "standard"
    assert "hybrid" not in chosen(None)
    with pytest.raises(ConfigError, match=r"attentions=\['hybrid'\] are not known: choose from .*standard"):
        chosen(["hybrid"])
    with pytest.raises(ConfigError, match="lengths does nothing without exponents=true"):
        bench_attention(lengths=[16, 32])
    with pytest.raises(ConfigError, match="must hold at least two lengths"):
        bench_attention(exponents=True, lengths=[16])
