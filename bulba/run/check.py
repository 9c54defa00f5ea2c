"""What can be wrong with a config, found before any text is read or weight made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from omegaconf import DictConfig

from bulba.config.build import build, check_keys, locate, to_plain
from bulba.device import DTYPES, choose_device, choose_precision
from bulba.errors import ConfigError
from bulba.mode import Mode
from bulba.model.gpt import GPT
from bulba.model.sharding import check_shardable
from bulba.run.trainer import check_strategy
from bulba.shapes import shapes_only


def check_config(config: DictConfig) -> None:
    """Refuse unknown keys, values of the wrong kind and settings that contradict each other."""
    for path, node in nodes_with_target(to_plain(config), ""):
        options = dict(node)
        check_keys(locate(options.pop("_target_"), path), options, path, given=None)
    device = choose_device(config.trainer.device)
    choose_precision(config.trainer.precision, device)
    if config.data.seq_len > config.model.max_seq_len:
        raise ConfigError(
            f"data.seq_len={config.data.seq_len} is longer than model.max_seq_len={config.model.max_seq_len}: "
            "raise model.max_seq_len, and data.seq_len follows it."
        )
    build(config.scheduler, path="scheduler", total_steps=config.trainer.max_steps)
    with shapes_only():
        model = build(config.model, path="model", vocab_size=1)
    model.set_activation_checkpointing(config.trainer.get("activation_checkpointing", "none"))
    check_strategy(config)
    if config.trainer.get("strategy", "auto") == "fsdp2":
        check_shardable(model)
    mode: Mode = build(config.mode, path="mode")
    mode.check(device, one_call_per_step=one_call_per_step(config))
    settle_kernel(config, mode, model, device)


def num_processes(config: DictConfig) -> int:
    """Processes that share the rows of every optimizer step."""
    return int(config.trainer.num_devices * config.trainer.get("num_nodes", 1))


def one_call_per_step(config: DictConfig) -> bool:
    """Whether every optimizer step of a process is one forward pass of one shape."""
    rows = config.data.micro_batch_size * num_processes(config)
    return config.data.batch_size == rows and config.data.get("mode", "chunked") != "bucketed"


def settle_kernel(config: DictConfig, mode: Mode, model: GPT, device: torch.device) -> None:
    """Set the kernel of the mode and ask torch for the implementation of the shapes that the run will have."""
    model.set_kernel(mode.kernel)
    dtype = DTYPES[choose_precision(config.trainer.precision, device)]
    model.choose_backend(mode.compile, config.data.micro_batch_size, config.data.seq_len, dtype, device)


def nodes_with_target(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a `_target_`, with its path, from the top down."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from nodes_with_target(value, f"{path}.{key}" if path else str(key))
