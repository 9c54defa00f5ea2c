"""The folder to give away: files that are proved, and settings with which other programs draw as Bulba does."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest
import yaml

import bulba.export.rotary as rotary_module
from bulba.errors import ConfigError, ExportError
from bulba.export.chat import read_chat
from bulba.export.handover import export_handover, lm_studio_preset, modelfile
from bulba.export.run_facts import read_facts
from tests.export.conftest import MakeCheckpoint


@pytest.fixture
def run(make_checkpoint: MakeCheckpoint, tokenizer_json: Path, tmp_path: Path) -> Path:
    """A run with one checkpoint, that drew samples at temperature 0.7."""
    folder = tmp_path / "runs" / "Small"
    shutil.copytree(make_checkpoint(), folder / "checkpoints" / "step_00000010")
    shutil.copytree(tokenizer_json.parent, folder / "tokenizer", ignore=shutil.ignore_patterns("*.bin"))
    config = {"callbacks": {"samples": {"every_steps": 5, "max_new_tokens": 40, "temperature": 0.7}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


def export(run: Path, **options: Any) -> Path:
    checkpoint = run / "checkpoints" / "step_00000010"
    settings = {"types": ["q4_0", "q8_0"]} | options
    return export_handover(checkpoint, run / "tokenizer" / "tokenizer.json", run / "export" / "Small", **settings)


def test_the_folder(run: Path) -> None:
    folder = export(run, license="cc0-1.0")
    assert folder == run / "export" / "Small-handover"
    names = {file.name for file in folder.iterdir()}
    files = {
        f"Small-{type}{end}" for type in ("q4_0", "q8_0") for end in (".gguf", ".certificate.json", ".certificate.md")
    }
    assert names == files | {"Modelfile", "Small.preset.json", "README.md"}
    for type in ("q4_0", "q8_0"):
        certificate = json.loads((folder / f"Small-{type}.certificate.json").read_text(encoding="utf-8"))
        assert (certificate["fault"], certificate["type"]) == (None, type)
        assert gguf.GGUFReader(folder / f"Small-{type}.gguf").fields["general.name"].contents() == "Small"
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert "library_name: gguf" in page
    assert page.count("ollama create small && ollama run small") == 4
    assert str(run) not in page


def test_other_programs_draw_as_the_run_did(run: Path) -> None:
    folder = export(run)
    lines = (folder / "Modelfile").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["FROM ./Small-q4_0.gguf", 'TEMPLATE """{{ .Prompt }}"""']
    parameters = dict(line.split()[1:] for line in lines[2:])
    assert parameters == {
        "num_ctx": "128", "top_k": "0", "top_p": "1.0", "min_p": "0.0", "repeat_penalty": "1.0",
        "temperature": "0.7", "num_predict": "40",
    }  # fmt: skip
    preset = json.loads((folder / "Small.preset.json").read_text(encoding="utf-8"))
    fields = gguf.GGUFReader(folder / "Small-q4_0.gguf").fields
    drawn = {
        key.removeprefix("general.sampling."): each.contents() for key, each in fields.items() if "sampling" in key
    }
    assert drawn == pytest.approx({"temp": 0.7, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "penalty_repeat": 1.0})
    values = {field["key"]: field["value"] for field in preset["operation"]["fields"] + preset["load"]["fields"]}
    assert values["llm.prediction.temperature"] == 0.7
    assert values["llm.prediction.topPSampling"]["checked"] is False
    assert values["llm.load.contextLength"] == 128
    assert "message['content']" in values["llm.prediction.promptTemplate"]["jinjaPromptTemplate"]["template"]


def test_a_model_that_chats_gets_its_template(run: Path, tmp_path: Path) -> None:
    tokens = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    added = [{"content": text, "id": at, "special": True} for at, text in enumerate(tokens)]
    tokenizer = tmp_path / "chat.json"
    tokenizer.write_text(json.dumps({"added_tokens": added}), encoding="utf-8")
    checkpoint = run / "checkpoints" / "step_00000010"
    (run / "config.yaml").write_text("stage: {_target_: bulba.stage.sft.Sft}\n", encoding="utf-8")
    chat, facts = read_chat(checkpoint, tokenizer), read_facts(checkpoint)
    assert chat is not None
    text = modelfile("x.gguf", facts, chat)
    assert 'PARAMETER stop "<|eot_id|>"' in text
    assert '<|start_header_id|>assistant<|end_header_id|>\n\n"""' in text
    assert re.search(r"range \.Messages .*\.Role.*\.Content", text, re.S)
    preset = json.loads(lm_studio_preset("x", facts, chat))
    template = next(each for each in preset["operation"]["fields"] if each["key"] == "llm.prediction.promptTemplate")
    assert template["value"]["jinjaPromptTemplate"]["template"] == chat.inference
    assert template["value"]["stopStrings"] == ["<|eot_id|>"]


def test_a_file_that_fails_stays_and_there_is_no_folder(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotary_module, "interleave_halves", lambda rows, head_dim: rows)
    with pytest.raises(ExportError) as caught:
        export(run)
    rejected = run / "export" / "Small-q4_0.gguf.rejected"
    assert f"it stays as {rejected}" in str(caught.value)
    assert {file.name for file in (run / "export").iterdir()} == {
        rejected.name,
        "Small-q4_0.certificate.json",
        "Small-q4_0.certificate.md",
    }


def test_the_importance_matrix_is_measured_once(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Жыў-быў дзед, сям'я яго жыла ў хаце. " * 300, encoding="utf-8")
    folder = export(run, types=["q4_0", "q8_0", "q5_1"], imatrix=str(text), verify=False)
    assert capsys.readouterr().out.count("importance of columns measured") == 1
    # q8_0 takes none.
    assert {file.name for file in folder.glob("*.imatrix.gguf")} == {
        "Small-q4_0-unproved.imatrix.gguf",
        "Small-q5_1-unproved.imatrix.gguf",
    }
    for type, has_one in {"q4_0": True, "q8_0": False, "q5_1": True}.items():
        fields = gguf.GGUFReader(folder / f"Small-{type}-unproved.gguf").fields
        assert ("quantize.imatrix.dataset" in fields) == has_one


def test_wrong_types_are_refused_before_anything_is_written(run: Path, tmp_path: Path) -> None:
    for types in ([], ["q9"], ["q8_0", "q8_0"]):
        with pytest.raises(ConfigError, match=r"export\.handover\.types=.* must be one or more of f32, f16"):
            export(run, types=types)
    with pytest.raises(ConfigError, match=r"export\.handover\.imatrix does nothing for types=\['q8_0'\]"):
        export(run, types=["q8_0"], imatrix=str(tmp_path / "text.txt"))
    assert not (run / "export").exists()
