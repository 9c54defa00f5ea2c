"""The training loop that the tasks share: rows drawn anew at every step, AdamW, a straight line up and down.

Nothing is tuned for one attention: all have the same rows (a function of the seed), the same steps and the same
learning rate. That is equal tokens, not equal effort; what each took stands beside its figures as `Cost`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bulba.errors import TrainingError
from bulba.model.gpt import GPT
from bulba.optimizer.adamw import build_adamw

NOT_ASKED = -100
"""The target of a token after which nothing is asked."""
EVALUATED_ROWS, EVALUATED_AT_ONCE = 256, 128
WARMUP_FRAC, GRAD_CLIP_NORM = 0.1, 1.0
ADAMW = {"beta1": 0.9, "beta2": 0.98, "eps": 1e-8, "weight_decay": 0.01}
# Seeds of what is drawn for training and for the examination, so that the two never meet.
TRAINING, EXAMINATION = 1, 2


class Rows(NamedTuple):
    """inputs_BT: token ids. targets_BT: the right answer after each token, NOT_ASKED where none is asked for."""

    inputs_BT: Tensor
    targets_BT: Tensor


Draw = Callable[[int, torch.Generator], Rows]
"""Makes so many rows from a generator."""


@dataclass(frozen=True)
class Lesson:
    """What a model is to learn: `draw` makes rows, `model` are sizes of the GPT, beside those that all tasks share."""

    name: str
    draw: Draw
    model: Mapping[str, Any]
    steps: int
    rows: int
    lr: float


@dataclass(frozen=True)
class Cost:
    """What learning took. row_flops: of training on one row (bulba/stage/flops.py), `tokens` of it in all."""

    params: int
    row_flops: int
    steps: int
    tokens: int
    seconds: float


def learn(model: GPT, lesson: Lesson, steps: int, seed: int, flops: int) -> Cost:
    """Train `model` in place. Raises TrainingError where the loss is not a number any more."""
    device = model.embed_tokens.weight.device
    generator = seeded(seed, TRAINING, lesson.name)
    optimizer = build_adamw(list(model.named_parameters()), lr=lesson.lr, **ADAMW)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share_of_peak(step, steps))
    began, tokens = time.perf_counter(), 0
    model.train()
    for step in range(steps):
        rows = lesson.draw(lesson.rows, generator)
        loss = mean_loss(model, rows, device)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP_NORM)
        if not (loss.isfinite() & norm.isfinite()):
            raise TrainingError(f"diverged: loss {loss.item():g}, gradient norm {norm.item():g} at step {step + 1}")
        optimizer.step()
        schedule.step()
        tokens += rows.inputs_BT.numel()
    return Cost(model.get_num_params(), flops, steps, tokens, time.perf_counter() - began)


def share_of_peak(step: int, steps: int) -> float:
    """The learning rate of a step: up to the peak in a tenth of the steps, then down to 0 on a straight line."""
    warmup = max(1, round(WARMUP_FRAC * steps))
    return (step + 1) / warmup if step < warmup else (steps - step) / max(1, steps - warmup)


def mean_loss(model: GPT, rows: Rows, device: torch.device) -> Tensor:
    """Mean cross-entropy of the answers that are asked for, in nats."""
    asked_BT = rows.targets_BT != NOT_ASKED
    hidden_NH = model(rows.inputs_BT.to(device))[asked_BT.to(device)]
    return F.cross_entropy(model.logits(hidden_NH), rows.targets_BT[asked_BT].to(device))


class Marks(NamedTuple):
    """Of an examination: the answers that were given and those that were right, one after another."""

    given_N: Tensor
    right_N: Tensor

    @property
    def accuracy(self) -> float:
        return float((self.given_N == self.right_N).double().mean())


@torch.no_grad()
def examine(model: GPT, draw: Draw, seed: int) -> Marks:
    """The most likely answers of `model` on EVALUATED_ROWS rows that no training has drawn."""
    device, generator = model.embed_tokens.weight.device, seeded(seed, EXAMINATION, "")
    model.eval()
    given, right = [], []
    for _ in range(EVALUATED_ROWS // EVALUATED_AT_ONCE):
        rows = draw(EVALUATED_AT_ONCE, generator)
        asked_BT = rows.targets_BT != NOT_ASKED
        hidden_NH = model(rows.inputs_BT.to(device))[asked_BT.to(device)]
        given.append(model.logits(hidden_NH).argmax(-1).cpu())
        right.append(rows.targets_BT[asked_BT])
    return Marks(torch.cat(given), torch.cat(right))


def seeded(seed: int, purpose: int, name: str) -> torch.Generator:
    """A generator for one purpose; other seeds, purposes and names draw other rows."""
    mixed = seed * 1_000_003 + purpose * 10_007 + sum(place * ord(sign) for place, sign in enumerate(name, 1))
    return torch.Generator().manual_seed(mixed)
