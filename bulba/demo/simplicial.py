"""Simplicial attention at work: the 3-way match, which needs three tokens in one score (Sanford et al. 2023).

A row of numbers matches if x_last + x_j + x_k is divisible by the modulus for some j and k, equal ones too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bulba.attention.simplicial import reference_attention
from bulba.model.gpt import GPT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Simplicial: three tokens meet in one score"
BLANK_SCORE = 40.0
"""How strongly a match outweighs the blank, in the head that is made by hand."""
Kind = Literal["standard", "simplicial"]


def matches(numbers_BT: Tensor, modulus: int) -> Tensor:
    """Whether the last number finds two others with which it adds up to a multiple of the modulus; [B]."""
    sums_BTT = numbers_BT[:, :, None] + numbers_BT[:, None, :] + numbers_BT[:, -1:, None]
    return (sums_BTT % modulus == 0).flatten(1).any(1)


def match_rows(num_rows: int, num_tokens: int, modulus: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random rows, every other one with a match: numbers [B, T] and the truth [B]."""
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    half = num_rows // 2
    while min(sum(map(len, rows)) for rows in found) < half:
        numbers_BT = torch.randint(modulus, (4 * num_rows, num_tokens), generator=generator)
        truth_B = matches(numbers_BT, modulus)
        for kind, rows in enumerate(found):
            rows.append(numbers_BT[truth_B == bool(kind)])
    numbers_BT = torch.stack([torch.cat(rows)[:half] for rows in found], 1).flatten(0, 1)
    return numbers_BT, torch.arange(2 * half) % 2 == 1


def head_by_hand(numbers_BT: Tensor, modulus: int) -> Tensor:
    """The share of its weight that one head of width 4, made by hand, gives to pairs of numbers; [B].

    A number is a point on a circle, so that a score is cos(2 pi (x + y + z) / modulus), 1 for a match alone. A blank
    before the row takes the weight where nothing matches: paired with itself it scores between a match and the best
    that is none. The second complex number of the head keeps blanks and numbers from being paired.
    """
    step = 2 * math.pi / modulus
    angles_BT = step * numbers_BT.double()
    scale = 2 * BLANK_SCORE / (1 - math.cos(step))  # a match is that far above the blank, and the blank above the rest
    blank = math.sqrt((1 + math.cos(step)) / 2)

    def vectors(sign: int, is_key: bool) -> Tensor:
        circle = torch.stack([angles_BT.cos(), sign * angles_BT.sin()])
        real = torch.stack([circle[0], torch.ones_like(angles_BT)], -1)
        imaginary = torch.stack([circle[1], torch.zeros_like(angles_BT)], -1)
        first = torch.tensor([blank, -1.0, 0.0, 0.0] if is_key else [0.0] * 4, dtype=torch.float64)
        rows_BTD = torch.cat([real, imaginary], -1)
        return torch.cat([first.expand(len(rows_BTD), 1, 4), rows_BTD], 1)[:, None]

    q_B1TD, k_B1TD = vectors(-1, False)[:, :, -1:] * scale * 2, vectors(1, True)
    v_B1TD = torch.ones_like(k_B1TD)
    v_B1TD[:, :, 0] = 0
    windows = (k_B1TD.shape[2], k_B1TD.shape[2])
    return reference_attention(q_B1TD, (k_B1TD, v_B1TD, k_B1TD, v_B1TD), windows)[:, 0, 0, 0]
