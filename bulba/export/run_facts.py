"""What a run's own files say of the model of a checkpoint, for its model card and its generation_config.json.

Each figure comes from one file, and a figure whose file or field is not there is left out:
- model.json of the checkpoint: sizes and numbers of weights;
- metrics.csv, the row of the checkpoint's step: tokens seen, losses, bits per byte. Other steps had other weights;
- config.yaml: where texts came from, how apostrophes were cleaned, how samples were drawn, which stage it was;
- prepare.json of the prepared data, which config.yaml and the fingerprint of run.json lead to: tokens, bytes and
  documents of the data, and the bytes of every language; where the cache is gone, summary.json has some of them;
- summary.json: samples, if they were written at the checkpoint's step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bulba.checkpoint_folder import CheckpointRef, find_checkpoint
from bulba.report.records import read_metrics

Facts = dict[str, Any]
LANGUAGES = ("be", "ru", "uk", "en")
MODEL_FIGURES = ("num_params", "num_params_non_embedding", "num_layers", "hidden_size", "vocab_size", "max_seq_len")
STEP_FIGURES = {
    "train/tokens": "seen_tokens",
    "train/loss": "train_loss",
    "val/loss": "val_loss",
    "val/bpb": "val_bpb",
}


def read_facts(checkpoint: Path) -> Facts:
    """Figures by name, as far as the run has them; a checkpoint without its run has those of model.json alone."""
    ref = find_checkpoint(checkpoint)
    model = _json(checkpoint / "model.json")
    facts: Facts = {name: model[name] for name in MODEL_FIGURES}
    facts["attention"] = attention_names(model["attention"])
    if ref.run is None:
        return facts
    config: Any = OmegaConf.to_container(OmegaConf.load(ref.run / "config.yaml"))
    summary = _json(ref.run / "summary.json")
    prepared = read_prepared(ref.run, config)
    return facts | step_facts(ref) | data_facts(config, prepared, summary) | sample_facts(ref, config, summary)


def attention_names(node: Mapping[str, Any]) -> str:
    """The classes of attention of a model, in the order of its layers."""
    nodes = [node["mixers"][name] for name in node["pattern"]] if "pattern" in node else [node]
    return ", ".join(dict.fromkeys(one["_target_"].rpartition(".")[2] for one in nodes))


def step_facts(ref: CheckpointRef) -> Facts:
    """metrics.csv."""
    facts: Facts = {"step": ref.step}
    assert ref.run is not None
    if not (ref.run / "metrics.csv").is_file():
        return facts
    row = read_metrics(ref.run).get(ref.step, {})
    facts |= {name: row[column] for column, name in STEP_FIGURES.items() if column in row}
    if "seen_tokens" in facts:
        facts["seen_tokens"] = round(facts["seen_tokens"])
    return facts


def read_prepared(run: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """prepare.json of the data that the run was trained on, {} where the cache is gone or another's."""
    cache, fingerprint = _data(config).get("cache_dir"), _json(run / "run.json").get("data_fingerprint")
    if not (cache and fingerprint):
        return {}
    report = _json(Path(cache) / fingerprint[:32] / "prepare.json")
    return report if report.get("data_fingerprint") == fingerprint else {}


def data_facts(config: Mapping[str, Any], prepared: Mapping[str, Any], summary: Mapping[str, Any]) -> Facts:
    """config.yaml, prepare.json and, for what that lacks, summary.json."""
    counted = summary.get("data", {}) | prepared
    facts: Facts = {
        f"{split}_{figure}": counted[f"{split}_{figure}"]
        for split in ("train", "val")
        for figure in ("tokens", "text_bytes", "documents")
        if f"{split}_{figure}" in counted
    }
    sources = source_names(_data(config))
    if sources:
        facts["sources"] = ", ".join(sources)
    languages = {language for source in prepared.get("sources", []) for language in source["languages"]}
    facts |= {"languages": [language for language in LANGUAGES if language in languages]} if languages else {}
    # Of the texts that the tokenizer was trained on; those it was not trained on are not told apart by language.
    by_language = (prepared.get("tokenizer") or {}).get("learnt_from", {})
    if by_language.get("total_text_bytes") == counted.get("train_text_bytes") and by_language.get("language_bytes"):
        facts["language_bytes"] = dict(by_language["language_bytes"])
    apostrophes = _data(config).get("cleaning", {}).get("apostrophes")
    if apostrophes:
        facts["apostrophes"] = apostrophes
    return facts


def source_names(data: Mapping[str, Any]) -> list[str]:
    """What the texts are called, without the folders of the machine."""
    if data.get("name"):
        return [" ".join(filter(None, [data["name"], data.get("config_name")]))]
    if str(data.get("_target_", "")).endswith(".TalesData"):
        return ["bulba tales"]
    paths = data.get("path") or [source["path"] for source in data.get("sources") or []]
    return [Path(path).name for path in ([paths] if isinstance(paths, str) else paths)]


def sample_facts(ref: CheckpointRef, config: Mapping[str, Any], summary: Mapping[str, Any]) -> Facts:
    """summary.json and config.yaml."""
    facts: Facts = {}
    if summary.get("samples") and summary.get("result", {}).get("step") == ref.step:
        facts["samples"] = dict(summary["samples"])
    options = (config.get("callbacks") or {}).get("samples") or {}
    if options.get("every_steps"):
        facts["sampling"] = {name: options[name] for name in ("max_new_tokens", "temperature")}
    return facts


def _data(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return config.get("data") or {}


def _json(path: Path) -> dict[str, Any]:
    """A JSON file, {} where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
