"""The whole path with each attention: train, save, resume to the same bits, write text."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bulba.checkpoint_folder import list_checkpoints
from bulba.config.overrides import attention_names
from bulba.report.records import read_metrics
from bulba.run.generate import generate_command
from tests.run.in_process import train_here


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(attention_names()))
def test_it_trains_resumes_to_the_same_bits_and_writes(
    name: str, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*small, f"attention={name}", "model.num_kv_heads=4", "callbacks.checkpoints.every_steps=10"]
    run = tmp_path / "run"
    result = train_here(run, *words)["result"]
    losses = [row["train/loss"] for row in read_metrics(run).values() if "train/loss" in row]
    assert losses[-1] < losses[0] - 0.1
    broken = shutil.copytree(run, tmp_path / "broken")
    shutil.rmtree(list_checkpoints(broken)[-1].folder)
    (broken / "final.safetensors").unlink()
    assert list_checkpoints(broken)[-1].step == 10
    resumed = train_here(broken, *words, f"resume='{broken}'")["result"]
    assert resumed["val/bpb"] == result["val/bpb"]
    assert (broken / "final.safetensors").read_bytes() == (run / "final.safetensors").read_bytes()
    capsys.readouterr()
    written = []
    for cache in (True, False):
        generate_command(run=str(run), prompt="Жыў", device="cpu", max_new_tokens=12, temperature=0.0, cache=cache)
        written.append(capsys.readouterr().out.splitlines()[0])
    assert written[0].startswith("Жыў")
    assert len(written[0]) > 4
    assert written[0] == written[1]
