"""A training run from its config to its summary. Read it top to bottom: this is the whole program."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L
from omegaconf import DictConfig

from bulba.checkpoint import Checkpoint, check_fits, load_newest
from bulba.checkpoint_io import FolderCheckpointIO
from bulba.config.build import build, to_plain
from bulba.config.snapshot import provenance, read_json, write_config, write_json
from bulba.data.datamodule import TextData
from bulba.data.prepare import PreparedData
from bulba.device import choose_device
from bulba.errors import CheckpointError, ConfigError
from bulba.model.gpt import GPT
from bulba.model.sharding import whole_weights
from bulba.report.compare import flatten, read_config
from bulba.report.guarded import GuardedLogger
from bulba.run.check import check_config
from bulba.run.finish import finish, say
from bulba.run.launch import needs_a_program_of_its_own, run_as_a_program
from bulba.run.restart import with_restarts
from bulba.run.stage import build_stage, num_micro_batches

# What may change when a run is resumed: how long and where it runs, where its texts lie (their content is compared
# by itself), and what is reported. The rest is its identity.
PLACES = ("data.path", "data.cache_dir", "tokenizer.path", "runs_dir")
CHANGEABLE = ("trainer.", "scheduler.", "mode.", "callbacks.", "logger.", "data.micro_batch_size", "resume", *PLACES)


def train(config: DictConfig, run: Path) -> dict[str, Any]:
    """Train one model as `config` says, keep everything in the folder `run`, and return the summary."""
    return with_restarts(train_once, config, run)


def train_once(config: DictConfig, run: Path) -> dict[str, Any]:
    """One attempt, from the start or from the newest checkpoint, to the end."""
    started = time.perf_counter()
    check_config(config)
    if needs_a_program_of_its_own(config):
        return run_as_a_program(run)
    device = choose_device(config.trainer.device)
    resumed = load_newest(run, say) if config.resume else None
    L.seed_everything(config.seed, verbose=False)

    data: TextData = build(config.data, path="data")
    num_micro_batches(config, data)  # refused before the texts are read
    prepared = data.prepare(build(config.tokenizer, path="tokenizer"))
    say(f"data: {data.train_file.num_tokens:,} tokens of {data.train_file.num_documents:,} documents")

    model: GPT = build(config.model, path="model", vocab_size=data.tokenizer.vocab_size)
    say(f"model: {model.get_num_params():,} weights on {device.type}")
    if resumed:
        check_resume(resumed, run, config, model, prepared)
    record_run(config, run, data, prepared)

    stage = build_stage(config, model, data, device)
    trainer: L.Trainer = build(
        config.trainer,
        path="trainer",
        run=run,
        checkpoint_io=FolderCheckpointIO(resumed),
        num_micro_batches=num_micro_batches(config, data),
        loggers=build_loggers(config.logger, run, resumed.ref.step if resumed else 0),
        callbacks=[build(node, path=f"callbacks.{name}") for name, node in to_plain(config.callbacks).items()],
    )
    say(f"ready after {time.perf_counter() - started:.1f} s; everything goes to {run}")
    trainer.fit(stage, datamodule=data, ckpt_path=str(resumed.ref.folder) if resumed else None)
    if trainer.global_step == trainer.max_steps != stage.val_step:
        trainer.validate(stage, datamodule=data, verbose=False)

    weights = whole_weights(stage.model)
    return finish(config, run, trainer, stage, prepared, weights) if trainer.is_global_zero else {}


def record_run(config: DictConfig, run: Path, data: TextData, prepared: PreparedData) -> None:
    """Store what the run is made from before it starts; a resumed run adds itself to the list of its resumes."""
    write_config(config, run)
    data.tokenizer.save_pretrained(run / "tokenizer", model_max_length=config.model.max_seq_len)
    if config.resume:
        began = read_json(run / "run.json")
        write_json(run / "run.json", began | {"resumes": [*began.get("resumes", []), provenance()]})
        return
    fingerprints = {
        "data_fingerprint": prepared.data_fingerprint,
        "tokenizer_fingerprint": prepared.tokenizer_fingerprint,
    }
    write_json(run / "run.json", provenance() | {"seed": config.seed} | fingerprints)


def check_resume(resumed: Checkpoint, run: Path, config: DictConfig, model: GPT, prepared: PreparedData) -> None:
    """Refuse to go on with another shape, other texts or other settings of the training itself."""
    check_fits(model, resumed.weights, resumed.ref.folder)
    if read_json(run / "run.json").get("data_fingerprint") != prepared.data_fingerprint:
        raise CheckpointError(
            f"the texts or the tokenizer changed since {run} began, so it cannot go on with the same batches: "
            "put the texts back, or start a new run."
        )
    before, now = flatten(read_config(run)), flatten(to_plain(config))
    for name in sorted(before.keys() | now.keys()):
        if not name.startswith(CHANGEABLE) and before.get(name) != now.get(name):
            raise ConfigError(
                f"{name} was {before.get(name)} when {run} began and cannot become {now.get(name)} on a "
                "resume, because the checkpoint holds it: leave it, or start a new run."
            )


def build_loggers(nodes: DictConfig, run: Path, resume_step: int) -> list[Any]:
    """metrics.csv first, then the trackers beside it; none of them can stop the training."""
    if "csv" not in nodes:
        raise ConfigError("logger.csv was removed, but metrics.csv is the record of every run: leave it in.")
    record: dict[str, Any] = {"run": run, "resume_step": resume_step}
    loggers = []
    for name, node in to_plain(nodes).items():
        try:
            logger = build(node, path=f"logger.{name}", **(record if name == "csv" else {"save_dir": str(run)}))
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"logger.{name} needs a package that is not installed ({' '.join(str(error).split())}): install it "
                "with `uv pip install 'bulba[track]'`, or leave that logger out."
            ) from error
        loggers.append(GuardedLogger(name, logger))
    return loggers
