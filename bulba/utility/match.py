"""3-way match: Match3 of Sanford, Hsu and Telgarsky 2023, "Representational Strengths and Limitations of Transformers"
(arXiv 2306.02896), read from left to right.

A row holds numbers x_1 .. x_T, drawn from 0 .. MODULUS - 1. After x_i the answer is yes if x_i + x_j + x_k = 0
(mod MODULUS) for some j, k <= i. One layer of attention that weighs pairs of tokens cannot do this unless its width
grows with T (theorem 7 there); a layer that weighs triples can. So the model has one layer here, without positions.

Accuracy is balanced: the mean of the shares of right answers among the yeses and among the noes, 0.5 for guessing.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from bulba.utility.learning import Lesson, Marks, Rows, examine
from bulba.utility.task import Lab, Outcome, Task

MODULUS, NUMBERS = 19, 8
NO, YES = MODULUS, MODULUS + 1
"""The two answers are tokens behind the numbers."""


def draw_match(num_rows: int, generator: torch.Generator) -> Rows:
    """Numbers, and whether each closes a triple with two that came before it (itself included)."""
    x_BT = torch.randint(MODULUS, (num_rows, NUMBERS), generator=generator)
    sums_BTT = x_BT[:, :, None] + x_BT[:, None, :]
    # A pair may be used from its later member on.
    places = torch.arange(NUMBERS)
    ready_TT = torch.maximum(places[:, None], places[None, :]).flatten()
    closes_BTP = (x_BT[:, :, None] + sums_BTT.flatten(1)[:, None, :]) % MODULUS == 0
    matched_BT = (closes_BTP & (ready_TT <= places[:, None])).any(-1)
    return Rows(x_BT, torch.where(matched_BT, YES, NO))


LESSON = Lesson(
    "match",
    draw_match,
    {"vocab_size": MODULUS + 2, "num_layers": 1, "max_seq_len": NUMBERS, "position": "none", "rope_base": None},
    steps=400,
    rows=64,
    lr=3e-3,
)


def balanced_accuracy(marks: Marks) -> float:
    """The mean of the shares of right answers among the yeses and among the noes."""
    right = (marks.given_N == marks.right_N).double()
    return float((right[marks.right_N == YES].mean() + right[marks.right_N == NO].mean()) / 2)


class Match(Task):
    name = "match3"
    question = "Does this number make a sum of 0 with two numbers before it? One layer."
    headline = "balanced_accuracy"
    unit = "balanced share of right answers"
    better = "more"
    shown: ClassVar[dict[str, str]] = {"balanced_accuracy": "balanced accuracy"}
    solved, chance, limits = 0.95, 0.5, (0.0, 1.0)

    def measure(self, lab: Lab) -> Outcome:
        model, cost = lab.learned(LESSON)
        return Outcome({"balanced_accuracy": balanced_accuracy(examine(model, draw_match, lab.seed))}, cost)
