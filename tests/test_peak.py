"""Peak FLOP/s: which cards are known by their exact names, and that measuring one changes nothing else."""

import pytest
import torch

from bulba.peak import known_peak, peak_of


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA GeForce RTX 3090", 71.0),
        ("NVIDIA GeForce RTX 4060", 30.2),
        ("Tesla T4", 65.0),
        ("Tesla V100-SXM2-16GB", 125.0),
        ("NVIDIA A100 80GB PCIe", 312.0),
        ("NVIDIA A10", 125.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H200", 989.4),
    ],
)
def test_known_cards(name: str, tflops: float) -> None:
    assert known_peak(name) == pytest.approx(1e12 * tflops)


@pytest.mark.parametrize(
    "name", ["NVIDIA GeForce RTX 3070 Laptop GPU", "NVIDIA GeForce RTX 3080 Ti", "NVIDIA A10G", "x86_64"]
)
def test_another_card_with_a_like_name_is_not_taken_for_a_known_one(name: str) -> None:
    assert known_peak(name) is None


def test_a_cpu_is_measured_once_and_leaves_the_random_state() -> None:
    state = torch.get_rng_state()
    peak = peak_of(torch.device("cpu"), "fp32")
    assert peak.source == "measured"
    assert torch.equal(state, torch.get_rng_state())
    assert peak_of(torch.device("cpu"), "fp32") == peak
    assert peak_of.cache_info().hits >= 1
