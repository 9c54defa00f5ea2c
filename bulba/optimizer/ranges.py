"""Ranges of the hyperparameters of an optimizer."""

from __future__ import annotations

import math

from bulba.errors import ConfigError


def check_positive(**options: float) -> None:
    """ConfigError for the first option that is not a finite number above 0."""
    for name, value in options.items():
        if not (value > 0 and math.isfinite(value)):
            raise ConfigError(f"optimizer.{name}={value} is out of range: set a number above 0.")


def check_not_negative(**options: float) -> None:
    """ConfigError for the first option that is not a finite number from 0 up."""
    for name, value in options.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ConfigError(f"optimizer.{name}={value} is out of range: set 0 or a number above it.")


def check_average(**options: float) -> None:
    """ConfigError for the first option that is not in [0, 1), where an average over past steps is defined."""
    for name, value in options.items():
        if not 0 <= value < 1:
            raise ConfigError(f"optimizer.{name}={value} is out of range: set 0 or a number between 0 and 1.")


def check_nesterov(nesterov: bool, momentum: float) -> None:
    """ConfigError for a look-ahead along a momentum that is not there."""
    if nesterov and momentum == 0:
        raise ConfigError(
            "optimizer.nesterov=true would do nothing without momentum: set optimizer.momentum above 0 or "
            "optimizer.nesterov=false."
        )
