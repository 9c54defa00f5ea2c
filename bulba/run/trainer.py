"""The Lightning Trainer of a run: device, precision, length, clipping. Everything else about a run is not here."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any, Literal

import lightning as L

from bulba.checkpoint_io import FolderCheckpointIO
from bulba.device import Device, Precision, choose_device, choose_precision
from bulba.errors import ConfigError, UnsupportedError
from bulba.model.activations import ActivationCheckpointing
from bulba.run.restart import OnOom

StrategyName = Literal["auto", "ddp", "fsdp2"]
LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def build_trainer(
    *,
    max_steps: int,
    val_every_steps: int,
    grad_clip_norm: float | None,
    device: Device,
    num_devices: int,
    precision: Precision,
    run: Path,
    checkpoint_io: FolderCheckpointIO,
    num_micro_batches: int,
    loggers: list[Any],
    callbacks: list[Any],
    activation_checkpointing: ActivationCheckpointing = "none",  # defaults for configs from before they existed
    strategy: StrategyName = "auto",
    num_nodes: int = 1,
    on_oom: OnOom = "stop",
) -> L.Trainer:
    """A Trainer for `max_steps` optimizer steps of `num_micro_batches` micro-batches each.

    activation_checkpointing: is set on the model by bulba/run/train.py. on_oom: bulba/run/restart.py acts on it.
    """
    for name, value in (
        ("max_steps", max_steps),
        ("val_every_steps", val_every_steps),
        ("num_devices", num_devices),
        ("num_nodes", num_nodes),
    ):
        if value < 1:
            raise ConfigError(f"trainer.{name}={value} must be at least 1.")
    chosen = choose_device(device)
    quieten_lightning()
    return L.Trainer(
        accelerator="gpu" if chosen.type == "cuda" else chosen.type,
        devices=num_devices,
        num_nodes=num_nodes,
        strategy=make_strategy(strategy, num_devices * num_nodes),
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
        plugins=[checkpoint_io],
        default_root_dir=run,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def check_strategy(config: Any) -> None:
    """Refuse what has not been seen to work together with trainer.strategy=fsdp2."""
    if config.trainer.get("strategy", "auto") != "fsdp2":
        return
    samples = config.callbacks.get("samples")
    for happens, what, instead in (
        (config.mode.compile, "torch.compile, which cannot follow its hooks", "mode=flash or mode=eager"),
        (config.trainer.precision == "fp16", "the loss scaling of fp16", "trainer.precision=bf16 or fp32"),
        (
            not config.optimizer._target_.endswith("build_adamw"),
            "an optimizer that may need whole matrices",
            "optimizer=adamw",
        ),
        (samples and samples.every_steps, "samples, which one process writes", "callbacks.samples.every_steps=null"),
    ):
        if happens:
            raise UnsupportedError(f"trainer.strategy=fsdp2 does not work with {what}: set {instead}.")


def make_strategy(name: StrategyName, num_processes: int) -> Any:
    """Lightning's strategy: how the processes share the work."""
    if name == "fsdp2":
        from bulba.run.sharded import ShardedStrategy

        return ShardedStrategy(num_processes)
    return "ddp" if name == "ddp" or num_processes > 1 else "auto"


def quieten_lightning() -> None:
    """Leave out Lightning's banners and the warnings about choices that are ours on purpose."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # That compiled recomputation must not hold operations in place, which no block has.
    logging.getLogger("torch._dynamo.variables.higher_order_ops").setLevel(logging.ERROR)
    for message in (
        ".*treespec.*",  # deprecated call inside Lightning
        ".*does not have many workers.*",  # the Rust sampler needs none
        ".*dataloader is not resumable.*",  # ours starts at any step by itself
    ):
        warnings.filterwarnings("ignore", message)
