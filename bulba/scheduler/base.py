"""What every schedule of the learning rate is: a pure function of the optimizer step.

factor(step) = (step + 1) / (warmup_steps + 1) while step < warmup_steps (linear warm-up, Goyal et al. 2017,
arXiv 1706.02677); the file of the schedule gives the rest. Steps count from 0, the first update, so the peak
is reached at step `warmup_steps` and no update is lost on a factor of 0. Nothing is remembered between calls:
a resumed run asks for its own step and never warms up again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from bulba.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """Factor of the peak learning rate for each of `total_steps` optimizer steps.

    warmup_steps: steps before the peak, 0 for none. ConfigError for settings that do not fit each other.
    """

    total_steps: int
    warmup_steps: int

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise ConfigError(f"scheduler.warmup_steps={self.warmup_steps} is negative: set 0 or more steps.")
        if self.warmup_steps >= self.total_steps:
            raise ConfigError(
                f"scheduler.warmup_steps={self.warmup_steps} does not end within the run of "
                f"{self.total_steps} steps: set fewer warm-up steps or train longer."
            )

    def __call__(self, step: int) -> float:
        """The factor for optimizer step `step`, counted from 0; after the last step it stays where it is."""
        assert step >= 0, f"optimizer steps count from 0, not {step}"
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        return self.after_warmup(min(step, self.total_steps - 1))

    @abstractmethod
    def after_warmup(self, step: int) -> float:
        """The factor for warmup_steps <= step < total_steps."""


@dataclass(frozen=True, kw_only=True)
class DecaySchedule(Schedule):
    """A schedule that ends at a floor: `min_lr_frac` of the peak, in [0, 1)."""

    min_lr_frac: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.min_lr_frac < 1:
            raise ConfigError(
                f"scheduler.min_lr_frac={self.min_lr_frac} is out of range: set 0 or a fraction of the peak "
                "below 1; for no decay set scheduler=none."
            )

    def above_floor(self, share: float) -> float:
        """`share` of the way from the floor (0) to the peak (1)."""
        return self.min_lr_frac + (1 - self.min_lr_frac) * share

    def progress(self, step: int) -> float:
        """From 0 at the end of the warm-up to 1 at the last step."""
        decay_steps = self.total_steps - 1 - self.warmup_steps
        return (step - self.warmup_steps) / decay_steps if decay_steps else 0.0
