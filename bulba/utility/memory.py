"""Memory: what a training step holds at its peak, and what decoding keeps, in bytes.

The step is taken with tensors that have shapes and no bytes, and every storage is counted from its birth to its death
(bulba/stage/memory.py): one row, forward and backward, weights and gradients left out. The cache is what is still
alive after a row has been read into one. exponent: e, where four times the tokens take 4^e times the bytes.
No random number takes part, so there is nothing to have an interval of.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from bulba.model.gpt import GPT
from bulba.stage.losses import token_loss_sum
from bulba.stage.memory import PASSING, StorageCounter
from bulba.utility.task import Lab, Outcome, Task

SHORT, LONG = 256, 1024
VOCAB_SIZE = 64
MB = 1e6


def step_bytes(lab: Lab, num_tokens: int) -> int:
    """The most that a training step on one row holds at a time, weights and gradients left out."""
    with FakeTensorMode(allow_non_fake_inputs=True), StorageCounter() as counter:
        model = lab.model(vocab_size=VOCAB_SIZE, max_seq_len=LONG)
        for parameter in model.parameters():
            counter.add(parameter, "weights")
            parameter.register_post_accumulate_grad_hook(
                lambda weight: None if weight.grad is None else counter.add(weight.grad, "gradients")
            )
        tokens = torch.zeros(1, num_tokens, dtype=torch.int64, device=lab.device)
        with counter.during("forward"):
            hidden = model(tokens)
        with counter.during("loss"):
            loss = token_loss_sum(hidden, model.head, tokens)
        del hidden
        loss.backward()
    return max(sum(peak[kind] for kind in PASSING) for peak in counter.peaks.values())


@torch.no_grad()
def cache_bytes(model: GPT, num_tokens: int) -> int:
    """What a decode cache holds once it has read `num_tokens` tokens."""
    tokens = torch.zeros(1, num_tokens, dtype=torch.int64, device=model.embed_tokens.weight.device)
    model.eval()
    with StorageCounter() as counter:
        for tensor in (tokens, *model.parameters(), *model.buffers()):
            counter.add(tensor)  # otherwise counted where they are first seen
        before = counter.live_bytes
        cache = model.new_cache(1, num_tokens)
        model(tokens, cache=cache)
        size = counter.live_bytes - before
    assert cache.length == num_tokens  # alive until here
    return size


class Memory(Task):
    name = "memory"
    question = f"What does a training step on one row of {LONG} tokens hold, and what does decoding keep?"
    headline = "step_mb"
    unit = "MB"
    better = "less"
    shown: ClassVar[dict[str, str]] = {
        "step_mb": "training step, MB",
        "step_exponent": "exponent",
        "cache_mb": "decode cache, MB",
    }
    limits = (0.0, math.inf)
    seeded = False

    def measure(self, lab: Lab) -> Outcome:
        short, long = (step_bytes(lab, num_tokens) for num_tokens in (SHORT, LONG))
        figures = {"step_mb": long / MB, "step_exponent": math.log(long / short, LONG / SHORT)}
        model = lab.model(vocab_size=VOCAB_SIZE, max_seq_len=LONG)
        if all(mixer.capabilities.cache for mixer in model.mixers()):
            figures["cache_mb"] = cache_bytes(model, LONG) / MB
        return Outcome(figures)
