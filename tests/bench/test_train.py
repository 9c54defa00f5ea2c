"""The peak that MFU is a share of."""

from __future__ import annotations

import torch

from bulba.bench.train import Work
from bulba.peak import Peak


def test_the_highest_of_all_measurements_counts_but_a_figure_of_the_maker_stays() -> None:
    measured = Work(1, 1.0, torch.device("cpu"), "fp32", Peak(1.0, "measured"))
    measured.measure_again()
    assert measured.peak.flops_per_s > 1e6
    highest = Work(1, 1.0, torch.device("cpu"), "fp32", Peak(1e18, "measured"))
    highest.measure_again()
    assert highest.peak == Peak(1e18, "measured")
    maker = Work(1, 1.0, torch.device("cpu"), "fp32", Peak(1.0, "maker"))
    maker.measure_again()
    assert maker.peak == Peak(1.0, "maker")
