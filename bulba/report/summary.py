"""summary.json for programs and run.md for people: what a run was, and how it ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bulba.config.snapshot import write_json
from bulba.errors import CheckpointError
from bulba.files import write_text

SCHEMA = Path(__file__).with_name("summary.schema.json")
SCHEMA_VERSION = 1


def write_summary(run: Path, summary: dict[str, Any]) -> None:
    """Write summary.json and run.md."""
    write_json(run / "summary.json", {"schema_version": SCHEMA_VERSION} | summary)
    write_text(run / "run.md", run_page(summary))


def read_summary(run: Path) -> dict[str, Any]:
    """The summary of a run; CheckpointError where it has none."""
    path = run / "summary.json"
    if not path.is_file():
        raise CheckpointError(f"{run} has no summary.json: let the run end, or go on with it by resume={run}.")
    return json.loads(path.read_text(encoding="utf-8"))


def run_page(summary: dict[str, Any]) -> str:
    """run.md: readable without the repository."""
    model, data, result = summary["model"], summary["data"], summary["result"]
    rows = [
        ("state", f"{summary['status']} at step {result['step']:,} of {result['max_steps']:,}"),
        ("validation", _figure(result, "val/bpb", "{:.4f} bits per byte")),
        ("validation loss", _figure(result, "val/loss", "{:.4f} nats per token")),
        ("training loss", _figure(result, "train/loss", "{:.4f} nats per token")),
        ("tokens trained on", f"{result['train_tokens']:,}"),
        ("speed", f"{result['tokens_per_s']:,.0f} tokens/s over {result['train_seconds']:,.0f} s"),
        ("computing", _computing(result)),
        (
            "model",
            f"{model['num_params']:,} weights, {model['num_params_non_embedding']:,} without embeddings",
        ),
        (
            "shape",
            f"{model['num_layers']} layers of {model['hidden_size']}, heads {model['num_heads']}/"
            f"{model['num_kv_heads']}, vocabulary {model['vocab_size']:,}, context {model['max_seq_len']:,}",
        ),
        (
            "data",
            f"{data['train_tokens']:,} tokens in {data['train_documents']:,} documents; "
            f"{data['val_documents']:,} documents kept for validation",
        ),
        ("device", f"{summary['device']['name']}, {summary['device']['precision']}"),
        ("computed by", _computed_by(summary["device"])),
        ("commit", (summary["git"] or {}).get("commit", "not a git checkout")),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    samples = "\n\n".join(
        f"**{language or 'sample'}** {' '.join(text.split())}" for language, text in summary["samples"].items()
    )
    return (
        f"# Run {summary['name']}\n\n|  |  |\n| --- | --- |\n{table}\n\n"
        f"## What it writes\n\n{samples or 'No samples were asked for.'}\n\n"
        f"## Again\n\nThe settings are in `config.yaml` beside this page. The command was\n\n"
        f"    {' '.join(summary['command'])}\n\nand the same run again is\n\n"
        f"    uv run train.py --config-path {summary['folder']}\n"
    )


def _figure(result: dict[str, Any], name: str, form: str) -> str:
    return form.format(result[name]) if result.get(name) is not None else "none yet"


def _computed_by(device: dict[str, Any]) -> str:
    compiled = device.get("compiled")
    attention = f"attention kernel: {device.get('kernel', 'not recorded')}"
    if not compiled:
        return f"{attention}; not compiled"
    return (
        f"{attention}; {compiled['graphs']} compiled graphs for {compiled['shapes']} shapes, "
        f"{compiled['graph_breaks']} graph breaks, {compiled['recompiles']} recompiles"
    )


def _computing(result: dict[str, Any]) -> str:
    """How much of the device the training used, and by whose figure."""
    if result.get("mfu") is None:
        return "not measured"
    source = {"maker": "its maker's figure", "measured": "measured on it"}[result["peak_source"]]
    return (
        f"{result['tflops_per_s']:,.3g} TFLOP/s, {100 * result['mfu']:.1f} % of the device's peak of "
        f"{result['peak_tflops_per_s']:,.3g} TFLOP/s ({source})"
    )
