"""Gradient stability over depth: how unlike the gradients of the first and the last layer are before any training.

For models of 4, 8, 16 and 32 layers with initial weights as the presets have them, one backward pass of the next-token
loss on random tokens. The figure is log2 of the gradient norm of all weights of the first layer over that of the last:
0 is a gradient of one size throughout, 1 one that doubles towards the first layer, -1 one that halves.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from bulba.model.gpt import GPT
from bulba.utility.learning import Rows, mean_loss, seeded
from bulba.utility.task import Lab, Outcome, Task

DEPTHS = (4, 8, 16, 32)
HEADLINE_DEPTH = 32
ROWS, TOKENS, VOCAB_SIZE = 4, 32, 64
INIT_STD = 0.02
"""That of conf/model/_llama.yaml."""


def layer_norms(model: GPT, rows: Rows) -> list[float]:
    """The norm of the gradient of each layer's weights, first to last."""
    model.train().zero_grad()
    mean_loss(model, rows, model.embed_tokens.weight.device).backward()
    return [
        float(torch.stack([p.grad.double().norm() for p in layer.parameters() if p.grad is not None]).norm())
        for layer in model.layers
    ]


class Gradients(Task):
    name = "gradients"
    question = f"{HEADLINE_DEPTH} layers before training: log2 of the gradient norm of the first over the last layer."
    headline = f"log2_ratio_{HEADLINE_DEPTH}"
    unit = "doublings, first over last layer"
    better = "nearer to 0"
    shown: ClassVar[dict[str, str]] = {f"log2_ratio_{depth}": f"{depth} layers" for depth in DEPTHS}

    def measure(self, lab: Lab) -> Outcome:
        tokens = torch.randint(VOCAB_SIZE, (ROWS, TOKENS + 1), generator=seeded(lab.seed, 0, self.name))
        rows = Rows(tokens[:, :-1], tokens[:, 1:])
        figures = {}
        for depth in DEPTHS:
            sizes = {"vocab_size": VOCAB_SIZE, "max_seq_len": TOKENS, "init_std": INIT_STD}
            norms = layer_norms(lab.model(num_layers=depth, **sizes), rows)
            figures[f"log2_ratio_{depth}"] = float(torch.tensor(norms[0] / norms[-1]).log2())
        return Outcome(figures)
