"""`python -m bulba prepare` and `data show`: what a person sees."""

from pathlib import Path

import pytest

from tests.conftest import run_program
from tests.data.conftest import write_corpus


@pytest.mark.slow  # several programs one after another
def test_a_preparation_is_reported_and_parts_are_shared_between_processes(tmp_path: Path) -> None:
    write_corpus(tmp_path / "texts")
    (tmp_path / "texts" / "bad.jsonl").write_text("broken\n")
    words = ["data.path=texts", "tokenizer.vocab_size=300", "data.val_frac=0.2"]
    command = ["-m", "bulba", "prepare"]
    done = run_program(
        *command, "-m", *words, "part=0,1", "num_parts=2", "hydra/launcher=joblib", cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "part 0 of 2" in done.stdout
    done = run_program(*command, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for shown in ("texts", "rejected", "bad.jsonl", "line 1: broken JSON", "prepare.json"):
        assert shown in done.stdout
    failed = run_program(*command, "-m", *words, "part=0,5", "num_parts=2", cwd=tmp_path)
    assert failed.returncode == 2
    assert "part=5 of num_parts=2 does not exist" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_step_is_named_by_its_documents(small_run: Path) -> None:
    done = run_program("-m", "bulba", "data", "show", f"run={small_run}", "step=1", "chars=40")
    assert done.returncode == 0, done.stderr
    assert "micro-batch 0, row 0, from token 0" in done.stdout
    assert "pieces of" in done.stdout
