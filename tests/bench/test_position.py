"""`bench position`: its losses are those of the model at each place, and what it cannot measure is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bulba.bench.opened import open_run
from bulba.bench.position import beginnings, check_settings, losses_by_position, measure_position
from bulba.config.snapshot import read_json
from bulba.errors import ConfigError, DataError, UnsupportedError
from tests.model.tiny import tiny_gpt


def test_losses_stand_at_their_place_and_scaling_starts_beyond_the_trained_length(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(small_run, tmp_path / "run")
    measure_position(run=str(run), times=2, documents=3)
    found = read_json(run / "position.json")
    assert (run / "position.png").read_bytes().startswith(b"\x89PNG")
    assert found["seq_len"] == 64
    assert {name: len(curve) for name, curve in found["nats_per_token"].items()} == dict.fromkeys(
        ("trained", "linear", "yarn"), 16
    )
    assert f"means over {found['documents']} documents" in capsys.readouterr().out
    opened = open_run(str(run))
    rows = beginnings(opened, 129, 3)
    with torch.inference_mode():
        ids = torch.from_numpy(rows)
        logits = opened.model.logits(opened.model(ids[:, :-1])).double()
        expected = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").mean(0)
    np.testing.assert_allclose(losses_by_position(opened.model, rows, torch.device("cpu")), expected, rtol=1e-5)
    np.testing.assert_allclose(found["nats_per_token"]["trained"], expected.view(16, -1).mean(1), rtol=1e-5)
    assert found["nats_per_token"]["linear"] != found["nats_per_token"]["trained"]


def test_positions_scaled_by_one_are_those_of_the_run(small_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(small_run, tmp_path / "run")
    measure_position(run=str(run), times=1, scalings=["trained", "linear"], documents=2)
    curves = read_json(run / "position.json")["nats_per_token"]
    assert curves["linear"] == curves["trained"]


def test_documents_that_are_too_short_are_said(small_run: Path) -> None:
    with pytest.raises(DataError, match=r"no validation document of .* has 6401 tokens, the longest has \d+: set a"):
        measure_position(run=str(small_run), times=100)


def test_what_cannot_be_measured_is_refused() -> None:
    rope, learned = tiny_gpt(), tiny_gpt(position="learned", rope_base=None)
    with pytest.raises(ConfigError, match="times=0 must be at least 1"):
        check_settings(rope, 0, None, 4, 64)
    with pytest.raises(ConfigError, match="documents=0 must be at least 1"):
        check_settings(rope, 1, None, 0, 64)
    with pytest.raises(ConfigError, match="60 tokens, which 8 points do not divide"):
        check_settings(rope, 1, None, 4, 60)
    with pytest.raises(
        ConfigError, match=r"scalings: ntk is not to be had for .*position=rope; choose from trained, l"
    ):
        check_settings(rope, 1, ["ntk"], 4, 64)
    with pytest.raises(ConfigError, match=r"scalings: yarn is not to be had for .*position=learned; choose from train"):
        check_settings(learned, 1, ["yarn"], 4, 64)
    with pytest.raises(UnsupportedError, match="learned positions for 64 tokens and none beyond: set times=2"):
        check_settings(learned, 4, None, 4, 32)
