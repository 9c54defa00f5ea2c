"""The statistics, held against tables and sums by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulba.utility.estimate import estimate, student_quantile, student_share


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (30, 2.04227)]
)
def test_quantiles_are_those_of_the_printed_tables(freedom: int, quantile: float) -> None:
    assert student_quantile(0.95, freedom) == pytest.approx(quantile, rel=1e-5)


def test_with_many_degrees_of_freedom_it_is_the_normal_distribution() -> None:
    assert student_quantile(0.95, 5000) == pytest.approx(1.95996, rel=1e-3)


@given(t=st.floats(0.01, 50), freedom=st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_the_share_is_the_integral_of_the_density(t: float, freedom: int) -> None:
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    places = [t * (number + 0.5) / 4000 for number in range(4000)]
    heights = [math.exp(log_scale - (freedom + 1) / 2 * math.log1p(x * x / freedom)) for x in places]
    assert student_share(t, freedom) == pytest.approx(2 * t * sum(heights) / 4000, abs=1e-4)


def test_three_seeds_by_hand() -> None:
    # Mean 2, standard deviation 1, t = 4.30265: 2 -+ 4.30265 / sqrt(3).
    one = estimate([1.0, 2.0, 3.0])
    assert (one.mean, one.low, one.high) == pytest.approx((2.0, 2 - 2.484137, 2 + 2.484137), abs=1e-5)


def test_an_interval_ends_where_no_value_can_lie() -> None:
    one = estimate([0.9, 1.0, 1.0], limits=(0.0, 1.0))
    assert one.high == 1.0
    assert one.low == pytest.approx(0.9666667 - 4.30265 * math.sqrt(0.01 / 3 / 3), abs=1e-5)


def test_one_seed_has_no_interval_and_equal_seeds_a_point() -> None:
    assert (estimate([0.5]).low, estimate([0.5]).high) == (None, None)
    assert (estimate([0.5] * 3).low, estimate([0.5] * 3).high) == (0.5, 0.5)
