"""`python -m bulba ready`: a tick or a cross with its remedy for whatever a training needs, offline and harmless."""

import importlib.util
import shutil
import socket
from collections import namedtuple
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from bulba.run import ready
from bulba.run.ready import Tick, readiness
from tests.conftest import run_program
from tests.data.conftest import write_corpus


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> NoReturn:
        raise AssertionError("ready reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "texts")
    return tmp_path / "texts"


def ticks_of(tmp_path: Path, *words: str) -> dict[str, Tick]:
    places = [f"data.cache_dir='{tmp_path / 'cache'}'", f"runs_dir='{tmp_path / 'runs'}'", "trainer.device=cpu"]
    own = {word.split("=")[0] for word in words}
    return {tick.name: tick for tick in readiness([*(w for w in places if w.split("=")[0] not in own), *words])}


def test_small_texts_are_tried_for_real_and_nothing_is_left(tmp_path: Path, texts: Path) -> None:
    found = ticks_of(tmp_path, f"data.path='{texts}'", "tokenizer.vocab_size=500")
    assert not [tick for tick in found.values() if tick.stops], found
    assert len(found) == 12
    assert found["texts"].text.endswith("in 7 files")
    assert found["languages"].text.startswith("be ")
    assert found["tokens"].text.endswith("for training, 2,048 a step")
    assert "about" not in found["tokens"].text
    assert list(tmp_path.iterdir()) == [texts]


CROSSES: list[tuple[list[str], str, bool, str]] = [
    # words, the tick that is crossed, whether that stops a training, its sentence
    (["model.num_layer=3"], "settings", True, "did you mean num_layers?"),
    (["data.micro_batch_size=3"], "settings", True, "make it a multiple of 3"),
    (["trainer.precision=fp16"], "precision", True, "set fp32 or bf16"),
    (["data.path=TEXTS", "tokenizer.vocab_size=5000"], "tokens", True, "set tokenizer.vocab_size="),
    (
        ["data.path=TEXTS", "tokenizer.vocab_size=300", "data.batch_size=8000"],
        "tokens",
        False,
        "repeats them: add text",
    ),
    (["data.path=nowhere"], "texts", True, "nowhere does not exist: set the path"),
    (["data.path=BLANK"], "texts", True, "no text was found in 1 files: set data.path"),
    (["data.path=OTHER"], "languages", False, "name it with data.sources="),
    (["data.sources=[{path: TEXTS, weight: 1}, {path: BLANK}]"], "texts", True, "give every source one"),
    (["data=hub", "data.name=owner/name"], "texts", False, "the first start fetches it"),
    (["tokenizer=file", "tokenizer.path=nowhere"], "tokenizer", True, "give a tokenizer.json or its folder"),
    (["data.path=TEXTS", "data.cache_dir=BLANK/cache"], "disk", True, "set data.cache_dir to a folder"),
    (["logger=wandb", "logger.wandb.offline=false"], "loggers", False, "over the network"),
]


@pytest.mark.parametrize(("words", "name", "stops", "sentence"), CROSSES)
def test_what_is_missing_is_crossed_with_its_remedy(
    words: list[str], name: str, stops: bool, sentence: str, tmp_path: Path, texts: Path
) -> None:
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "other.txt").write_text("Cztery psy i jeden kot poszły do lasu. " * 20 + "그리고 " * 2000)
    for mark, path in {"TEXTS": texts, "BLANK": tmp_path / "blank.txt", "OTHER": tmp_path / "other.txt"}.items():
        words = [word.replace(mark, str(path)) for word in words]
    tick = ticks_of(tmp_path, *words)[name]
    assert (tick.ok, tick.stops) == (False, stops)
    assert sentence in tick.text


def test_missing_compilers_libraries_and_room_are_crossed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(ready, "find_spec", lambda name: None if name != "gguf" else importlib.util.find_spec(name))
    monkeypatch.setattr(shutil, "which", lambda name: "nvidia-smi" if name == "nvidia-smi" else None)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 0, 10_000_000))
    found = ticks_of(tmp_path, "mode=compile", "logger=tensorboard", "trainer.device=auto")
    if not torch.cuda.is_available():
        assert "install the torch that fits" in found["device"].text
        assert (found["device"].ok, found["device"].stops) == (False, False)
        assert "sudo apt install g++" in found["compiler"].text
        assert found["compiler"].stops
    assert "uv pip install 'bulba[track]'" in found["loggers"].text
    assert found["loggers"].stops
    assert "GB free: free some, or set " in found["disk"].text
    assert found["disk"].stops
    assert "without xllamacpp, transformers" in found["export"].text
    assert not found["export"].stops


def test_the_command_ends_with_1_where_a_training_would_stop(tmp_path: Path) -> None:
    done = run_program("-m", "bulba", "ready", "data.path=nowhere", "trainer.device=cpu", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "✓ python" in done.stdout
    assert "✗ texts      nowhere does not exist" in done.stdout
    assert "not ready: 1 of these stop a training" in done.stdout
    assert not list(tmp_path.iterdir())
