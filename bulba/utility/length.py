"""Length generalisation: trained on short rows, examined on longer ones.

Somewhere in the first TOLD tokens of a row stands one token that names the answer, all others are filler of
random kinds. After each of the last ASKED tokens the model must name it. With the length of the row grow both the
distance and the number of tokens among which the one is to be found; nothing else changes. Rotary positions have the
base of the presets here: with one of 30, whose slow pairs turn in 128 tokens as far as they never did in 32, softmax
attention fell from 1.00 at 32 tokens to 0.11 at 128.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch

from bulba.utility.learning import NOT_ASKED, Lesson, Rows, examine
from bulba.utility.task import Lab, Outcome, Task

TRAINED_LEN = 32
LENGTHS = (32, 64, 128)
HEADLINE_LEN = 128
ANSWERS, FILLERS = 16, 16
TOLD, ASKED = 8, 8


def draw_needle(num_rows: int, generator: torch.Generator, num_tokens: int = TRAINED_LEN) -> Rows:
    """Answers are the tokens from 0, fillers those from ANSWERS."""
    inputs = torch.randint(ANSWERS, ANSWERS + FILLERS, (num_rows, num_tokens), generator=generator)
    answers = torch.randint(ANSWERS, (num_rows, 1), generator=generator)
    inputs.scatter_(1, torch.randint(TOLD, (num_rows, 1), generator=generator), answers)
    targets = torch.full_like(inputs, NOT_ASKED)
    targets[:, -ASKED:] = answers
    return Rows(inputs, targets)


LESSON = Lesson(
    "length",
    draw_needle,
    {"vocab_size": ANSWERS + FILLERS, "max_seq_len": TRAINED_LEN, "rope_base": 1e4},
    steps=200,
    rows=32,
    lr=3e-3,
)


class Length(Task):
    name = "length"
    question = f"Trained on rows of {TRAINED_LEN}: is one token found again in a row of {HEADLINE_LEN}?"
    headline = f"accuracy_{HEADLINE_LEN}"
    unit = "share of right answers"
    better = "more"
    shown: ClassVar[dict[str, str]] = {f"accuracy_{length}": f"{length} tokens" for length in LENGTHS}
    solved, chance, limits = 0.95, 1 / ANSWERS, (0.0, 1.0)

    def measure(self, lab: Lab) -> Outcome:
        model, cost = lab.learned(LESSON)
        figures = {
            f"accuracy_{length}": examine(model, partial(draw_needle, num_tokens=length), lab.seed).accuracy
            for length in LENGTHS
        }
        return Outcome(figures, cost)
