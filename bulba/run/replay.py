"""`python -m bulba replay run=RUN step=N`: a step of a run computed again, alone, row by row.

Steps are counted as in metrics.csv: step N makes checkpoint N of checkpoint N - 1. With that one at hand the loss is
the logged one; else the newest before it serves, or the initial weights. The kernel, the number type and the draws of
dropout are those of the run; torch.compile is left out where nothing is drawn, as compiled code draws other numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from bulba.checkpoint import check_fits, load_checkpoint
from bulba.checkpoint_folder import list_checkpoints
from bulba.config.build import build
from bulba.data.datamodule import Batch, MicroBatches, Share, TextData
from bulba.data.ledger import show_step
from bulba.device import Device, autocast, choose_device, choose_precision
from bulba.errors import DataError
from bulba.mode import Forward, Mode
from bulba.model.gpt import GPT
from bulba.run.check import settle_kernel
from bulba.runs import find_run
from bulba.stage.losses import per_token_losses, token_loss_sum
from bulba.stage.pretrain import draw_seed, model_inputs


@dataclass(frozen=True)
class Replay:
    """A step computed again: mean loss in nats per token, norm of the whole gradient, and (nats, tokens) of each row.

    weights_step: the step of the weights, N - 1 where the figures are those of the run.
    """

    weights_step: int
    loss: float
    grad_norm: float
    rows: dict[tuple[int, int], tuple[float, int]]


def replay_command(run: str = "last", step: int = 1, device: Device = "auto", chars: int = 80) -> None:
    """Print loss, documents and the beginning of the text (`chars` characters) of every row of a step."""
    folder = find_run(run)
    config = OmegaConf.load(folder / "config.yaml")
    assert isinstance(config, DictConfig)
    data: TextData = build(config.data, path="data")
    data.prepare(build(config.tokenizer, path="tokenizer"))
    done = replay_step(folder, config, data, step, choose_device(device))
    for (micro_batch, row), entries in groupby(show_step(data, step - 1), key=lambda one: (one.micro_batch, one.row)):
        nats, tokens = done.rows[micro_batch, row]
        print(f"micro-batch {micro_batch}, row {row}: loss {nats / max(tokens, 1):.4f} over {tokens} tokens")
        for entry in entries:
            text = " ".join(entry.text[:chars].split())
            print(f"  [{entry.language}] {entry.source}: {entry.file}, document {entry.document}: {text}")
    print(f"step {step} of {folder}: loss {done.loss:.6f}, gradient norm {done.grad_norm:.6f}")
    if done.weights_step != step - 1:
        print(
            f"with the weights of step {done.weights_step}, the newest before it that are saved: the run had those of "
            f"step {step - 1}, so its own figures were others"
        )


def replay_step(run: Path, config: DictConfig, data: TextData, step: int, device: torch.device) -> Replay:
    """Compute step `step` again; `data` is prepared. DataError where there is no such step."""
    if step < 1:
        raise DataError(f"step={step} must be at least 1, the first step in metrics.csv.")
    model, weights_step = weights_before(run, config, data, step)
    model = model.to(device).train()
    mode: Mode = build(config.mode, path="mode")
    if not model.draws_random_numbers:
        mode = Mode(mode.kernel, compile=False)
    settle_kernel(config, mode, model, device)
    forward = mode.apply(model)
    precision = choose_precision(config.trainer.precision, device)
    per_step = data.batch_size // data.micro_batch_size
    batches = iter(MicroBatches(data.train_sampler, per_step, Share(), start_step=lambda: step - 1))
    nats, tokens = 0.0, 0
    rows: dict[tuple[int, int], tuple[float, int]] = {}
    for number, cpu_batch in enumerate(islice(batches, per_step)):
        batch = {name: tensor.to(device) for name, tensor in cpu_batch.items()}
        tokens = int(batch["step_tokens"])
        torch.manual_seed(draw_seed(config.seed, step - 1, number))
        with autocast(device, precision):
            losses_BT, micro_nats = losses_of(model, forward, batch)
        (micro_nats / tokens).backward()
        nats += float(micro_nats.detach().double())
        counts = (batch["targets"] >= 0).sum(1).tolist()
        sums = losses_BT.double().sum(1).tolist()
        rows |= {(number, row): pair for row, pair in enumerate(zip(sums, counts, strict=True))}
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    return Replay(weights_step, nats / max(tokens, 1), float(norm), rows)


def losses_of(model: GPT, forward: Forward, batch: Batch) -> tuple[Tensor, Tensor]:
    """Loss of every token [B, T], and their sum with its gradient."""
    hidden_BTH = forward(*model_inputs(batch))
    losses_BT = per_token_losses(hidden_BTH, model.head, batch["targets"])
    return losses_BT, token_loss_sum(hidden_BTH, model.head, batch["targets"])


def weights_before(run: Path, config: DictConfig, data: TextData, step: int) -> tuple[GPT, int]:
    """The model with the newest weights from before `step`, and the step they are of; 0 is the initial weights."""
    # As bulba/run/train.py does it, so that the initial weights are those of the run.
    L.seed_everything(config.seed, verbose=False)
    model: GPT = build(config.model, path="model", vocab_size=data.tokenizer.vocab_size)
    before = [checkpoint for checkpoint in list_checkpoints(run) if checkpoint.step < step]
    if not before:
        return model, 0
    weights = load_checkpoint(before[-1]).weights
    check_fits(model, weights, before[-1].folder)
    model.load_state_dict(weights)
    return model, before[-1].step
