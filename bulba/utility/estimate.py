"""Figures of several seeds as a mean and an interval.

The interval is Student's: mean -+ t s / sqrt(n), with s the standard deviation of the n seeds (n - 1 in its divisor)
and t the 97.5 % quantile for n - 1 degrees of freedom. It holds for seeds whose figures are about normal; with three
seeds it is wide, as it should be. A bootstrap of three values would be too narrow, so there is none.
One seed has no interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """low, high: the 95 % interval of the mean, None with one value; cut where no value can lie."""

    values: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None


def estimate(values: Sequence[float], limits: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """The mean of the values, one for each seed, and its interval within `limits`."""
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return Estimate(tuple(values), mean, None, None)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = student_quantile(CONFIDENCE, count - 1) * math.sqrt(variance / count)
    return Estimate(tuple(values), mean, max(limits[0], mean - half), min(limits[1], mean + half))


def student_quantile(confidence: float, freedom: int) -> float:
    """The t with P(|T| < t) = confidence, for a whole number of degrees of freedom; by bisection."""
    low, high = 0.0, 1.0
    while student_share(high, freedom) < confidence:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if student_share(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return high


def student_share(t: float, freedom: int) -> float:
    """P(|T| < t) (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    # Odd: cos + 2/3 cos^3 + 2 4 / (3 5) cos^5 ...; even: 1 + 1/2 cos^2 + 1 3 / (2 4) cos^4 ...
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
