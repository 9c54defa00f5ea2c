"""The end of a run: last validation, samples, weights, summary, and what to type next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from omegaconf import DictConfig
from safetensors.torch import save_file
from torch import Tensor

from bulba.checkpoint import to_hf_names
from bulba.config.snapshot import read_json
from bulba.data.prepare import PreparedData
from bulba.device import choose_precision, device_name
from bulba.errors import BulbaError, TrainingError
from bulba.files import atomic_file
from bulba.mode import describe_compiled
from bulba.report.summary import write_summary
from bulba.stage.pretrain import Pretrain
from callbacks.checkpoints import Checkpoints
from callbacks.lookup import find_callback
from callbacks.metrics import Metrics
from callbacks.samples import Samples, print_samples, write_samples


def finish(
    config: DictConfig,
    run: Path,
    trainer: L.Trainer,
    stage: Pretrain,
    prepared: PreparedData,
    weights: dict[str, Tensor],
) -> dict[str, Any]:
    """Close the run, keep its `weights`, and return its summary."""
    interrupted = trainer.global_step < trainer.max_steps
    samples: dict[str, str] = {}
    sampler = find_callback(trainer, Samples)
    if sampler and sampler.every_steps and not interrupted:
        samples = write_samples(trainer, stage, sampler.options)
        print_samples(samples, trainer.global_step)
    unsaved = save_weights(run, weights)
    summary = summarize(config, run, trainer, stage, prepared) | {
        "status": "interrupted" if interrupted else "finished",
        "samples": samples,
    }
    write_summary(run, summary)
    checkpoints = find_callback(trainer, Checkpoints)
    if checkpoints:
        checkpoints.check_saved()
    if unsaved:
        raise unsaved
    say_result(run, summary)
    return summary


def save_weights(run: Path, weights: dict[str, Tensor]) -> TrainingError | None:
    """Write final.safetensors; the error where that cannot be, so that the summary is written first."""
    try:
        with atomic_file(run / "final.safetensors") as temporary:
            save_file(to_hf_names(weights), temporary, metadata={"format": "pt"})
    except BulbaError as error:
        return TrainingError(str(error))
    return None


def summarize(
    config: DictConfig, run: Path, trainer: L.Trainer, stage: Pretrain, prepared: PreparedData
) -> dict[str, Any]:
    """What happened, in plain values (bulba/report/summary.schema.json)."""
    began = read_json(run / "run.json")
    metrics, checkpoints = find_callback(trainer, Metrics), find_callback(trainer, Checkpoints)
    figures = metrics.figures if metrics else {}
    seconds = metrics.total_seconds if metrics else 0.0
    tokens = metrics.total_tokens if metrics else 0
    speed = metrics.speed(trainer.world_size) if metrics else {}
    return {
        "name": run.name,
        "folder": str(run),
        "command": began["command"],
        "started": began["started"],
        "git": began["git"],
        "versions": began["versions"],
        "platform": began["platform"],
        "seed": config.seed,
        "device": {
            "type": stage.device.type,
            "name": device_name(stage.device),
            "precision": choose_precision(config.trainer.precision, stage.device),
            "mode": {"kernel": config.mode.kernel, "compile": config.mode.compile},
            "kernel": stage.model.backend,
            "compiled": describe_compiled(stage.compiled) if stage.compiled else None,
        },
        "model": stage.model.get_model_config(),
        "data": {
            "data_fingerprint": prepared.data_fingerprint,
            "tokenizer_fingerprint": prepared.tokenizer_fingerprint,
            **{
                f"{split}_{figure}": prepared.report[f"{split}_{figure}"]
                for split in ("train", "val")
                for figure in ("tokens", "documents")
            },
        },
        "result": {
            "step": trainer.global_step,
            "saved_step": checkpoints.saved_step if checkpoints else 0,
            "max_steps": trainer.max_steps,
            "train_tokens": tokens,
            "train_seconds": seconds,
            "tokens_per_s": tokens / seconds if seconds else 0.0,
            **speed,
            "train/loss": figures.get("train/loss"),
            "val/loss": figures.get("val/loss"),
            "val/bpb": figures.get("val/bpb"),
            "val/perplexity": figures.get("val/perplexity"),
            "best": checkpoints.best if checkpoints else {},
            "host_memory_bytes": figures.get("perf/host_memory_bytes"),
            "device_memory_bytes": figures.get("perf/device_memory_bytes"),
        },
    }


def say_result(run: Path, summary: dict[str, Any]) -> None:
    """Print how it ended and the next commands, ready to copy."""
    result = summary["result"]
    if summary["status"] == "interrupted":
        say(f"stopped at step {result['step']} of {result['max_steps']}, saved; go on with")
        say(f"  uv run train.py resume={run}")
        return
    say(
        f"done: {result['val/bpb']:.4f} bits per byte on validation text, "
        f"{result['tokens_per_s']:,.0f} tokens/s, everything in {run}"
    )
    say("next:")
    say(f'  uv run python -m bulba generate run={run} prompt="{first_words(summary)}"')
    say(f"  uv run export.py run={run}")
    say("  uv run train.py data.path=FOLDER")


def first_words(summary: dict[str, Any]) -> str:
    """The beginning of a sample, as a prompt to try."""
    text = next(iter(summary["samples"].values()), "...")
    return " ".join(text.split()[:2])


def say(text: str) -> None:
    """A line for the person at the terminal."""
    print(text, flush=True)
