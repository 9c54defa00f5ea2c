"""Warm-up, stable, decay (Hu et al. 2024, MiniCPM, arXiv 2404.06395; Haegele et al. 2024, arXiv 2405.18392).

Until the decay begins nothing depends on the length of the run, so a checkpoint of the stable part can be
trained on with a larger total_steps as if that had been planned from the start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from bulba.errors import ConfigError
from bulba.scheduler.base import DecaySchedule


@dataclass(frozen=True, kw_only=True)
class WsdSchedule(DecaySchedule):
    """Warm-up, then factor = 1, and over the last D steps factor = floor + (1 - floor) * s(p).

    D = round(decay_frac * total_steps); p = (step - (total_steps - D) + 1) / D, so the last step is at the
    floor; s(p) = 1 - p for `linear` and 1 - sqrt(p) for `1-sqrt` (Haegele et al. 2024). decay_frac is in (0,
    1].
    """

    decay_frac: float
    decay_shape: Literal["linear", "1-sqrt"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.decay_frac <= 1:
            raise ConfigError(
                f"scheduler.decay_frac={self.decay_frac} is out of range: set a share of all steps above 0, "
                "at most 1; for no decay set scheduler=none."
            )
        if self.decay_steps < 1:
            raise ConfigError(
                f"scheduler.decay_frac={self.decay_frac} of {self.total_steps} steps is less than one step: "
                "set a larger decay_frac or train longer."
            )
        if self.warmup_steps + self.decay_steps > self.total_steps:
            raise ConfigError(
                f"scheduler.warmup_steps={self.warmup_steps} and the {self.decay_steps} steps of "
                f"scheduler.decay_frac={self.decay_frac} do not fit in the {self.total_steps} steps of the "
                "run: set fewer warm-up steps or a smaller decay_frac."
            )

    @property
    def decay_steps(self) -> int:
        """D: how many of the last steps decay."""
        return round(self.decay_frac * self.total_steps)

    def after_warmup(self, step: int) -> float:
        decayed_steps = step - (self.total_steps - self.decay_steps) + 1
        if decayed_steps <= 0:
            return 1.0
        progress = decayed_steps / self.decay_steps
        return self.above_floor(1 - (progress if self.decay_shape == "linear" else math.sqrt(progress)))
