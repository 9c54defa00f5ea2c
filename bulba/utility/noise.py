"""Noise robustness: how much of associative recall is left when the embedding of every token is disturbed.

The model that has learned `recall`, without noise, reads tokens whose embeddings carry Gaussian noise, of a root mean
square of 0.5, 1 or 2 times that of the embeddings themselves. The pairs are all still there, so what goes
wrong is the reading, not the text. An attention that never learned recall has nothing to lose here: read the figure
beside that at noise 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from bulba.model.gpt import GPT
from bulba.utility.learning import examine
from bulba.utility.recall import LESSON, VALUES, draw_recall
from bulba.utility.task import Lab, Outcome, Task

LEVELS = (0.0, 0.5, 1.0, 2.0)
HEADLINE_LEVEL = 1.0


@contextmanager
def noisy_embeddings(model: GPT, level: float, seed: int) -> Iterator[None]:
    """Inside, the embedding of every token carries noise of `level` times the root mean square of the embeddings."""
    weight = model.embed_tokens.weight
    scale = level * weight.detach().square().mean().sqrt()
    generator = torch.Generator().manual_seed(seed)

    def disturb(module: Any, inputs: Any, embedded_BTH: Tensor) -> Tensor:
        noise = torch.randn(embedded_BTH.shape, generator=generator).to(embedded_BTH.device, embedded_BTH.dtype)
        return embedded_BTH + scale * noise

    handle = model.embed_tokens.register_forward_hook(disturb)
    try:
        yield
    finally:
        handle.remove()


class Noise(Task):
    name = "noise"
    question = (
        f"The model of recall, noise {HEADLINE_LEVEL:g} times as large as the embeddings on them: what is left of it?"
    )
    headline = f"accuracy_{HEADLINE_LEVEL:g}"
    unit = "share of right answers"
    better = "more"
    shown: ClassVar[dict[str, str]] = {f"accuracy_{level:g}": f"noise {level:g}" for level in LEVELS}
    chance, limits = 1 / VALUES, (0.0, 1.0)

    def measure(self, lab: Lab) -> Outcome:
        model, cost = lab.learned(LESSON)
        figures = {}
        for level in LEVELS:
            with noisy_embeddings(model, level, lab.seed):
                figures[f"accuracy_{level:g}"] = examine(model, draw_recall, lab.seed).accuracy
        return Outcome(figures, cost)
