"""An exported file behind llama.cpp's own HTTP server, which is how other programs talk to it."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import xllamacpp

from bulba.checkpoint import load_model
from bulba.data.tokenizer import Tokenizer
from bulba.export.gguf import export_gguf
from bulba.generation.engine import SamplingOptions, generate_text

PROMPTS = ("Жыў-быў дзед", "сям'я, сям’я, сямʼя", "def f(x):\n    return", "Одного разу")
NUM_NEW = 24


def test_the_server_takes_the_same_tokens_and_writes_the_same_text(
    checkpoint: Path, tokenizer_json: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    file = export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", "f32")
    model = load_model(checkpoint)
    parameters: Any = xllamacpp.CommonParams()
    parameters.model.path, parameters.n_ctx, parameters.warmup = str(file), 512, False
    parameters.cpuparams.n_threads, parameters.port = 1, 0
    server = xllamacpp.Server(parameters)

    def ask(path: str, question: dict[str, Any]) -> dict[str, Any]:
        body, head = json.dumps(question).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{server.listening_address}{path}", body, head)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    for prompt in PROMPTS:
        question = {"content": prompt, "add_special": True, "parse_special": False}
        assert ask("/tokenize", question)["tokens"] == tokenizer.encode(prompt)
        settings = SamplingOptions(max_new_tokens=NUM_NEW, temperature=0.0)
        expected = generate_text(model, tokenizer, prompt, settings)
        answer = ask("/completion", {"prompt": prompt, "n_predict": NUM_NEW, "temperature": 0, "return_tokens": True})
        ends = expected.finish_reason == "eos"
        assert answer["tokens"] == expected.ids + [tokenizer.eos_id] * ends
        assert answer["stop_type"] == ("eos" if ends else "limit")
