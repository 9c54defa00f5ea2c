"""The stage of a config: model, mode, loss, optimizer and scheduler put together, for training and for calibrating."""

from __future__ import annotations

import torch
from omegaconf import DictConfig

from bulba.config.build import build
from bulba.data.datamodule import TextData
from bulba.mode import Mode
from bulba.model.gpt import GPT
from bulba.run.check import num_processes, settle_kernel
from bulba.stage.losses import chunk_loss
from bulba.stage.pretrain import Pretrain


def build_stage(config: DictConfig, model: GPT, data: TextData, device: torch.device) -> Pretrain:
    """What Lightning trains; `data` is prepared. Raises UnsupportedError for what cannot be had on `device`."""
    mode: Mode = build(config.mode, path="mode")
    settle_kernel(config, mode, model, device)
    model.set_activation_checkpointing(config.trainer.get("activation_checkpointing", "none"))
    stage: Pretrain = build(
        config.stage,
        path="stage",
        model=model,
        forward_hidden=mode.apply(model),
        chunk_loss=mode.fuse(chunk_loss),
        optimizer=config.optimizer,
        scheduler=config.scheduler,
        token_bytes=torch.from_numpy(data.tokenizer.num_bytes_per_token()),
        num_micro_batches=num_micro_batches(config, data),
        seed=config.seed,
    )
    return stage


def num_micro_batches(config: DictConfig, data: TextData) -> int:
    """Micro-batches of one process in an optimizer step."""
    return data.accumulation(num_processes(config))
