"""Beginning again inside one process: after a rollback, and with smaller micro-batches after running out of memory.

A training begins again from its newest checkpoint, or anew where it has none, exactly as a resume of a new process
would: everything is built anew. What the failed attempt held is released first.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
from omegaconf import DictConfig

from bulba.checkpoint_folder import list_checkpoints
from bulba.config.build import build
from bulba.errors import ConfigError, TrainingError, UnsupportedError
from bulba.run.finish import say
from bulba.shapes import shapes_only
from callbacks.guard import RollBack

OnOom = Literal["stop", "shrink"]
# How libraries and devices say that memory is full in an error of no class of its own.
OUT_OF_MEMORY = ("CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "MPS backend out of memory", "DefaultCPUAllocator")


def with_restarts(train: Callable[[DictConfig, Path], dict[str, Any]], config: DictConfig, run: Path) -> dict[str, Any]:
    """Call `train(config, run)`, again and with a changed config where the settings say so."""
    check_on_oom(config)
    while True:
        try:
            return train(config, run)
        except RollBack:
            micro_batch_size = config.data.micro_batch_size
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            micro_batch_size = smaller_micro_batch(config)
            advice = explain_out_of_memory(config, micro_batch_size, error)
            if on_oom(config) == "stop" or micro_batch_size is None:
                raise TrainingError(advice) from error
            say(f"warning: {advice}")
        # Behind the handlers, because the error holds on to the tensors of the step.
        release_memory()
        config = deepcopy(config)
        config.data.micro_batch_size = micro_batch_size
        config.resume = str(run) if list_checkpoints(run) else None
        start = f"step {list_checkpoints(run)[-1].step}" if config.resume else "the start"
        say(f"beginning again from {start} with data.micro_batch_size={micro_batch_size}")


def check_on_oom(config: DictConfig) -> None:
    """Refuse `shrink` where a smaller micro-batch would be another training, or other processes would not follow."""
    if on_oom(config) != "shrink":
        return
    if config.data.mode == "bucketed":
        raise ConfigError(
            "trainer.on_oom=shrink keeps the rows of every step, and data.mode=bucketed makes its rows by "
            "data.micro_batch_size: set trainer.on_oom=stop, or another data.mode."
        )
    if config.trainer.num_devices > 1:
        raise UnsupportedError(
            f"trainer.on_oom=shrink begins again within one process and trainer.num_devices="
            f"{config.trainer.num_devices}: set trainer.on_oom=stop."
        )


def on_oom(config: DictConfig) -> OnOom:
    """The setting; the configs of runs from before it existed have none."""
    return config.trainer.get("on_oom", "stop")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)


def smaller_micro_batch(config: DictConfig) -> int | None:
    """The largest micro-batch of at most half the rows that still divides the batch; None where one row is too many."""
    rows = config.data.batch_size // config.trainer.num_devices
    return next((size for size in range(config.data.micro_batch_size // 2, 0, -1) if rows % size == 0), None)


def can_checkpoint(config: DictConfig) -> bool:
    """Whether activation checkpointing is to be had with the attention of `config`."""
    with shapes_only():
        model = build(config.model, path="model", vocab_size=1)
    try:
        model.set_activation_checkpointing("full")
    except UnsupportedError:
        return False
    return True


def explain_out_of_memory(config: DictConfig, micro_batch_size: int | None, error: BaseException) -> str:
    """One sentence: what was too much, and the settings that take less."""
    settings = []
    if micro_batch_size is not None:
        settings.append(f"data.micro_batch_size={micro_batch_size} (the same training in smaller parts)")
    if config.trainer.get("activation_checkpointing", "full") != "full" and can_checkpoint(config):
        settings.append("trainer.activation_checkpointing=full (the same training, slower)")
    settings.append(f"data.seq_len={config.data.seq_len // 2} (another training)")
    reason = str(error).split(". ")[0].splitlines()[0]
    return (
        f"memory ran out with data.micro_batch_size={config.data.micro_batch_size} and data.seq_len="
        f"{config.data.seq_len} ({reason}); less memory take {', '.join(settings)}."
    )


def release_memory() -> None:
    """Free what the failed attempt held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
