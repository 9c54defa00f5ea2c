"""The Triton kernels of max-plus attention: equal to the formula in float64, ties included, and compiled for cards."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from bulba.attention.base import MixerShape
from bulba.attention.maxplus import Rule
from bulba.attention.tropical import TropicalAttention, reference_attention, takes_triton, tropical_attention
from tests.kernels.ahead_of_time import CAPABILITIES, SHARED_BYTES, compile_kernel
from tests.kernels.cases import Options, case, outcome
from tests.kernels.interpreted import DEVICE, kernels

RULES = [Rule("hilbert", 0.0), Rule("maxplus", 0.0), Rule("hilbert", 0.3), Rule("maxplus", 0.3)]
CASES: list[Options] = [
    (1, 0, 8, 2, False, False),
    (7, 0, 16, 1, True, True),
    (33, 0, 20, 1, True, False),
    (70, 0, 8, 2, False, True),
    (1, 40, 20, 2, False, True),
    (33, 37, 16, 1, False, False),
]


@pytest.fixture
def kernel() -> Iterator[ModuleType]:
    with kernels("tropical") as module:
        yield module


def both(kernel: ModuleType, tensors: list[Tensor], rule: Rule, *rest: Any, dtype: torch.dtype) -> tuple[Any, Any]:
    """What the kernel gives and what the formula gives in float64 for the same values."""
    got = outcome(kernel.tropical_attention, tensors, rule.score == "hilbert", rule.temperature, *rest, dtype=dtype)
    exact = [x.to(dtype).double() for x in tensors]
    return got, outcome(reference_attention, exact, rule, *rest, dtype=torch.float64, device="cpu")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("options", CASES)
def test_it_is_the_formula(kernel: ModuleType, options: Options, rule: Rule) -> None:
    tensors, documents, slopes = case(options, num_rows=1, num_heads=2)
    got, wanted = both(kernel, tensors, rule, documents, slopes, dtype=torch.float32)
    torch.testing.assert_close(got, [x.float() for x in wanted], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(kernel: ModuleType, dtype: torch.dtype, rule: Rule) -> None:
    tensors, documents, slopes = case((33, 0, 20, 1, True, True), num_rows=1, num_heads=2)
    got, wanted = both(kernel, tensors, rule, documents, slopes, dtype=dtype)
    assert all(x.dtype == dtype for x in got)
    torch.testing.assert_close(got, [x.to(dtype) for x in wanted], rtol=2 * torch.finfo(dtype).eps, atol=1e-3)


@pytest.mark.parametrize("score", ["hilbert", "maxplus"])
@pytest.mark.parametrize("width", [8, 20])
def test_of_equal_channels_and_keys_the_first_gets_the_gradient(kernel: ModuleType, width: int, score: Any) -> None:
    tensors, documents, slopes = case((33, 0, width, 1, True, True), num_rows=1, num_heads=2)
    whole = [(2 * x).round().clamp(-2, 2) for x in tensors]  # sums of such numbers are exact
    got, wanted = both(kernel, whole, Rule(score, 0.0), documents, slopes, dtype=torch.float32)
    assert all(torch.equal(a.double(), b) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("score", ["hilbert", "maxplus"])
def test_the_semiring_is_the_limit_of_low_temperatures(kernel: ModuleType, score: str) -> None:
    tensors, *rest = case((33, 0, 8, 1, True, True), num_rows=1, num_heads=2)
    exact, smooth = (
        outcome(kernel.tropical_attention, tensors, score == "hilbert", temperature, *rest)[0]
        for temperature in (0.0, 1e-7)
    )
    torch.testing.assert_close(smooth, exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.3])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_not_a_number_is_not_passed_over(kernel: ModuleType, which: int, temperature: float) -> None:
    tensors, *rest = case((7, 0, 8, 2, False, False), num_rows=1, num_heads=2)
    tensors[which][0, 1, 3] = torch.nan
    y = kernel.tropical_attention(*(x.to(DEVICE) for x in tensors), True, temperature, *rest).isnan().cpu()
    assert y[0, 1, 3 if which == 0 else slice(3, None)].all()
    assert not y[:, 0].any()


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("temperature", [0.0, 0.3])
@pytest.mark.parametrize(("dtype", "width"), [("bf16", 64), ("fp32", 128), ("fp16", 20)])
def test_it_compiles_for_cards(dtype: str, width: int, temperature: float, capability: int) -> None:
    pytest.importorskip("triton")
    from bulba.kernels import tropical

    options = tropical.options_of(width, True, temperature)
    kept = "*fp32" if temperature else "*i32"
    types = dict.fromkeys(
        ("q_ptr", "k_ptr", "v_ptr", "grad_ptr", "grad_q_ptr", "grad_k_ptr", "grad_v_ptr"), f"*{dtype}"
    )
    types |= {"first_ptr": "*i32", "end_ptr": "*i32", "slopes_ptr": "*fp32", "chosen_ptr": kept, "kept_ptr": kept}
    types |= {"y_ptr": "*fp32" if temperature else f"*{dtype}", "inverse": "fp32"}
    types |= dict.fromkeys(("group_size", "num_queries", "num_keys"), "i32")
    for function in (tropical.forward_kernel, tropical.queries_backward_kernel, tropical.keys_backward_kernel):
        compiled = compile_kernel(function, options | types, capability)
        assert compiled.asm["cubin"]
        assert compiled.metadata.shared <= SHARED_BYTES


def test_what_the_kernels_do_not_take_runs_blocked_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulba.device.HAS_TRITON", True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    cuda, cpu = torch.device("cuda"), torch.device("cpu")

    def chosen(dtype: torch.dtype, device: torch.device, width: int = 64, kernel: Any = "flash") -> str:
        mixer = TropicalAttention(MixerShape(16, 2, 2, width), "hilbert", 0.0)
        return mixer.choose_backend(kernel, False, 2, 16, dtype, device)

    assert {chosen(x, cuda) for x in (torch.float32, torch.bfloat16, torch.float16)} == {"tropical triton"}
    assert chosen(torch.float32, cuda, kernel="reference") == "reference"
    assert chosen(torch.float32, cpu) == chosen(torch.float64, cuda) == chosen(torch.float32, cuda, 130)
    assert chosen(torch.float32, cpu) == "tropical blocked"
    monkeypatch.setattr("bulba.device.HAS_TRITON", False)
    assert chosen(torch.bfloat16, cuda) == "tropical blocked"
    monkeypatch.setattr("bulba.device.HAS_TRITON", True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert chosen(torch.float16, cuda) == "tropical blocked"


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("compiled", [False, True])
def test_the_layer_runs_it_and_twice_gives_the_same_bits(rule: Rule, compiled: bool) -> None:
    assert takes_triton(torch.float32, torch.device("cuda"), 64)
    tensors, *rest = case((200, 0, 64, 1, True, True), num_rows=1, num_heads=2)
    attend = torch.compile(tropical_attention, fullgraph=True) if compiled else tropical_attention
    first, second = (outcome(attend, tensors, rule, *rest) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    exact = outcome(reference_attention, tensors, rule, *rest, dtype=torch.float64, device="cpu")
    torch.testing.assert_close(first, [x.float() for x in exact], rtol=1e-4, atol=1e-4)
