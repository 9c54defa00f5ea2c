"""The command from end to end in seconds, what it writes, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bulba.cli import call
from bulba.data.tales.corpus import write_tales
from bulba.errors import ConfigError, TrainingError, UnsupportedError
from bulba.utility import command, suite, text
from bulba.utility.command import utility_command
from bulba.utility.suite import GENERATED, TASKS, Job, run_job
from bulba.utility.table import page, standings
from bulba.utility.task import Lab, Outcome, Task

STANDARD = {"_target_": "bulba.attention.standard.StandardAttention"}


def test_smoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(utility_command, ["attentions=[standard]", "seeds=2", "steps=2", "workers=1", f"out={tmp_path}"])
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["finished"]
    assert results["provenance"]["versions"]["torch"]
    assert results["settings"]["attentions"] == {"standard": STANDARD}
    assert {row["task"] for row in results["rows"]} == {task.name for task in GENERATED}
    assert len(results["rows"]) == 2 * len(GENERATED) - 1  # memory has no seeds
    for row in results["rows"]:
        assert TASKS[row["task"]].headline in row["figures"]
        assert set(row["figures"]) <= set(TASKS[row["task"]].shown)
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "over 2 seeds, with its 95 % interval" in table
    assert "Solved by none, from 0.95 on" in table
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".unfinished-*"))
    assert "2 of 2: standard, seed 2: recall 0." in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_give_what_one_gives() -> None:
    jobs = [Job("standard", STANDARD, seed, ("gradients", "length"), 2, "cpu") for seed in (1, 2)]
    alone = [row for job in jobs for row in run_job(job)]
    together = [row for rows in suite.run_side_by_side(jobs, workers=2) for row in rows]
    together.sort(key=lambda row: row["seed"])
    for one, other in zip(alone, together, strict=True):
        assert one["figures"] == pytest.approx(other["figures"], rel=1e-4)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["attentions=[standart]"], "attentions: standart does not exist; did you mean standard"),
        (["attentions=[]"], "attentions is empty"),
        (["tasks=[recal]"], "tasks: recal does not exist; did you mean recall"),
        (["seeds=0"], "seeds=0 must be at least 1"),
        (["steps=0"], "steps=0 must be at least 1"),
        (["tasks=[text]"], "name its folder with text=FOLDER"),
        (["text=texts", "tasks=[recall]"], "text=texts would do nothing"),
        (["words=[mode=both]"], "words are settings of train.py for the task text"),
        (["seed=1"], "seed is not an option of utility_command; did you mean seeds"),
    ],
)
def test_refusals(words: list[str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        call(utility_command, [*words, f"out={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_a_missing_matplotlib_is_said_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="the figure needs matplotlib"):
        utility_command(attentions=["standard"])


class Picky(Task):
    """Measures its seed, refuses the attention `shy`, and fails for `weak` at seed 2."""

    name, question, headline, unit, better = "picky", "Which seed is it?", "seed", "seeds", "more"
    shown: ClassVar[dict[str, str]] = {"seed": "seed"}
    solved = 3.0

    def measure(self, lab: Lab) -> Outcome:
        if lab.name == "shy":
            raise UnsupportedError("layer 0 (Shy) cannot share key/value heads | ever.")
        if lab.name == "weak" and lab.seed == 2:
            raise TrainingError("diverged: loss nan")
        return Outcome({"seed": float(lab.seed)})


@pytest.fixture
def picky_rows(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.setitem(TASKS, "picky", Picky())
    jobs = [
        Job(name, STANDARD, seed, ("picky",), None, "cpu") for name in ("good", "shy", "weak") for seed in (1, 2, 3)
    ]
    return [row for job in jobs for row in run_job(job)]


def test_who_cannot_is_named_with_the_reason(picky_rows: list[dict[str, Any]]) -> None:
    of_task = standings(picky_rows)["picky"]
    assert of_task["good"].estimates["seed"].mean == 2
    assert of_task["good"].solved_seeds == 1
    assert of_task["shy"].reason == "refused: layer 0 (Shy) cannot share key/value heads | ever."
    assert of_task["weak"].reason == "failed at 1 of 3 seeds: diverged: loss nan"
    shown = page(picky_rows, 3, ["a fact"])
    assert "| good | 2.00 [-0.48, 4.48] |" in shown
    assert "| shy | refused |" in shown
    assert "| shy | refused: layer 0 (Shy) cannot share key/value heads / ever. |" in shown
    assert "| weak | failed at 1 of 3 seeds |" in shown
    assert "Solved, from 3 on, at how many seeds: good (1 of 3)." in shown


def test_a_task_that_nobody_solves_says_so(picky_rows: list[dict[str, Any]]) -> None:
    rows = [row for row in picky_rows if row["attention"] == "good" and row["seed"] < 3]
    assert "Solved by none, from 3 on" in page(rows, 2, [])


TINY_RUN = (
    "model.num_layers=1,model.hidden_size=32,model.num_heads=2,model.intermediate_size=32,model.max_seq_len=32,"
    "tokenizer.vocab_size=300,data.batch_size=2,data.micro_batch_size=2,data.val_frac=0.2"
)


@pytest.mark.slow
def test_text_trains_a_real_run(tmp_path: Path, cache_dir: Path) -> None:
    write_tales(tmp_path / "texts", 100_000, seed=1)
    words = f"words=[{TINY_RUN},data.cache_dir='{cache_dir}']"
    folder = tmp_path / "out"
    call(
        utility_command,
        ["attentions=[standard]", f"text={tmp_path / 'texts'}", "seeds=1", "steps=3", words, f"out={folder}"],
    )
    (row,) = json.loads((folder / "results.json").read_text(encoding="utf-8"))["rows"]
    assert set(row["figures"]) >= {"bits_per_byte", "unigram", "tokens_per_s", "mflops_per_token"}
    assert row["cost"]["tokens"] == 3 * 2 * 32
    assert (folder / "runs" / "standard-seed1" / "summary.json").is_file()
    assert "which has no interval" in (folder / "table.md").read_text(encoding="utf-8")


def test_a_refusal_of_the_run_is_the_refusal_of_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("data.path=texts", "model.num_heads=3")
    monkeypatch.setattr(sys, "argv", ["text", str(tmp_path), *words])
    text.main()
    said = capsys.readouterr().out
    monkeypatch.setattr(text.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, said, ""))
    settings = suite.text_settings("texts", ["model.num_heads=3"], tmp_path / "out")
    (row,) = run_job(Job("standard", STANDARD, 1, ("text",), 2, "cpu", settings))
    assert row["refused"].startswith("model.hidden_size=128 is not divisible by model.num_heads=3")


def test_a_run_that_breaks_is_a_failure_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = subprocess.CompletedProcess([], 1, "", "Traceback ...\nZeroDivisionError: division by zero")
    monkeypatch.setattr(text.subprocess, "run", lambda *_, **__: broken)
    with pytest.raises(TrainingError, match="exit code 1: (?s:.*)division by zero"):
        text.in_its_own_process([], Path("somewhere"))
