"""`python -m bulba plan` says before training what the model will be as a GGUF file."""

from __future__ import annotations

import re

import pytest

from bulba.run.plan import plan_command


def planned(capsys: pytest.CaptureFixture[str], small: list[str], *words: str) -> str:
    plan_command([*small, "calibrate=false", *words])
    return capsys.readouterr().out


def test_sizes_of_gguf_types_and_rows_that_are_no_whole_blocks(
    small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = planned(capsys, small, "model.hidden_size=256", "model.intermediate_size=320")
    assert "gguf: architecture llama, 20 tensors" in said
    rows = {line.split()[1]: line for line in said.splitlines() if re.match(r"│ \S+ +│", line)}
    assert re.search(r"│ f16 +│ +\S+ +│ 16\.\d\d +│ +│", rows["f16"])
    assert "2 tensors: q8_0" in rows["q4_k_m"] or "2 tensors: q5_0" in rows["q4_k_m"]
    whole = planned(capsys, small, "model.hidden_size=256", "model.intermediate_size=512")
    assert "tensors: q" not in whole


def test_a_model_without_a_gguf_and_one_with_a_difference(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    said = planned(capsys, small, "attention=gauge")
    assert "gguf: this model cannot become a GGUF file: layer 0 mixes its tokens with GaugeAttention" in said
    assert "gguf: the soft cap of its logits, 15," in planned(capsys, small, "model.logit_cap=15")
