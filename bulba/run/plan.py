"""`python -m bulba plan`: what a run will take, before its first step, in the words of train.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import psutil
import torch
from omegaconf import DictConfig, open_dict
from rich.console import Console
from rich.table import Table

from bulba.checkpoint_io import FolderCheckpointIO
from bulba.config.build import build
from bulba.config.overrides import check, expand, groups
from bulba.data.datamodule import TextData
from bulba.device import choose_device, device_name
from bulba.errors import BulbaError, ConfigError, UnsupportedError
from bulba.export.architecture import architecture_of
from bulba.export.gguf import fallbacks, stored_size
from bulba.export.types import GGUF_TYPES
from bulba.model.gpt import GPT
from bulba.peak import synchronize
from bulba.report.plan import print_plan
from bulba.run.check import check_config
from bulba.run.predict import Memory, predict_memory
from bulba.run.restart import can_checkpoint
from bulba.run.stage import build_stage, num_micro_batches
from bulba.shapes import shapes_only
from bulba.stage.flops import row_flops

CALIBRATION_STEPS = 20
# The first steps compile, tune and fill caches.
WARMUP_STEPS = 3
MAX_SUGGESTIONS = 3


def plan_command(words: list[str]) -> None:
    """Print the plan of the run that `words` describe; BulbaError where its memory does not fit."""
    calibrate = words_of("calibrate", words)
    words = [word for word in words if not word.startswith("calibrate=")]
    config = settings(words)
    check_config(config)
    device = choose_device(config.trainer.device)
    data: TextData = build(config.data, path="data")
    num_micro_batches(config, data)  # refused before the texts are read
    data.prepare(build(config.tokenizer, path="tokenizer"))
    vocab_size = data.tokenizer.vocab_size
    with shapes_only():
        model: GPT = build(config.model, path="model", vocab_size=vocab_size)
    memory, free_bytes = predict_memory(config, vocab_size), free_memory_bytes(device)
    tokens_per_step = config.data.batch_size * config.data.seq_len
    plan: dict[str, Any] = {
        "device": device_name(device),
        "num_params": model.get_num_params(),
        "flops_per_token": row_flops(model, config.data.seq_len) / config.data.seq_len,
        "train_tokens": config.trainer.max_steps * tokens_per_step,
        "corpus_tokens": data.train_file.num_tokens,
        "memory": vars(memory) | {"peak_bytes": memory.peak_bytes, "free_bytes": free_bytes},
    }
    print_plan(plan)
    print_gguf_plan(model)
    if memory.needed_bytes > free_bytes:
        raise BulbaError(refusal(words, vocab_size, memory, free_bytes))
    if calibrate:
        say_time(config, device, data, model)


def print_gguf_plan(model: GPT) -> None:
    """What the model will be as a GGUF file: the size of every type, and where its rows are no whole blocks."""
    try:
        architecture = architecture_of(model.get_model_config(), "a GGUF file")
    except UnsupportedError as error:
        print(f"gguf: {error}", flush=True)
        return
    if find_spec("gguf") is None:
        print(f"gguf: architecture {architecture.name}; its sizes need uv pip install 'bulba[export]'", flush=True)
        return
    tensors = architecture.tensors
    print(f"gguf: architecture {architecture.name}, {len(tensors)} tensors", flush=True)
    if architecture.difference:
        print(f"gguf: {architecture.difference}", flush=True)
    table = Table("type", "MB", "bits per weight", "stored in another type")
    for type in GGUF_TYPES:
        size, bits = stored_size(tensors, type)
        found = fallbacks(tensors, type)
        kinds = f"{len(found)} tensors: {', '.join(dict.fromkeys(found.values()))}" if found else ""
        table.add_row(type, f"{size / 1e6:,.1f}", f"{bits:.2f}", kinds)
    Console().print(table)


def words_of(name: str, words: list[str]) -> bool:
    """The value of the switch `name=true|false`; true where it is not given."""
    given = [word.partition("=")[2] for word in words if word.startswith(f"{name}=")] or ["true"]
    if given[-1] not in ("true", "false"):
        raise ConfigError(f"{name}={given[-1]} must be true or false.")
    return given[-1] == "true"


def settings(words: list[str]) -> DictConfig:
    """The config as train.py would get it."""
    if any(word.startswith(("resume=", "-")) for word in words):
        raise ConfigError("plan describes one new run: leave out resume and the options that begin with -.")
    config = check(expand(words))
    with open_dict(config):
        del config["hydra"]
    return config


def free_memory_bytes(device: torch.device) -> int:
    """What a new run can have: of the card, or of the host."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def refusal(words: list[str], vocab_size: int, memory: Memory, free_bytes: int) -> str:
    """The sentence for a run that does not fit, with settings that do."""
    fitting = [
        f"{change} ({predicted.needed_bytes / 1e9:.2f} GB)"
        for change, predicted in fitting_changes(words, vocab_size, free_bytes)
    ]
    advice = f"these would fit: {'; '.join(fitting)}" if fitting else "no single setting is enough: use a smaller model"
    return f"this run needs {memory.needed_bytes / 1e9:.2f} GB and {free_bytes / 1e9:.2f} GB are free; {advice}."


def fitting_changes(words: list[str], vocab_size: int, free_bytes: int) -> list[tuple[str, Memory]]:
    """Up to three changes, mildest first, each of which alone makes the run fit by the same prediction."""
    found: list[tuple[str, Memory]] = []
    done: set[str] = set()
    for change in changes(settings(words)):
        key = change.split("=")[0]
        if key in done:
            continue
        changed = settings([*words, *change.split()])
        predicted = predict_memory(changed, vocab_size)
        if predicted.needed_bytes <= free_bytes:
            found.append((change, predicted))
            done.add(key)
        if len(found) == MAX_SUGGESTIONS:
            break
    return found


def changes(config: DictConfig) -> Iterator[str]:
    """What makes a run smaller, from what changes nothing but speed to what changes the model."""
    rows = config.data.micro_batch_size
    while rows > 1:
        rows //= 2
        if config.data.batch_size % (rows * config.trainer.num_devices) == 0:
            yield f"data.micro_batch_size={rows}"
    if config.mode.kernel == "reference":
        yield f"mode={'both' if config.mode.compile else 'flash'}"
    if config.trainer.get("activation_checkpointing") == "none" and can_checkpoint(config):
        yield "trainer.activation_checkpointing=full"
    if config.trainer.precision == "fp32":
        yield "trainer.precision=bf16"
    for fraction in (2, 4):
        yield f"data.seq_len={config.data.seq_len // fraction}"
    sizes = {name: settings([f"model={name}"]).model.hidden_size for name in groups()["model"]}
    for name, width in sorted(sizes.items(), key=lambda item: -item[1]):
        if width < config.model.hidden_size:
            yield f"model={name}"


def say_time(config: DictConfig, device: torch.device, data: TextData, model: GPT) -> None:
    """Take the first steps of the run and print how long all of them will take, and their energy."""
    timer = Timer(min(CALIBRATION_STEPS, config.trainer.max_steps))
    with TemporaryDirectory() as folder:
        calibrate_steps(config, device, data, timer, Path(folder))
    step_seconds = timer.step_seconds()
    # A validation row goes forward alone: a third of the work of a training row.
    val_rows = min(data.val_sampler.num_units, data.val_rows or data.val_sampler.num_units)
    validations = -(-config.trainer.max_steps // config.trainer.val_every_steps)
    val_seconds = validations * val_rows * step_seconds / config.data.batch_size / 3
    seconds = config.trainer.max_steps * step_seconds + val_seconds
    flops = row_flops(model, config.data.seq_len) * config.data.batch_size / step_seconds
    print(
        f"speed: {config.data.batch_size * config.data.seq_len / step_seconds:,.0f} tokens/s, "
        f"{flops / 1e12:,.3g} TFLOP/s (median of {len(timer.seconds)} steps)"
    )
    print(f"time: {duration(seconds)}, {duration(val_seconds)} of it validation; samples and checkpoints come on top")
    print(energy(timer.watts, seconds))


def calibrate_steps(config: DictConfig, device: torch.device, data: TextData, timer: Timer, folder: Path) -> None:
    """The run itself, stopped by `timer`; it leaves nothing behind."""
    L.seed_everything(config.seed, verbose=False)
    model: GPT = build(config.model, path="model", vocab_size=data.tokenizer.vocab_size)
    stage = build_stage(config, model, data, device)
    trainer: L.Trainer = build(
        config.trainer,
        path="trainer",
        run=folder,
        checkpoint_io=FolderCheckpointIO(None),
        num_micro_batches=num_micro_batches(config, data),
        loggers=[],
        callbacks=[timer],
    )
    trainer.fit(stage, datamodule=data)


class Timer(L.Callback):
    """Ends the training after `num_steps` steps and keeps the time of each, the first ones left out."""

    def __init__(self, num_steps: int) -> None:
        self.num_steps, self.seconds, self.watts = num_steps, list[float](), list[float]()
        self._began, self._step = 0.0, 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        synchronize(pl_module.device)
        now = time.perf_counter()
        if self._step > min(WARMUP_STEPS, self.num_steps - 1):
            self.seconds.append(now - self._began)
            self.watts += power_watts(pl_module.device)
        self._began = now
        if self._step >= self.num_steps:
            trainer.should_stop = True

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = time.perf_counter()

    def step_seconds(self) -> float:
        return sorted(self.seconds)[len(self.seconds) // 2]


def power_watts(device: torch.device) -> list[float]:
    """The card's draw now, in a list; an empty one where nothing tells it."""
    if device.type != "cuda":
        return []
    try:
        return [torch.cuda.power_draw(device) / 1000]
    except (ImportError, RuntimeError):  # no pynvml, or a card that does not tell
        return []


def energy(watts: list[float], seconds: float) -> str:
    if not watts:
        return "energy: not known, because nothing here tells the power (NVML through `pip install nvidia-ml-py`)"
    mean = sum(watts) / len(watts)
    return f"energy: {mean * seconds / 3.6e6:,.2f} kWh at {mean:,.0f} W of each card"


def duration(seconds: float) -> str:
    """1 h 02 min, 3 min 20 s, 12 s."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02} min"
