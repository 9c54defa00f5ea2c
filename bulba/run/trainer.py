"""The Lightning Trainer of a run: device, precision, length, clipping. Everything else about a run is not here."""

from __future__ import annotations

import logging
import platform
import warnings
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch

from bulba.checkpoint_io import FolderCheckpointIO
from bulba.errors import ConfigError, UnsupportedError

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def choose_device(device: Device) -> torch.device:
    """The device to train on; UnsupportedError when the one asked for is absent."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
    if not available[device]:
        raise UnsupportedError(
            f"trainer.device={device} is not to be had: this torch ({torch.__version__}) sees no such device; "
            "check the driver, or set trainer.device=cpu."
        )
    return torch.device(device)


def choose_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """bf16 where a GPU has it, else fp16 on a GPU, else fp32; what is asked for and absent is refused."""
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "auto":
        if device.type == "cuda":
            return "bf16" if has_bf16 else "fp16"
        return "fp32"
    if precision == "bf16" and device.type == "cuda" and not has_bf16:
        raise UnsupportedError(f"trainer.precision=bf16: {torch.cuda.get_device_name(device)} has none; set fp16.")
    if precision == "fp16" and device.type != "cuda":
        raise UnsupportedError(
            f"trainer.precision=fp16 needs a CUDA card and this is a {device.type}; set fp32 or bf16."
        )
    return precision


def device_name(device: torch.device) -> str:
    """What the device is called by its maker."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def build_trainer(
    *,
    max_steps: int,
    val_every_steps: int,
    grad_clip_norm: float | None,
    device: Device,
    num_devices: int,
    precision: Precision,
    run: Path,
    num_micro_batches: int,
    loggers: list[Any],
    callbacks: list[Any],
) -> L.Trainer:
    """A Trainer for `max_steps` optimizer steps of `num_micro_batches` micro-batches each."""
    for name, value in (
        ("max_steps", max_steps),
        ("val_every_steps", val_every_steps),
        ("num_devices", num_devices),
    ):
        if value < 1:
            raise ConfigError(f"trainer.{name}={value} must be at least 1.")
    chosen = choose_device(device)
    quieten_lightning()
    return L.Trainer(
        accelerator="gpu" if chosen.type == "cuda" else chosen.type,
        devices=num_devices,
        strategy="ddp" if num_devices > 1 else "auto",
        precision=LIGHTNING_PRECISION[choose_precision(precision, chosen)],  # type: ignore[arg-type]
        max_steps=max_steps,
        max_epochs=-1,
        accumulate_grad_batches=num_micro_batches,
        gradient_clip_val=grad_clip_norm,
        val_check_interval=val_every_steps * num_micro_batches,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=loggers,
        callbacks=callbacks,
        plugins=[FolderCheckpointIO()],
        default_root_dir=run,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def quieten_lightning() -> None:
    """Leave out Lightning's banners and the warnings about choices that are ours on purpose."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*treespec.*",  # deprecated call inside Lightning
        ".*does not have many workers.*",  # the Rust sampler needs none
        ".*dataloader is not resumable.*",  # ours starts at any step by itself
    ):
        warnings.filterwarnings("ignore", message)
