"""Associative recall: multi-query associative recall (MQAR) of Arora et al. 2023, "Zoology", arXiv 2312.04927.

A row is PAIRS pairs of a key and a value, no key twice, and then all keys again in another order. After a key of the
second part the model must name the value that followed it in the first. The values are not repeated there: a model
could find the last ones by what is left over. It takes two steps, to write into each value which key stood before it,
and to find that key; so softmax attention needs two layers (Sanford et al. 2024, arXiv 2408.14332).
"""

from __future__ import annotations

from typing import ClassVar

import torch

from bulba.utility.learning import NOT_ASKED, Lesson, Rows, examine
from bulba.utility.task import Lab, Outcome, Task

KEYS, VALUES, PAIRS = 16, 8, 4


def draw_recall(num_rows: int, generator: torch.Generator, pairs: int = PAIRS) -> Rows:
    """Keys are the tokens from 0, values those from KEYS; a row has 3 * pairs tokens."""
    keys = torch.rand(num_rows, KEYS, generator=generator).argsort(1)[:, :pairs]
    values = torch.randint(KEYS, KEYS + VALUES, (num_rows, pairs), generator=generator)
    order = torch.rand(num_rows, pairs, generator=generator).argsort(1)
    told = torch.stack([keys, values], -1).flatten(1)
    inputs = torch.cat([told, keys.gather(1, order)], 1)
    targets = torch.full_like(inputs, NOT_ASKED)
    targets[:, 2 * pairs :] = values.gather(1, order)
    return Rows(inputs, targets)


LESSON = Lesson(
    "recall", draw_recall, {"vocab_size": KEYS + VALUES, "max_seq_len": 3 * PAIRS}, steps=600, rows=32, lr=3e-3
)


class Recall(Task):
    name = "recall"
    question = f"After {PAIRS} pairs of a key and a value: which value followed this key? Two layers."
    headline = "accuracy"
    unit = "share of right answers"
    better = "more"
    shown: ClassVar[dict[str, str]] = {"accuracy": "accuracy"}
    solved, chance, limits = 0.95, 1 / VALUES, (0.0, 1.0)

    def measure(self, lab: Lab) -> Outcome:
        model, cost = lab.learned(LESSON)
        return Outcome({"accuracy": examine(model, draw_recall, lab.seed).accuracy}, cost)
