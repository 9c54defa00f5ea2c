"""The model card says what the run's files say, in four languages, and leaves out what they do not."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from bulba.data.tokenizer import Tokenizer
from bulba.export.card import card, places
from bulba.export.card_texts import APOSTROPHES, CACHE, DEMANDS, KINDS, LICENSE, TEXTS, TITLES
from bulba.export.hf import export_hf, generation_config
from bulba.export.run_facts import LANGUAGES, read_facts, source_names
from bulba.report.records import read_metrics

FINGERPRINT = "ab" * 32
PREPARED = {
    "data_fingerprint": FINGERPRINT,
    "train_tokens": 1038093,
    "train_documents": 6501,
    "train_text_bytes": 5783922,
    "val_tokens": 17587,
    "val_documents": 111,
    "val_text_bytes": 96847,
    "sources": [{"languages": {"uk": 3, "be": 5, "code": 1}}, {"languages": {"be": 2}}],
    "tokenizer": {"learnt_from": {"total_text_bytes": 5783922, "language_bytes": {"be": 5000000, "uk": 783922}}},
}
METRICS = (
    "step,train/loss,train/tokens,val/loss,val/bpb\n"
    "5,3.25,1000.0,3.5,1.125\n"
    "10,2.125,2000.0,2.25,0.78125\n"
    "15,1.5,3000.0,1.75,0.5\n"
)


@pytest.fixture
def run(checkpoint: Path, tokenizer_json: Path, tmp_path: Path) -> Path:
    """A run folder whose newest checkpoint is that of step 10, with all of its records."""
    folder = tmp_path / "runs" / "small"
    shutil.copytree(checkpoint, folder / "checkpoints" / "step_00000010")
    shutil.copytree(tokenizer_json.parent, folder / "tokenizer", ignore=shutil.ignore_patterns("*.bin"))
    (folder / "metrics.csv").write_text(METRICS, encoding="utf-8")
    (folder / "run.json").write_text(json.dumps({"data_fingerprint": FINGERPRINT}), encoding="utf-8")
    config = {
        "data": {
            "_target_": "bulba.data.corpora.FolderData",
            "path": ["/home/somebody/кнігі", "/home/somebody/news.jsonl"],
            "cache_dir": str(tmp_path / "cache"),
            "cleaning": {"apostrophes": "U+2019"},
        },
        "callbacks": {"samples": {"every_steps": 5, "max_new_tokens": 40, "temperature": 0.5}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    summary = {"samples": {"be": "Жыў-быў\n  дзед {x}."}, "result": {"step": 10}, "data": {"train_tokens": 7}}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    cache = tmp_path / "cache" / FINGERPRINT[:32]
    cache.mkdir(parents=True)
    (cache / "prepare.json").write_text(json.dumps(PREPARED), encoding="utf-8")
    return folder


def export(run: Path, **options: Any) -> Path:
    checkpoint = run / "checkpoints" / "step_00000010"
    return export_hf(checkpoint, run / "tokenizer" / "tokenizer.json", run / "out", "float32", verify=False, **options)


def sections(page: str) -> dict[str, str]:
    """The part of every language, by the language."""
    found = re.split(r"^## (.+)$", page, flags=re.M)
    by_title = dict(zip(found[1::2], found[2::2], strict=True))
    return {language: by_title[title] for language, title in TITLES.items()}


def test_the_card_of_a_whole_run(run: Path) -> None:
    folder = export(run, license="cc-by-sa-4.0")
    page = (folder / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(page.split("---")[1])
    assert front == {
        "language": ["be", "uk"],
        "license": "cc-by-sa-4.0",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["bulba"],
    }
    size = (folder / "model.safetensors").stat().st_size
    weights = json.loads((run / "checkpoints" / "step_00000010" / "model.json").read_text(encoding="utf-8"))
    for language, text in sections(page).items():
        titles = re.findall(r"^### (.+)$", text, flags=re.M)
        assert titles == [title for title, _ in TEXTS[language].values()]
        plain = text.replace("\N{NO-BREAK SPACE}", ",")
        for number in (1038093, 6501, 5783922, 17587, 111, 2000, 5000000, 783922, size, weights["num_params"]):
            assert re.search(rf"\b{number:,}\b", plain), number
        for figure in ("2.1250", "2.2500", "0.7812"):
            assert figure in text.replace("0,", "0.").replace("2,", "2.")
        assert "кнігі, news.jsonl" in text
        assert "/home/somebody" not in text
        assert "’ (U+2019)" in text
        assert "cc-by-sa-4.0" in text
        assert "trust_remote_code" not in text
        assert "{" not in text.replace("{x}", "")
    assert "«Жыў-быў дзед {x}.»" in page
    generation = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    assert generation.items() >= {"do_sample": True, "temperature": 0.5, "max_new_tokens": 40, "top_k": 0}.items()


def test_what_the_run_does_not_have_is_left_out(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "cache")
    metrics = run / "metrics.csv"
    metrics.write_text(METRICS.replace("\n10,", "\n11,"), encoding="utf-8")
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    summary["result"]["step"] = 15
    (run / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    facts = read_facts(run / "checkpoints" / "step_00000010")
    assert facts["train_tokens"] == 7  # of summary.json
    missing = {"seen_tokens", "train_loss", "val_loss", "val_bpb", "samples", "language_bytes", "train_text_bytes"}
    assert not facts.keys() & missing
    page = (export(run) / "README.md").read_text(encoding="utf-8")
    assert "### Results" not in page
    assert "language:" not in page
    for name in ("metrics.csv", "summary.json", "run.json"):
        (run / name).unlink()
    assert "The author of the model named no licence." in (export(run) / "README.md").read_text(encoding="utf-8")


def test_data_of_another_fingerprint_are_not_the_runs(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "cache" / FINGERPRINT[:32] / "prepare.json"
    path.write_text(json.dumps(PREPARED | {"data_fingerprint": "cd" * 32}), encoding="utf-8")
    assert "train_text_bytes" not in read_facts(run / "checkpoints" / "step_00000010")


def test_a_lone_checkpoint_has_the_figures_of_its_model(checkpoint: Path, tokenizer_json: Path, tmp_path: Path) -> None:
    folder = export_hf(checkpoint, tokenizer_json, tmp_path / "out", "float32", verify=False)
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert "### The model" in page
    assert "### Training" not in page
    generation = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    assert generation["max_length"] == 128
    assert "do_sample" not in generation


def test_all_languages_say_the_same() -> None:
    for table in (TITLES, TEXTS, KINDS, APOSTROPHES, DEMANDS, CACHE, LICENSE):
        assert tuple(table) == LANGUAGES

    def shape(language: str) -> dict[str, list[set[str]]]:
        own = f"_{language}"
        return {
            name: [{place.removesuffix(own) for place in places(line)} for line in lines]
            for name, (_, lines) in TEXTS[language].items()
        }

    for language in LANGUAGES:
        assert shape(language) == shape("en")
        for table in (KINDS, APOSTROPHES, CACHE, LICENSE):
            assert table[language].keys() == table["en"].keys()
            assert all(places(table[language][key]) == places(text) for key, text in table["en"].items())


def test_a_model_without_a_cache_generates_without_one(tokenizer: Tokenizer) -> None:
    facts = {"max_seq_len": 64, "sampling": {"max_new_tokens": 9, "temperature": 0.0}}
    assert generation_config(facts, tokenizer, None, uses_cache=False) == {"use_cache": False, "max_new_tokens": 9}


@pytest.mark.parametrize("uses_cache", [True, False])
def test_a_folder_with_code_says_how_it_is_opened(checkpoint: Path, uses_cache: bool) -> None:
    page = card(
        read_facts(checkpoint),
        name="x",
        folder="x-hf",
        license=None,
        kind="base",
        has_code=True,
        uses_cache=uses_cache,
    )
    for language, text in sections(page).items():
        assert text.count('from_pretrained("x-hf", trust_remote_code=True)') == 2
        assert "torch 2.11" in text
        assert CACHE[language][uses_cache] in text


def test_names_of_sources() -> None:
    assert source_names({"name": "HuggingFaceFW/fineweb-2", "config_name": "bel_Cyrl"}) == [
        "HuggingFaceFW/fineweb-2 bel_Cyrl"
    ]
    assert source_names({"_target_": "bulba.data.corpora.TalesData"}) == ["bulba tales"]
    assert source_names({"path": None, "sources": [{"path": "/a/b"}]}) == ["b"]
    assert source_names({}) == []


@pytest.mark.slow
def test_the_card_of_a_real_run_and_its_code(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkpoint,) = sorted((small_run / "checkpoints").glob("step_*"))[-1:]
    folder = export_hf(checkpoint, small_run / "tokenizer" / "tokenizer.json", tmp_path / "tiny", "float32")
    page = (folder / "README.md").read_text(encoding="utf-8")
    summary = json.loads((small_run / "summary.json").read_text(encoding="utf-8"))
    row = read_metrics(small_run)[summary["result"]["step"]]
    assert f"- Validation text: {row['val/bpb']:.4f} bits per byte." in page
    assert f"- Tokens read (repeats included): {summary['result']['train_tokens']:,}." in page
    assert f"{summary['data']['train_tokens']:,} tokens, {summary['data']['train_documents']:,} documents" in page
    assert yaml.safe_load(page.split("---")[1])["language"] == ["be", "ru", "uk", "en"]
    monkeypatch.chdir(tmp_path)
    for code in re.findall(r"```python\n(.*?)```", page, flags=re.S):
        exec(code, {})
