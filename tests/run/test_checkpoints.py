"""Checkpoints of real runs: damaged ones are passed over, and a disk that fills up costs no training."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bulba.checkpoint import load_newest, load_state, load_weights, save_checkpoint
from bulba.checkpoint_folder import DamagedCheckpointError, list_checkpoints
from bulba.checkpoint_io import FolderCheckpointIO
from bulba.errors import CheckpointError
from tests.conftest import ROOT, run_program
from tests.model.tiny import tiny_gpt

FILES = ["model.safetensors", "model.json", "state.safetensors", "state.json", "checksums.json"]


def make_run(run: Path, steps: list[int]) -> None:
    model = tiny_gpt(num_layers=1)
    for step in steps:
        folder = run / "checkpoints" / f"step_{step:08d}"
        save_checkpoint(folder, model.get_model_config(), model.state_dict(), {"step": step})


def damage(file: Path, how: str) -> None:
    if how == "missing":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["missing", "flipped"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_is_kept(name: str, how: str, tmp_path: Path) -> None:
    make_run(tmp_path, [10, 20])
    damage(tmp_path / "checkpoints" / "step_00000020" / name, how)
    said: list[str] = []
    newest = load_newest(tmp_path, said.append)
    assert newest.state == {"step": 10}
    assert newest.weights.keys() == load_weights(newest.ref.folder).keys()
    assert "the checkpoint of step 20 is damaged" in said[0]
    assert name in said[0]
    assert "going on from step 10" in said[1]
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path)] == [10]
    assert (tmp_path / "checkpoints" / "step_00000020.damaged").is_dir()
    assert load_newest(tmp_path, said.append).ref.step == 10
    assert len(said) == 2


def test_without_a_whole_checkpoint_every_reason_is_told_and_nothing_is_renamed(tmp_path: Path) -> None:
    make_run(tmp_path, [10, 20])
    damage(tmp_path / "checkpoints" / "step_00000010" / "state.json", "flipped")
    damage(tmp_path / "checkpoints" / "step_00000020" / "model.safetensors", "missing")
    with pytest.raises(CheckpointError, match="none of the 2 checkpoint.*step_00000020/model.*step_00000010/state"):
        load_newest(tmp_path, print)
    assert len(list_checkpoints(tmp_path)) == 2


def test_a_step_damaged_twice_is_put_aside_twice(tmp_path: Path) -> None:
    for _ in range(2):
        make_run(tmp_path, [10, 20])
        damage(tmp_path / "checkpoints" / "step_00000020" / "state.json", "flipped")
        load_newest(tmp_path, lambda sentence: None)
    aside = sorted(path.name for path in (tmp_path / "checkpoints").glob("*.damaged"))
    assert aside == ["step_00000020-2.damaged", "step_00000020.damaged"]


def test_another_format_version_is_refused_not_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path, [10])
    monkeypatch.setattr("bulba.checkpoint.FORMAT_VERSION", 7)
    make_run(tmp_path, [20])
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="has checkpoint format 7") as caught:
        load_newest(tmp_path, print)
    assert not isinstance(caught.value, DamagedCheckpointError)
    assert len(list_checkpoints(tmp_path)) == 2


def test_a_save_is_of_the_moment_it_was_asked_for(tmp_path: Path) -> None:
    """Training changes its tensors in place while the thread writes."""
    model = tiny_gpt(num_layers=1)
    moments = model.embed_tokens.weight.detach().clone()
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state_dict = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    saver = FolderCheckpointIO()
    saver.save_checkpoint(
        {"state_dict": state_dict, "model_config": model.get_model_config(), "moments": moments}, tmp_path / "c"
    )
    for tensor in [*model.state_dict().values(), moments]:
        tensor.fill_(7)
    saver.wait()
    assert saver.take_error() is None
    assert all(load_weights(tmp_path / "c")[name].equal(tensor) for name, tensor in expected.items())
    assert load_state(tmp_path / "c")["moments"].equal(expected["embed_tokens.weight"])


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one_to_the_same_bits(
    small_run: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(small_run, broken)
    damage(broken / "checkpoints" / "step_00000020" / "state.safetensors", "flipped")
    done = run_program("train.py", f"resume='{broken}'")
    assert done.returncode == 0, done.stderr
    assert "the checkpoint of step 20 is damaged and was put aside as" in done.stdout
    assert "going on from step 10" in done.stdout
    assert (broken / "final.safetensors").read_bytes() == (small_run / "final.safetensors").read_bytes()
    assert [checkpoint.step for checkpoint in list_checkpoints(broken)] == [10, 20]


# Trains with a disk that takes no file above 2 MB from step FULL_FROM on: the optimizer state is larger than that.
FULL_DISK = """
    import resource, signal, sys
    import lightning as L
    from bulba.config.entry import run_hydra

    full_from, full_to = int(sys.argv.pop(1)), int(sys.argv.pop(1))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    class Disk(L.Callback):
        def on_train_batch_start(self, trainer, *rest):
            full = full_from <= trainer.global_step + 1 <= full_to
            limit = 2_000_000 if full else resource.RLIM_INFINITY
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            # What is written now, is written before the disk changes again.
            trainer.strategy.checkpoint_io.wait()

    def main(config, run):
        import bulba.run.train as program
        build = program.build
        def with_disk(node, *, path="", **extra):
            if path == "trainer":
                extra["callbacks"].append(Disk())
            return build(node, path=path, **extra)
        program.build = with_disk
        program.train(config, run)

    run_hydra(main)
"""


def train_on_a_disk_full(first: int, last: int, run: Path, small: list[str]) -> subprocess.CompletedProcess[str]:
    words = [*small, "callbacks.checkpoints.every_steps=5", "callbacks.samples.every_steps=null"]
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(first), str(last), *words, f"hydra.run.dir='{run}'"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="needs file size limits")
@pytest.mark.slow
def test_a_disk_that_is_full_for_a_while_costs_one_checkpoint(small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = train_on_a_disk_full(9, 11, run, small)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    assert len(said) == 1
    assert "step 10 was not saved, and the newest one saved is step 5: the disk is full" in said[0]
    assert [checkpoint.step for checkpoint in list_checkpoints(run)] == [15, 20]
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["result"]["saved_step"] == 20


@pytest.mark.skipif(sys.platform == "win32", reason="needs file size limits")
def test_a_last_checkpoint_that_cannot_be_saved_ends_the_run_with_an_error(small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = train_on_a_disk_full(14, 999, run, small)
    assert done.returncode == 1, done.stderr
    assert "the last checkpoint is missing: step 20 was not saved, and the newest one saved is step 10" in done.stderr
    assert "Traceback" not in done.stderr
    assert [checkpoint.step for checkpoint in list_checkpoints(run)] == [5, 10]
    result = json.loads((run / "summary.json").read_text(encoding="utf-8"))["result"]
    assert (result["step"], result["saved_step"]) == (20, 10)
