"""No schedule: constant after the warm-up."""

from __future__ import annotations

from dataclasses import dataclass

from bulba.scheduler.base import Schedule


@dataclass(frozen=True, kw_only=True)
class ConstantSchedule(Schedule):
    """Warm-up, then factor = 1."""

    def after_warmup(self, step: int) -> float:
        return 1.0
