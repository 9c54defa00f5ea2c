"""Texts to a trained model with the network off, and with the texts at another place than before."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_program
from tests.data.conftest import write_corpus

# Libraries may swallow an error, so every attempt is also written down.
BLOCKED = """
    import os, socket
    LOCAL = ("127.0.0.1", "::1", "localhost", "", None)
    def refuse(host):
        with open(os.environ["ATTEMPTS"], "a") as file:
            file.write(f"{host}\\n")
        raise OSError(101, "Network is unreachable")
    def guard(real):
        def call(self, address):
            if self.family != socket.AF_UNIX and address[0] not in LOCAL:
                refuse(address[0])
            return real(self, address)
        return call
    socket.socket.connect = guard(socket.socket.connect)
    socket.socket.connect_ex = guard(socket.socket.connect_ex)
    look_up = socket.getaddrinfo
    def getaddrinfo(host, *more, **named):
        if host not in LOCAL:
            refuse(host)
        return look_up(host, *more, **named)
    socket.getaddrinfo = getaddrinfo
"""


@pytest.fixture
def attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every Python process started from now on has no network; the file of what it tried to reach."""
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(textwrap.dedent(BLOCKED))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'blocked'}:{ROOT}")
    monkeypatch.setenv("ATTEMPTS", str(tmp_path / "attempts.txt"))
    return tmp_path / "attempts.txt"


def test_the_block_holds(attempts: Path) -> None:
    words = ["-c", "import urllib.request; urllib.request.urlopen('http://example.org', timeout=5)"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 1
    assert attempts.read_text() == "example.org\n"


@pytest.mark.slow
def test_a_run_needs_no_network_and_goes_on_when_its_texts_have_moved(
    attempts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path / "old" / "texts")
    monkeypatch.setenv("TEXTS", str(tmp_path / "old"))
    small = [
        "trainer.max_steps=2", "trainer.device=cpu", "model.num_layers=1", "model.max_seq_len=32",
        "tokenizer.vocab_size=300", "data.val_frac=0.2", "data.val_rows=2", "data.batch_size=2",
        "data.micro_batch_size=1", "scheduler=none", "scheduler.warmup_steps=1", "callbacks.samples.every_steps=2",
        "callbacks.samples.max_new_tokens=4",
    ]  # fmt: skip
    words = ["data.path='${oc.env:TEXTS}/texts'", *small, "hydra.run.dir=run"]
    done = run_program(str(ROOT / "train.py"), *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "old").rename(tmp_path / "new")
    resume = [str(ROOT / "train.py"), "resume=run", "trainer.max_steps=3"]
    done = run_program(*resume, f"data.path='{tmp_path / 'new' / 'texts'}'", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not attempts.exists()
