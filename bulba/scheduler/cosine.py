"""Cosine decay (Loshchilov and Hutter 2017, arXiv 1608.03983, without restarts)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bulba.scheduler.base import DecaySchedule


@dataclass(frozen=True, kw_only=True)
class CosineSchedule(DecaySchedule):
    """Warm-up, then factor = floor + (1 - floor) * (1 + cos(pi * p)) / 2.

    p = (step - warmup_steps) / (total_steps - 1 - warmup_steps), floor = min_lr_frac.
    """

    def after_warmup(self, step: int) -> float:
        return self.above_floor((1 + math.cos(math.pi * self.progress(step))) / 2)
