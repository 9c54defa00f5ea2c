"""Presets, trained for a few steps with vocabularies that no other program has, become files that pass the gate."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.conftest import run_program

WORDS = (
    "trainer.device=cpu",
    "trainer.max_steps=4",
    "trainer.val_every_steps=4",
    "scheduler.warmup_steps=1",
    "data.seq_len=64",
    "data.batch_size=4",
    "data.micro_batch_size=4",
    "data.val_rows=4",
    "callbacks.samples.every_steps=null",
)
# Words, entries of the vocabulary without the three special tokens, type of the file, architecture.
RUNS = {
    "krolik": ("model=krolik model.num_layers=2", 32000, "q4_k_m", "llama"),
    "murashka": ("model=murashka", 8188, "f16", "llama"),
    "nanochat": ("model=nanochat model.num_layers=2", 774, "bf16", "apertus"),
    "expert_tiny": ("model=expert_tiny", 8188, "q8_0", "gpt2"),
    "quaternion": ("model=murashka attention=quaternion attention.rotor_gate=false", 774, "f32", "llama"),
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made words by the law of Zipf, enough of them for 32000 entries."""
    draw = random.Random(0)
    syllables = [
        a + b + c for a in "бвгджзклмнпрстхцчшў" for b in "аеёіоуыэюя" for c in ("", "н", "й", "ль", "р", "ст")
    ]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(60_000)]
    weights = [1 / (rank + 10) for rank in range(len(words))]
    folder = tmp_path_factory.mktemp("texts")
    for number in range(8):
        lines = (" ".join(draw.choices(words, weights, k=12)) for _ in range(8_000))
        (folder / f"{number}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_gate_passes(name: str, texts: Path, tmp_path: Path) -> None:
    words, entries, type, architecture = RUNS[name]
    run = tmp_path / "run"
    done = run_program("train.py", *WORDS, *words.split(), f"tokenizer.vocab_size={entries}", *paths(texts, run))
    assert done.returncode == 0, done.stderr
    done = run_program("export.py", f"run='{run}'", "export=gguf", f"export.gguf.type={type}")
    assert done.returncode == 0, done.stderr
    (path,) = (run / "export").glob("*.certificate.json")
    certificate = json.loads(path.read_text(encoding="utf-8"))
    assert certificate["fault"] is None
    assert certificate["architecture"] == architecture
    assert certificate["num_tokens"] == entries + 3
    assert certificate["num_positions"] >= 256


def paths(texts: Path, run: Path) -> list[str]:
    return [f"data.path='{texts}'", f"data.cache_dir='{texts.parent / 'cache'}'", f"hydra.run.dir='{run}'"]
