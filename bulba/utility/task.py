"""What a task of the suite is, and the laboratory in which an attention meets it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from bulba.model.gpt import GPT
from bulba.shapes import shapes_only
from bulba.stage.flops import row_flops
from bulba.utility.learning import Cost, Lesson, learn

# The sizes that all tasks share; a lesson adds its vocabulary, depth and length. As many key/value heads as query
# heads, and heads of 16, so that attentions that cannot share heads, or need widths that 8 divides, take part. Rotary
# positions for rows of some dozen tokens: with a base of 1e4 recall was not learned in 1000 steps, with 30 in 300.
SIZES: dict[str, Any] = {
    "num_layers": 2,
    "hidden_size": 64,
    "num_heads": 4,
    "num_kv_heads": 4,
    "intermediate_size": 128,
    "rope_base": 30.0,
    "tie_embeddings": False,
    "init_std": 0.05,
    "mlp": {"_target_": "bulba.model.mlp.SwiGLU"},
    "norm": {"_target_": "bulba.model.norm.RMSNorm", "eps": 1e-5},
}

Better = Literal["more", "less", "nearer to 0"]


@dataclass(frozen=True)
class Outcome:
    """What a task measured: figures by name, and what learning took where something was learned."""

    figures: dict[str, float]
    cost: Cost | None = None


class Task(ABC):
    """A measurement of one attention at one seed.

    question: what it asks, in a sentence. headline: the figure that stands for all others, in `unit`. better: which
    way. solved: the headline from which the task counts as solved; None where there is nothing to solve. chance: the
    headline of guessing. limits: between which its figures lie whatever happens. shown: the figures of its table, with
    their titles. seeded: false where no random number takes part, so that one measurement is all there is.
    """

    name: ClassVar[str]
    question: ClassVar[str]
    headline: ClassVar[str]
    unit: ClassVar[str]
    better: ClassVar[Better]
    shown: ClassVar[dict[str, str]]
    solved: ClassVar[float | None] = None
    chance: ClassVar[float | None] = None
    limits: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    seeded: ClassVar[bool] = True

    @abstractmethod
    def measure(self, lab: Lab) -> Outcome:
        """Raises BulbaError where the attention cannot take part."""

    def limits_of(self, figure: str) -> tuple[float, float]:
        """Between which values a figure lies."""
        return self.limits

    def is_solved(self, figures: Mapping[str, float]) -> bool | None:
        """Whether one measurement solves the task; None where there is nothing to solve."""
        return None if self.solved is None else figures[self.headline] >= self.solved


@dataclass(frozen=True)
class TextSettings:
    """folder: the texts of the task `text`. words: more settings of train.py. runs_dir: where its runs go."""

    folder: str
    words: tuple[str, ...]
    runs_dir: Path


@dataclass
class Lab:
    """One attention at one seed: makes its models, and keeps those that have learned something for the next task.

    name, attention: its file in conf/attention and its config node. steps: of every lesson, instead of its own.
    """

    name: str
    attention: Mapping[str, Any]
    seed: int
    steps: int | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    text: TextSettings | None = None
    _learned: dict[str, tuple[GPT, Cost]] = field(default_factory=dict)

    def model(self, **sizes: Any) -> GPT:
        """A new GPT of this attention with weights that the seed fixes, on its fastest kernel."""
        torch.manual_seed(self.seed)
        with self.device:
            model = GPT(**(SIZES | {"attention": self.attention} | sizes))
        set_fastest_kernel(model)
        return model

    def learned(self, lesson: Lesson) -> tuple[GPT, Cost]:
        """The model that has learned `lesson`, and what that took; learned once, so leave its weights as they are."""
        if lesson.name not in self._learned:
            model = self.model(**lesson.model)
            self._learned[lesson.name] = model, self.teach(model, lesson)
        return self._learned[lesson.name]

    def teach(self, model: GPT, lesson: Lesson) -> Cost:
        """Let `model` learn `lesson`."""
        with shapes_only():  # the same shape, for counting
            like = GPT(**model.get_model_config())
        like.set_kernel(model.kernel)
        flops = row_flops(like, lesson.model["max_seq_len"])
        return learn(model, lesson, self.steps or lesson.steps, self.seed, flops)


def set_fastest_kernel(model: GPT) -> None:
    """`flash` where every layer has it, else the written-out formulas."""
    model.set_kernel("flash" if all("flash" in mixer.capabilities.kernels for mixer in model.mixers()) else "reference")
