"""Every command of the README is run: here, in a small form, or as it stands by .ci/run."""

import random
import re
import shlex
import shutil
from pathlib import Path

import pytest

from bulba.export.run import export
from tests.conftest import ROOT, run_program

COMMAND = re.compile(r"(?:\w+=\w+ )?(?:pip install uv && )?uv run [^`\n]+")
IN_CI = ("pip install uv && uv run train.py", "pip install uv && uv run pytest")

TINY = [
    "trainer.max_steps=3",
    "scheduler.warmup_steps=1",
    "data.batch_size=2",
    "data.micro_batch_size=1",
    "data.val_rows=2",
    "callbacks.samples.every_steps=null",
]
TINY_MODEL = ["model.num_layers=1", "model.hidden_size=32", "model.num_heads=4", "model.intermediate_size=32"]
TINY_TALES = ["data.size_mb=0.5", "tokenizer.vocab_size=1024"]

UNTRIED = {"_target_": "bulba.export.gguf.export_gguf", "type": "f16", "license": None, "verify": False}

# Command of the README -> what makes it small enough for a test; the command itself is run word for word.
SMALLER: dict[str, list[str]] = {
    "uv run python -m bulba ready data.path=FOLDER": ["model.max_seq_len=32", "tokenizer.vocab_size=300"],
    "uv run train.py data.path=FOLDER": [*TINY, "tokenizer.vocab_size=300", "data.val_frac=0.2"],
    "uv run python -m bulba prepare data.path=FOLDER": ["tokenizer.vocab_size=300", "data.val_frac=0.2"],
    "uv run python -m bulba prepare -m data.path=FOLDER part=0,1 num_parts=2 hydra/launcher=joblib": [],
    "uv run train.py data.path=FOLDER data.mode=packed": [
        *TINY, *TINY_MODEL, "model.max_seq_len=32", "tokenizer.vocab_size=300", "data.val_frac=0.2",
    ],
    "uv run python -m bulba data parquet path=FOLDER out=SHARDS": [],
    "uv run python -m bulba data show run=last step=1": [],
    "uv run python -m bulba replay run=last step=1": [],
    "uv run python -m bulba tokenizer report tokenizer=last": ["sizes=[300]", "max_mb=0.1"],
    "uv run python -m bulba bench data": [
        "parts=[encode,parity]", "text=FOLDER", "strings=1000", "rounds=1", "vocab_size=300", "code=false", "out=null",
    ],
    "uv run python -m bulba bench train": [
        "model=murashka", "seq_len=32", "rows=2", "rounds=2", "steps=1", "warmup=1", "programs=[both,bare,hf]",
        "words=[tokenizer.vocab_size=300,data.size_mb=0.1,model.num_layers=1]", "out=null",
    ],
    "uv run train.py model=zubr mode=both": [*TINY, *TINY_MODEL, *TINY_TALES, "model.max_seq_len=32"],
    "uv run train.py model=krolik tokenizer=bpe_32k data.path=FOLDER": [
        *TINY, *TINY_MODEL, "model.max_seq_len=32", "tokenizer.vocab_size=300", "data.val_frac=0.2",
    ],
    "uv run python -m bulba plan model=krolik data.path=FOLDER": [
        *TINY, *TINY_MODEL, "model.max_seq_len=32", "tokenizer.vocab_size=300", "data.val_frac=0.2",
    ],
    "uv run train.py attention.pattern=[standard,ultrametric,tropical]": [
        *TINY, *TINY_MODEL, *TINY_TALES, "model.num_layers=3", "model.max_seq_len=32",
    ],
    "uv run python -m bulba demo standard": [],
    "uv run python -m bulba utility": [
        "attentions=[standard]", "tasks=[recall,memory]", "seeds=2", "steps=2", "workers=1", "out=utility",
    ],
    "uv run python -m bulba bench attention": [
        "attentions=[standard]", "seq_len=32", "hidden_size=32", "num_heads=2", "rounds=2", "steps=1", "out=null",
    ],
    "uv run python -m bulba doctor run=last": [],
    "uv run python -m bulba bench plan": ["settings=trainer.max_steps=4", 'cases=["model.num_layers=1"]'],
    "uv run train.py --cfg job": [],
    "uv run train.py experiment=smoke": TINY,
    "uv run train.py resume=last": [],
    "uv run train.py --config-path RUN": [],
    "uv run train.py -m model=murashka optimizer=adamw,muon seed=1,2": [*TINY, *TINY_TALES],
    "uv run python -m bulba compare RUN RUN": [],
    'uv run python -m bulba generate run=last prompt="Жыў-быў"': ["max_new_tokens=5"],
    "uv run export.py run=last": [],
    "uv run export.py run=last export=[onnx,int8]": [],
    "uv run export.py run=last export=handover": [],
    "uv run python -m bulba verify file=FILE.gguf run=RUN": [],
    "uv run python -m bulba bench types run=last": ["rows=2", "types=[f16,q4_k_m]"],
    "uv run python -m bulba bench int8 run=last": ["documents=2", "new_tokens=4", "rounds=1"],
    "uv run export.py run=last export=gguf export.llama_cpp=sdist": [],
    "uv run python -m bulba bench converter": [
        "models=[murashka]", "words=[model.num_layers=1]", "vocab_size=300", "rounds=1", "types=[f16]", "out=null",
    ],
    "uv run python -m bulba info": [],
    "uv run python -m bulba load run=last": [],
    "uv run python -m bulba verify-resume": ["kills=2", "steps=24"],
    "uv run python -m bulba bench text run=last": [],
    "uv run python -m bulba bench position run=RUN": ["times=2", "documents=2"],
    "uv run python -m bulba bench words run=last": ["sentences=3", "max_new_tokens=40"],
    "BULBA_LANG=be uv run python -m bulba --help": [],
    "uv run train.py model.num_layer=3": [],
}  # fmt: skip


def commands_of(name: str) -> list[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    # Indented lines are the output of a command, with that run's own name in it.
    text = "\n".join(line for line in lines if not line.startswith("  "))
    return list(dict.fromkeys(command.strip() for command in COMMAND.findall(text)))


def test_every_command_has_its_row_here_or_is_run_by_ci() -> None:
    assert set(commands_of("README.md")) == {*SMALLER, *IN_CI}
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in IN_CI:
        assert command.removeprefix("pip install uv && ") in script


@pytest.mark.parametrize("name", ["README.ru.md", "README.be.md"])
def test_the_translations_give_the_same_commands(name: str) -> None:
    assert commands_of(name) == commands_of("README.md")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, small_run: Path) -> Path:
    """A working folder with a finished run in runs/ and a folder of mixed texts."""
    place = tmp_path_factory.mktemp("place")
    (place / "runs").mkdir()
    shutil.copytree(small_run, place / "runs" / "small")
    (gguf,) = export(small_run, {"gguf": UNTRIED}, place / "export")
    gguf.rename(place / "FILE.gguf")
    folder = place / "FOLDER"
    folder.mkdir()
    words = ["стары", "воўк", "жыў", "каля", "ракі", "і", "чакаў", "зімы", "а", "малая", "лісічка", "збірала", "грыбы"]
    draw = random.Random(0)
    # Different texts: near copies of one would be dropped.
    texts = [" ".join(draw.choices(words, k=300)) + "." for _ in range(14)]
    for number, text in enumerate(texts[:12]):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    (folder / "more.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts[12:]) + "broken\n")
    return place


@pytest.mark.slow
@pytest.mark.parametrize("command", SMALLER)
def test_the_command_works(
    command: str, place: Path, small_run: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if command.endswith(("=sdist", "bench converter")):
        request.getfixturevalue("sdist")  # skips where it cannot be fetched
    words = [word.replace("RUN", str(small_run)) for word in shlex.split(command)]
    while "=" in words[0]:
        name, value = words.pop(0).split("=")
        monkeypatch.setenv(name, value)
    words = [word for word in words if word not in ("uv", "run", "python")] + SMALLER[command]
    # The programs lie in the checkout; the test's own folder takes what they write.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = [str(ROOT / word) if word in ("train.py", "export.py") else word for word in words]
    done = run_program(*words, cwd=place, timeout=600)
    expected = 2 if command.endswith("num_layer=3") else 0
    assert done.returncode == expected, done.stdout + done.stderr
    if expected:
        assert done.stderr.strip() in (ROOT / "README.md").read_text(encoding="utf-8")
