"""Catastrophic forgetting (McCloskey and Cohen 1989): learn A, then B, and see what is left of A.

Both are tables of facts: an address is a pair of tokens, and every address has an answer, drawn at random once for each
seed. The first tokens of A's addresses and of B's are different ones, their second tokens and their answers the
same. The model learns A, then B with no address of A among its rows, and forgetting is what it loses of A: accuracy
on A before B minus that after B. The attention must bring the first token of an address to the second; how it does
so, and how much of that B changes, is what differs.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from bulba.utility.learning import NOT_ASKED, Lesson, Rows, examine
from bulba.utility.task import Lab, Outcome, Task

FIRSTS, SECONDS, ANSWERS = 8, 8, 8
"""First tokens of each task, second tokens and answers of both."""
FACTS_IN_A_ROW = 8
ANSWER_TOKENS = 2 * FIRSTS + SECONDS
"""The first token that is an answer."""


def tables(seed: int) -> Tensor:
    """The answers of A and B, [2, FIRSTS, SECONDS]."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(ANSWER_TOKENS, ANSWER_TOKENS + ANSWERS, (2, FIRSTS, SECONDS), generator=draw)


def draw_facts(num_rows: int, generator: torch.Generator, answers_FS: Tensor, task: int) -> Rows:
    """Addresses of task 0 (A) or 1 (B), each asked after its second token; a row has 2 * FACTS_IN_A_ROW tokens."""
    shape = num_rows, FACTS_IN_A_ROW
    firsts = torch.randint(FIRSTS, shape, generator=generator)
    seconds = torch.randint(SECONDS, shape, generator=generator)
    inputs = torch.stack([firsts + task * FIRSTS, seconds + 2 * FIRSTS], -1).flatten(1)
    targets = torch.full_like(inputs, NOT_ASKED)
    targets[:, 1::2] = answers_FS[firsts, seconds]
    return Rows(inputs, targets)


SIZES = {"vocab_size": ANSWER_TOKENS + ANSWERS, "max_seq_len": 2 * FACTS_IN_A_ROW}
STEPS, ROWS, LR = 200, 32, 3e-3


class Forgetting(Task):
    name = "forgetting"
    question = "Learn the facts A, then the facts B: how much of A is lost?"
    headline = "forgotten"
    unit = "accuracy lost on A"
    better = "less"
    shown: ClassVar[dict[str, str]] = {
        "forgotten": "forgotten",
        "a_before": "A before B",
        "a_after": "A after B",
        "b_after": "B after B",
    }

    def limits_of(self, figure: str) -> tuple[float, float]:
        return (-1.0, 1.0) if figure == self.headline else (0.0, 1.0)

    def measure(self, lab: Lab) -> Outcome:
        draws = [partial(draw_facts, answers_FS=answers, task=task) for task, answers in enumerate(tables(lab.seed))]
        first, second = (
            Lesson(f"facts {name}", draw, SIZES, steps=STEPS, rows=ROWS, lr=LR)
            for name, draw in zip("AB", draws, strict=True)
        )
        model = lab.model(**SIZES)
        cost = lab.teach(model, first)
        before = examine(model, draws[0], lab.seed).accuracy
        more = lab.teach(model, second)
        after, learned = (examine(model, draw, lab.seed).accuracy for draw in draws)
        figures = {"forgotten": before - after, "a_before": before, "a_after": after, "b_after": learned}
        both = replace(
            cost,
            steps=cost.steps + more.steps,
            tokens=cost.tokens + more.tokens,
            seconds=cost.seconds + more.seconds,
        )
        return Outcome(figures, both)
