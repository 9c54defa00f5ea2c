"""Linear decay (Defazio et al. 2023, arXiv 2310.07831)."""

from __future__ import annotations

from dataclasses import dataclass

from bulba.scheduler.base import DecaySchedule


@dataclass(frozen=True, kw_only=True)
class LinearSchedule(DecaySchedule):
    """Warm-up, then factor = floor + (1 - floor) * (1 - p).

    p = (step - warmup_steps) / (total_steps - 1 - warmup_steps), floor = min_lr_frac.
    """

    def after_warmup(self, step: int) -> float:
        return self.above_floor(1 - self.progress(step))
