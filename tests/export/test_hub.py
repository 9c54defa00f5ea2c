"""`export.push_to_hub` against a Hub of the test's own: the requests of huggingface_hub are real."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bulba.errors import ConfigError, ExportError
from bulba.export.hub import check_hub, places
from tests.conftest import ROOT


class Hub(ThreadingHTTPServer):
    """Takes small files as the Hub does; what was committed is in `files`, by its place."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, object]] = []
        self.refuses = False


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != "Bearer hf_test" or self.server.refuses:
            return self.answer(403, {"error": "this account may not write there"})
        address = f"http://127.0.0.1:{self.server.server_port}/somebody/small"
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            return self.answer(200, {"url": address, "name": "somebody/small"})
        if "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        if "/commit/" not in self.path:
            return self.answer(200, {"errors": [], "warnings": []})  # of the card's front matter
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        return self.answer(200, {"commitUrl": f"{address}/commit/1", "commitOid": "1" * 40, "success": True})

    def answer(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def source(checkpoint: Path, tokenizer_json: Path) -> Path:
    shutil.copytree(tokenizer_json.parent, checkpoint.parent / "tokenizer")
    return checkpoint


def push(hub: Hub, source: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    own = {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_TOKEN": "hf_test",
        "HF_HOME": str(source.parent / "home"),
    }
    command = [sys.executable, "export.py", f"run='{source}'", "export.push_to_hub=somebody/small", *words]
    return subprocess.run(command, cwd=ROOT, env=clean | own | environment, capture_output=True, text=True, timeout=300)


def test_what_was_written_is_committed(hub: Hub, source: Path) -> None:
    done = push(hub, source, "export=[hf,gguf]", "export.gguf.type=q8_0", "export.hf.verify=false")
    assert done.returncode == 0, done.stderr
    assert "on the Hub: " in done.stdout
    assert hub.created[0].get("private") or hub.created[0].get("visibility") == "private"  # by its version
    out = source.parent / "export"
    for name in ("config.json", "model.safetensors", "README.md", "tokenizer.json"):
        assert hub.files[name] == (out / "checkpoint-hf" / name).read_bytes()
    for name in ("checkpoint-q8_0.gguf", "checkpoint-q8_0.certificate.json", "checkpoint-q8_0.certificate.md"):
        assert hub.files[name] == (out / name).read_bytes()


def test_a_refusal_loses_nothing(hub: Hub, source: Path) -> None:
    hub.refuses = True
    done = push(hub, source, "export=hf", "export.hf.verify=false")
    assert done.returncode == 2
    folder = source.parent / "export" / "checkpoint-hf"
    assert (folder / "model.safetensors").is_file()
    assert "somebody/small was not uploaded (" in done.stderr
    assert f"hf upload somebody/small {folder}." in done.stderr
    assert "Traceback" not in done.stderr
    assert hub.files == {}


def test_a_hub_that_is_not_there_is_one_sentence(hub: Hub, source: Path) -> None:
    done = push(hub, source, "export=hf", "export.hf.verify=false", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 2
    assert "somebody/small was not uploaded (" in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_logged_in_is_said_before_anything_is_written(hub: Hub, source: Path) -> None:
    done = push(hub, source, "export=hf", HF_TOKEN="")
    assert "error: export.push_to_hub needs an account, and nobody is logged in here" in done.stderr
    assert not (source.parent / "export").exists()


@pytest.mark.parametrize("name", ["small", "somebody/small/more", "сябра/мадэль", "a b/c"])
def test_names_that_the_hub_does_not_take(name: str) -> None:
    with pytest.raises(ConfigError, match=r"export\.push_to_hub must be USER/NAME"):
        check_hub(name)


def test_where_files_go(tmp_path: Path) -> None:
    for name in ("a-hf/config.json", "a-handover/x.gguf", "a-f16.gguf", "a-f16.certificate.md", "b.gguf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    written = [tmp_path / name for name in ("a-hf", "a-handover", "a-f16.gguf")]
    assert {place: file.read_text(encoding="utf-8") for place, file in places(written).items()} == {
        "config.json": "a-hf/config.json",
        "a-handover/x.gguf": "a-handover/x.gguf",
        "a-f16.gguf": "a-f16.gguf",
        "a-f16.certificate.md": "a-f16.certificate.md",
    }
    (tmp_path / "a-hf" / "a-f16.gguf").write_text("other", encoding="utf-8")
    with pytest.raises(ExportError, match=r"would both be a-f16\.gguf on the Hub"):
        places(written)
