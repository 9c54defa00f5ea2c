"""How to write: the options of generation, checked where they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bulba.errors import ConfigError


@dataclass(frozen=True)
class SamplingOptions:
    """How to write. The filters run in the order of bulba/generation/sampling.py.

    temperature: 0 is greedy.
    top_k, top_p: None is off.
    repetition_window: the last so many tokens count for the repetition penalty; None counts all.
    stop: texts that end the generation and are not part of it.
    seed: seed of the draws; text i of `generate_many` has seed + i.
    cache: decode with a key/value cache; False feeds the whole text again for every token.
    Raises ConfigError for impossible values and for options that would do nothing.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    repetition_window: int | None = None
    stop: tuple[str, ...] = ()
    seed: int = 0
    cache: bool = True

    def __post_init__(self) -> None:
        # A YAML file gives a list or a single text.
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        object.__setattr__(self, "stop", stop)
        self._check_ranges()
        self._check_effects()

    def _check_ranges(self) -> None:
        penalty, window = self.repetition_penalty, self.repetition_window
        temperature, seed = self.temperature, self.seed
        for name, fits, allowed in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", math.isfinite(temperature) and temperature >= 0, "0 (greedy) or above"),
            ("top_k", self.top_k is None or self.top_k >= 1, "at least 1, or null for off"),
            ("top_p", self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1, or null for off"),
            ("repetition_penalty", math.isfinite(penalty) and penalty > 0, "above 0 (1.0 is off)"),
            ("repetition_window", window is None or window >= 1, "at least 1, or null for all tokens"),
            ("stop", all(isinstance(text, str) and text for text in self.stop), "texts that are not empty"),
            ("seed", 0 <= seed < 2**62, "a whole number from 0 to 2^62"),
        ):
            if not fits:
                raise ConfigError(f"generation.{name}={getattr(self, name)!r} must be {allowed}.")

    def _check_effects(self) -> None:
        for name in ("top_k", "top_p"):
            if self.temperature == 0 and getattr(self, name) is not None:
                raise ConfigError(
                    f"generation.{name}={getattr(self, name)} does nothing at generation.temperature=0, "
                    f"which always takes the likeliest token: set {name}=null, or a temperature above 0."
                )
        if self.repetition_window is not None and self.repetition_penalty == 1:
            raise ConfigError(
                f"generation.repetition_window={self.repetition_window} does nothing at "
                "generation.repetition_penalty=1: set the window to null, or the penalty to another value."
            )
