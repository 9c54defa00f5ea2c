"""What a finished run leaves behind, and that it can be used: repeated, resumed, generated from, compared."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import torch
from safetensors.torch import load_file

from bulba.checkpoint import load_model
from bulba.checkpoint_folder import list_checkpoints
from bulba.report.records import read_metrics
from bulba.report.summary import SCHEMA
from tests.conftest import ROOT, run_program


def test_the_folder_holds_what_the_readme_promises(small_run: Path) -> None:
    for name in (
        "config.yaml",
        "run.json",
        "metrics.csv",
        "samples.md",
        "summary.json",
        "run.md",
        "final.safetensors",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
    ):
        assert (small_run / name).is_file(), name
    assert [checkpoint.step for checkpoint in list_checkpoints(small_run)] == [10, 20]


def test_the_summary_fits_its_schema_and_says_what_was_measured(small_run: Path) -> None:
    summary = json.loads((small_run / "summary.json").read_text(encoding="utf-8"))
    jsonschema.validate(summary, json.loads(SCHEMA.read_text(encoding="utf-8")))
    rows = read_metrics(small_run)
    assert summary["status"] == "finished"
    assert summary["result"]["val/bpb"] == rows[20]["val/bpb"]
    assert summary["result"]["train_tokens"] == rows[20]["train/tokens"]
    assert summary["device"]["kernel"] == "cpu flash"
    assert summary["device"]["compiled"] is None
    assert summary["samples"].keys() == {"be", "ru", "uk", "en"}
    page = (small_run / "run.md").read_text(encoding="utf-8")
    assert f"{rows[20]['val/bpb']:.4f} bits per byte" in page
    assert "attention kernel: cpu flash; not compiled" in page
    assert f"--config-path {small_run}" in page


def test_the_loss_falls(small_run: Path) -> None:
    losses = [row["train/loss"] for row in read_metrics(small_run).values()]
    assert len(losses) == 20
    assert sum(losses[-5:]) / 5 < sum(losses[:5]) / 5 - 0.3


def test_the_learning_rate_logged_is_the_one_used(small_run: Path) -> None:
    """wsd with 5 steps of warm-up: the first update uses 1/5 of the peak or the closed form's equal."""
    import yaml

    from bulba.config.build import build

    config = yaml.safe_load((small_run / "config.yaml").read_text(encoding="utf-8"))
    schedule = build(config["scheduler"], path="scheduler", total_steps=20)
    for step, row in read_metrics(small_run).items():
        assert row["train/lr"] == pytest.approx(config["optimizer"]["lr"] * schedule(step - 1), rel=1e-12)


def test_final_weights_are_the_last_checkpoints_and_carry_no_compiled_names(small_run: Path) -> None:
    final = load_file(small_run / "final.safetensors")
    last = load_file(list_checkpoints(small_run)[-1].folder / "model.safetensors")
    assert final.keys() == last.keys()
    assert all(torch.equal(final[name], last[name]) for name in final)
    assert not any("_orig_mod" in name for name in final)


def test_a_stored_config_repeats_the_run_bit_for_bit(small_run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    done = run_program("train.py", "--config-path", str(small_run), f"hydra.run.dir='{again}'")
    assert done.returncode == 0, done.stderr
    for step, row in read_metrics(small_run).items():
        other = read_metrics(again)[step]
        for name in ("train/loss", "train/grad_norm", "val/bpb"):
            assert other.get(name) == row.get(name)


def test_a_resumed_run_ends_with_the_same_bits(small_run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(small_run, broken)
    shutil.rmtree(list_checkpoints(broken)[-1].folder)
    for name in ("final.safetensors", "summary.json", "run.md"):
        (broken / name).unlink()
    done = run_program("train.py", f"resume='{broken}'")
    assert done.returncode == 0, done.stderr
    assert (broken / "final.safetensors").read_bytes() == (small_run / "final.safetensors").read_bytes()
    for step, row in read_metrics(small_run).items():
        for name in ("train/loss", "train/lr", "train/grad_norm", "train/tokens", "val/loss"):
            assert read_metrics(broken)[step].get(name) == row.get(name), (step, name)
    assert (
        json.loads((broken / "summary.json").read_text())["result"]["train_tokens"]
        == (read_metrics(small_run)[20]["train/tokens"])
    )


def test_a_finished_run_can_be_prolonged(small_run: Path, tmp_path: Path) -> None:
    longer = tmp_path / "longer"
    shutil.copytree(small_run, longer)
    done = run_program("train.py", f"resume='{longer}'", "trainer.max_steps=24")
    assert done.returncode == 0, done.stderr
    assert max(read_metrics(longer)) == 24
    assert len(json.loads((longer / "run.json").read_text())["resumes"]) == 1
    assert "max_steps: 24" in (longer / "config.yaml").read_text(encoding="utf-8")


def test_other_texts_cannot_continue_a_run(small_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(small_run, other)
    done = run_program("train.py", f"resume='{other}'", "data.tales_seed=9")
    assert done.returncode == 2
    assert "the texts or the tokenizer changed" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_shape_cannot_continue_a_run(small_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(small_run, other)
    done = run_program("train.py", f"resume='{other}'", "model.num_layers=3")
    assert done.returncode == 2
    assert "checkpoint of another shape" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_that_the_checkpoint_holds_cannot_change_on_a_resume(small_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(small_run, other)
    done = run_program("train.py", f"resume='{other}'", "optimizer.lr=0.5")
    assert done.returncode == 2
    assert "optimizer.lr was 0.004 when" in done.stderr
    assert "cannot become 0.5" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_first_and_the_run_goes_on(small: list[str], tmp_path: Path, number: int) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "train.py", *small, f"hydra.run.dir='{run}'", "trainer.max_steps=100000",
         "callbacks.checkpoints.every_steps=100000", "trainer.val_every_steps=100000"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and not (run / "metrics.csv").exists():
        time.sleep(0.05)
    while process.poll() is None and len(read_metrics(run)) < 3:
        time.sleep(0.05)
    process.send_signal(number)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    saved = list_checkpoints(run)[-1]
    assert saved.step == max(read_metrics(run))
    assert f"resume={run}" in output
    assert json.loads((run / "summary.json").read_text())["status"] == "interrupted"


def test_generate_streams_from_the_newest_checkpoint(small_run: Path) -> None:
    done = run_program(
        "-m", "bulba", "generate", f"run={small_run}", "prompt=Жыў-быў", "max_new_tokens=5", "temperature=0"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Жыў-быў")
    assert "\ufffd" not in done.stdout


def test_load_rebuilds_the_model_from_its_own_files(small_run: Path) -> None:
    done = run_program("-m", "bulba", "load", f"run={small_run}")
    assert done.returncode == 0, done.stderr
    config = json.loads(done.stdout)
    model = load_model(Path(config.pop("checkpoint")))
    assert model.get_model_config() == config


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["generate", "run=nowhere"], "nowhere is not a run folder"),
        (["generate", "run={run}", "temprature=1"], "did you mean temperature?"),
        (["generate", "run={run}", "max_new_tokens=many"], "max_new_tokens='many' must be a whole number"),
        (["generate", "run={run}", "hello"], "write settings as key=value"),
        (["compare", "nowhere"], "nowhere is not a run folder"),
        (["info", "model=zubrr"], "did you mean zubr?"),
    ],
)
def test_commands_answer_mistakes_in_one_sentence(small_run: Path, words: list[str], sentence: str) -> None:
    done = run_program("-m", "bulba", *(word.format(run=small_run) for word in words))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("language", "word"), [("be", "Напісаць"), ("uk", "Написати"), ("ru", "Написать"), ("en", "Write")]
)
def test_help_speaks_four_languages(language: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULBA_LANG", language)
    assert word in run_program("-m", "bulba", "--help").stdout


def assert_same_figures(run: Path, expected: Path, norm_rel: float = 1e-6) -> None:
    rows, others = read_metrics(run), read_metrics(expected)
    assert rows.keys() == others.keys()
    for step, row in rows.items():
        assert row.keys() == others[step].keys()
        for name in row:
            if name.startswith(("train/", "val/")):
                rel = norm_rel if name == "train/grad_norm" else 1e-6
                assert row[name] == pytest.approx(others[step][name], rel=rel), (step, name)


@pytest.mark.slow
def test_two_processes_take_the_same_steps_as_one(small_run: Path, small: list[str], tmp_path: Path) -> None:
    """4 rows as 2 micro-batches of 2 in one process, and as 2 rows in each of two: one sequence of figures."""
    run = tmp_path / "two"
    done = run_program("train.py", *small, "trainer.num_devices=2", f"hydra.run.dir='{run}'")
    assert done.returncode == 0, done.stderr
    assert_same_figures(run, small_run)


@pytest.mark.slow
def test_two_processes_that_share_out_the_weights_take_the_same_steps_too(
    small_run: Path, small: list[str], tmp_path: Path
) -> None:
    """fsdp2 from the first step to the tenth, one device from there on: the figures and the end are those of one."""
    run = tmp_path / "sharded"
    sharded = ["trainer.num_devices=2", "trainer.strategy=fsdp2", "callbacks.samples.every_steps=null"]
    done = run_program("train.py", *small, *sharded, f"hydra.run.dir='{run}'")
    assert done.returncode == 0, done.stderr
    assert_same_figures(run, small_run, norm_rel=1e-3)  # a CPU sums the squares of a large tensor in fp32
    final, expected = load_file(run / "final.safetensors"), load_file(small_run / "final.safetensors")
    assert final.keys() == expected.keys()
    for name, weight in final.items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-3, atol=1e-5)
    # Its checkpoint goes on anywhere, and one of a single device goes on in shares.
    for source, words in ((run, ["trainer.num_devices=1", "trainer.strategy=auto"]), (small_run, sharded)):
        resumed = tmp_path / f"resumed_{source.name}"
        shutil.copytree(source, resumed)
        shutil.rmtree(list_checkpoints(resumed)[-1].folder)
        done = run_program("train.py", f"resume='{resumed}'", *words)
        assert done.returncode == 0, done.stderr
        assert_same_figures(resumed, small_run, norm_rel=1e-3)


@pytest.mark.slow
def test_a_sweep_of_two_processes_each_keeps_one_folder_per_job(small: list[str], tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    done = run_program(
        "train.py", "-m", "seed=1,2", *small, "trainer.num_devices=2", "trainer.max_steps=6",
        "trainer.val_every_steps=6",
        f"hydra.sweep.dir='{sweep}'", f"runs_dir='{tmp_path}'",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"sweep"}
    assert {path.name for path in sweep.iterdir() if path.is_dir()} == {"0", "1"}
    for job in ("0", "1"):
        assert json.loads((sweep / job / "summary.json").read_text())["seed"] == int(job) + 1
        assert list(read_metrics(sweep / job)) == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_a_compiled_run_counts_its_graphs(small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "both"
    done = run_program(
        "train.py", *small, "mode=both", "model.num_layers=1", "trainer.activation_checkpointing=selective",
        "trainer.max_steps=6", "trainer.val_every_steps=3", f"hydra.run.dir='{run}'",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counts = {"graphs": 2, "shapes": 2, "graph_breaks": 0, "recompiles": 0}
    assert json.loads((run / "summary.json").read_text())["device"]["compiled"] == counts
    assert [row["perf/recompiles"] for row in read_metrics(run).values()] == [0] * 6
    assert "2 compiled graphs for 2 shapes, 0 graph breaks, 0 recompiles" in (run / "run.md").read_text()
