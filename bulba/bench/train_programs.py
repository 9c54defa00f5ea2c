"""The programs that `bench train` compares, each a process that trains and is told when to take its turn.

A program trains as its users would run it; between two optimizer steps it waits for a line on standard input with the
number of steps to go on for, and answers with a line of JSON. The first answer comes after the warm-up, in which
torch.compile does its work.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig

from bulba.device import host_memory_bytes

ENDLESS_STEPS = 1_000_000_000
LOG_EVERY_STEPS = 10
"""Every program reads its loss off the device this often."""


class Turns:
    """Counts optimizer steps, and waits for the next turn when those asked for are done."""

    def __init__(self, warmup_steps: int, device: torch.device) -> None:
        self._left, self._device = warmup_steps, device
        self._begun = time.perf_counter()

    def step(self) -> None:
        """An optimizer step has been made."""
        self._left -= 1
        if self._left:
            return
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        print(json.dumps({"seconds": time.perf_counter() - self._begun, **memory(self._device)}), flush=True)
        line = sys.stdin.readline()
        if not line:
            # Whatever the program would still do at its end is not measured.
            os._exit(0)
        self._left = int(line)
        self._begun = time.perf_counter()


def memory(device: torch.device) -> dict[str, int]:
    """Bytes: what this process holds of the host's memory now, and its peak of the GPU's."""
    return {
        "host_bytes": host_memory_bytes(),
        "device_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
    }


class TurnsCallback(L.Callback):
    """Turns inside Lightning."""

    def __init__(self, warmup_steps: int) -> None:
        self._warmup_steps = warmup_steps
        self._last_step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._turns = Turns(self._warmup_steps, pl_module.device)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step != self._last_step:
            self._last_step = trainer.global_step
            self._turns.step()


def run_bulba(words: list[str], mode: str, warmup_steps: int, folder: Path) -> None:
    """train.py as it is, without validation, samples and checkpoints, which no other program here makes."""
    from bulba.run.train import train

    turns = [
        "+callbacks.turns._target_=bulba.bench.train_programs.TurnsCallback",
        f"+callbacks.turns.warmup_steps={warmup_steps}",
    ]
    train(compose([*words, f"mode={mode}", *turns]), folder)


def run_bare(words: list[str], mode: str, warmup_steps: int, folder: Path) -> None:
    """The same step in a loop of plain torch: what Lightning and the callbacks cost is what this lacks."""
    from bulba.config.build import build
    from bulba.data.datamodule import MicroBatches, Share
    from bulba.device import autocast, choose_device, choose_precision
    from bulba.run.check import settle_kernel
    from bulba.stage.losses import chunk_loss, token_loss_sum
    from bulba.stage.pretrain import model_inputs

    config = compose([*words, f"mode={mode}"])
    device = choose_device(config.trainer.device)
    torch.manual_seed(config.seed)
    data = prepared_data(config)
    model = build(config.model, path="model", vocab_size=data.tokenizer.vocab_size).to(device)
    mode_of_run = build(config.mode, path="mode")
    settle_kernel(config, mode_of_run, model, device)
    model.set_activation_checkpointing(config.trainer.activation_checkpointing)
    forward, chunk = mode_of_run.apply(model), mode_of_run.fuse(chunk_loss)
    optimizer = build(config.optimizer, path="optimizer", named_parameters=list(model.named_parameters()))
    schedule = build(config.scheduler, path="scheduler", total_steps=config.trainer.max_steps)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    precision = choose_precision(config.trainer.precision, device)
    num_micro_batches = data.accumulation(1)
    batches = MicroBatches(data.train_sampler, num_micro_batches, Share(), lambda: 0, device.type == "cuda")
    turns = Turns(warmup_steps, device)
    total = torch.zeros((), dtype=torch.float64, device=device)
    for number, batch in enumerate(batches, start=1):
        batch = data.transfer_batch_to_device(batch, device, 0)
        with autocast(device, precision):
            nats = token_loss_sum(forward(*model_inputs(batch)), model.head, batch["targets"], chunk)
        if (number - 1) % num_micro_batches == 0:
            # Not before the forward pass: what malloc gives back then, it has to fetch again, page by page.
            optimizer.zero_grad()
        (nats / int(batch["step_tokens"])).backward()
        total += nats.detach()
        if number % num_micro_batches:
            continue
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.trainer.grad_clip_norm)
        optimizer.step()
        scheduler.step()
        if number // num_micro_batches % LOG_EVERY_STEPS == 0:
            total.item()
        turns.step()


def run_hugging_face(words: list[str], compiled: bool, warmup_steps: int, folder: Path) -> None:
    """LlamaForCausalLM of the same shape in the Trainer of transformers, on the same rows, from memory."""
    import transformers

    from bulba.data.datamodule import read_units
    from bulba.device import choose_device, choose_precision

    config = compose(words)
    device = choose_device(config.trainer.device)
    data, shape = prepared_data(config), config.model
    tokens = [read_units(data.train_sampler, row, 1)["inputs"][0] for row in range(min(4096, len_rows(data)))]
    sizes = {
        "vocab_size": data.tokenizer.vocab_size,
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.max_seq_len,
        "tie_word_embeddings": shape.tie_embeddings,
        "attn_implementation": "sdpa",
    }
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
    turns = Turns(warmup_steps, device)

    class OnStep(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            turns.step()

    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=ENDLESS_STEPS,
        per_device_train_batch_size=config.data.micro_batch_size,
        gradient_accumulation_steps=data.accumulation(1),
        learning_rate=config.optimizer.lr,
        weight_decay=config.optimizer.weight_decay,
        adam_beta2=config.optimizer.beta2,
        max_grad_norm=config.trainer.grad_clip_norm,
        optim="adamw_torch_fused",
        bf16=choose_precision(config.trainer.precision, device) == "bf16",
        use_cpu=device.type == "cpu",
        torch_compile=compiled,
        logging_steps=LOG_EVERY_STEPS,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=config.seed,
    )
    rows = [{"input_ids": row, "labels": row} for row in tokens]
    transformers.utils.logging.set_verbosity_error()
    transformers.Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[OnStep()]).train()


def len_rows(data: Any) -> int:
    """Rows of one pass over the training text."""
    return int(data.train_sampler.num_units)


def prepared_data(config: DictConfig) -> Any:
    """The DataModule of the config, its texts prepared."""
    from bulba.config.build import build

    data = build(config.data, path="data")
    data.prepare(build(config.tokenizer, path="tokenizer"))
    return data


def compose(words: list[str]) -> DictConfig:
    """The config of train.py for these words."""
    import hydra

    from bulba.config.overrides import CONF

    quiet = [
        f"trainer.max_steps={ENDLESS_STEPS}",
        f"trainer.val_every_steps={ENDLESS_STEPS}",
        f"callbacks.metrics.every_steps={LOG_EVERY_STEPS}",
        f"callbacks.checkpoints.every_steps={ENDLESS_STEPS}",
        "callbacks.samples.every_steps=null",
    ]
    with hydra.initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        return hydra.compose("config", [*words, *quiet])


PROGRAMS: dict[str, Callable[[list[str], int, Path], None]] = {
    **{
        mode: lambda words, warmup, folder, mode=mode: run_bulba(words, mode, warmup, folder)  # type: ignore[misc]
        for mode in ("eager", "flash", "compile", "both")
    },
    **{
        kind: lambda words, warmup, folder, kind=kind: run_bulba(  # type: ignore[misc]
            [*words, f"trainer.activation_checkpointing={kind}"], "both", warmup, folder
        )
        for kind in ("selective", "full")
    },
    "bare": lambda words, warmup, folder: run_bare(words, "both", warmup, folder),
    "hf": lambda words, warmup, folder: run_hugging_face(words, False, warmup, folder),
    "hf_compile": lambda words, warmup, folder: run_hugging_face(words, True, warmup, folder),
}


if __name__ == "__main__":
    NAME, FOLDER, WARMUP_STEPS, *WORDS = sys.argv[1:]
    PROGRAMS[NAME](WORDS, int(WARMUP_STEPS), Path(FOLDER))
