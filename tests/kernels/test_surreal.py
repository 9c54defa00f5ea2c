"""The Triton kernels of attention over numbers of two levels: equal to the formula in float64, compiled for cards."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from bulba.attention.base import MixerShape
from bulba.attention.surreal import SurrealAttention, reference_attention, surreal_attention, takes_triton
from tests.kernels.ahead_of_time import CAPABILITIES, SHARED_BYTES, compile_kernel
from tests.kernels.cases import Options, case, outcome
from tests.kernels.interpreted import DEVICE, kernels

CASES: list[Options] = [
    (1, 0, 8, 4, False, False),
    (7, 0, 16, 1, True, True),
    (33, 0, 20, 2, True, False),
    (70, 0, 8, 2, False, True),
    (70, 0, 16, 1, True, True),
    (1, 40, 20, 2, False, True),
    (33, 37, 16, 1, False, False),
]


@pytest.fixture
def kernel() -> Iterator[ModuleType]:
    with kernels("surreal") as module:
        yield module


def formula(tensors: list[Tensor], *rest: Any) -> list[Tensor]:
    """The outcome in float64."""
    return outcome(reference_attention, tensors, 2, *rest, dtype=torch.float64, device="cpu")


@pytest.mark.parametrize("options", CASES)
def test_it_is_the_formula(kernel: ModuleType, options: Options) -> None:
    tensors, *rest = case(options, num_rows=2, num_heads=4, levels=2)
    got = outcome(kernel.surreal_attention, tensors, *rest)
    torch.testing.assert_close(got, [x.float() for x in formula(tensors, *rest)], rtol=5e-5, atol=5e-5)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.02), (torch.float16, 0.003)])
@pytest.mark.parametrize("options", [(70, 0, 20, 2, True, True), (33, 37, 40, 4, False, False)])
def test_half_precision_errs_as_its_numbers_do(
    kernel: ModuleType, options: Options, dtype: torch.dtype, bound: float
) -> None:
    tensors, *rest = case(options, num_rows=2, num_heads=4, levels=2)
    tensors = [x.to(dtype) for x in tensors]
    for got, wanted in zip(
        outcome(kernel.surreal_attention, tensors, *rest, dtype=dtype), formula(tensors, *rest), strict=True
    ):
        assert got.dtype == dtype
        assert (got - wanted).norm() < bound * wanted.norm()


def test_what_all_scores_have_in_common_costs_no_precision(kernel: ModuleType) -> None:
    tensors, *rest = case((70, 0, 16, 2, False, False), num_rows=2, num_heads=4, levels=2)
    tensors[1][..., 16:] += 300.0  # s1 of all keys by as much as the first level of q adds up to, about 1000
    got, wanted = outcome(kernel.surreal_attention, tensors, *rest)[0], formula(tensors, *rest)[0]
    assert (got - wanted).norm() < 1e-4 * wanted.norm()


def test_autocast_may_leave_q_and_k_wider_than_v(kernel: ModuleType) -> None:
    tensors, *rest = case((33, 0, 16, 2, True, True), num_rows=2, num_heads=4, levels=2)
    q, k, v = (x.bfloat16() for x in tensors)
    mixed = [q.float().requires_grad_(), k.float().requires_grad_(), v.requires_grad_()]
    y = kernel.surreal_attention(*(x.to(DEVICE) for x in mixed), *(x.to(DEVICE) for x in rest))
    grads = torch.autograd.grad(y, mixed, torch.ones_like(y))
    assert [x.dtype for x in (y, *grads)] == [torch.bfloat16, torch.float32, torch.float32, torch.bfloat16]
    wanted = reference_attention(q.double(), k.double(), v.double(), 2, *rest)
    assert (y.cpu() - wanted).norm() < 0.02 * wanted.norm()


@pytest.mark.parametrize(
    ("dtype", "width", "capability"),
    [
        *(("bf16", 64, capability) for capability in CAPABILITIES),
        ("fp32", 128, 86),
        ("fp16", 128, 86),
        ("bf16", 20, 86),
    ],
)
def test_it_compiles_for_cards(dtype: str, width: int, capability: int) -> None:
    pytest.importorskip("triton")
    from bulba.kernels import surreal

    of_torch = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    options = surreal.options_of(torch.empty(1, 1, 1, 2 * width, dtype=of_torch[dtype], device="meta"))
    types = {"first_ptr": "*i32", "end_ptr": "*i32", "scale": "fp32"}
    types |= dict.fromkeys(("group_size", "num_queries", "num_keys"), "i32")
    names = ("slopes_ptr", "logsum_ptr", "mean_ptr", "along0_ptr", "along1_ptr")
    types |= dict.fromkeys(names, "*fp32")
    names = ("q_ptr", "k_ptr", "v_ptr", "y_ptr", "grad_ptr", "grad_q_ptr", "grad_k_ptr", "grad_v_ptr")
    types |= dict.fromkeys(names, f"*{dtype}")
    for function in (surreal.forward_kernel, surreal.queries_backward_kernel, surreal.keys_backward_kernel):
        compiled = compile_kernel(function, options | types, capability)
        assert compiled.asm["cubin"]
        assert compiled.metadata.shared <= SHARED_BYTES


def test_what_the_kernels_do_not_take_runs_blocked_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulba.device.HAS_TRITON", True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    cuda, cpu = torch.device("cuda"), torch.device("cpu")

    def chosen(
        dtype: torch.dtype, device: torch.device, width: int = 64, levels: int = 2, kernel: Any = "flash"
    ) -> str:
        mixer = SurrealAttention(MixerShape(16, 2, 2, width), levels, 4.0)
        return mixer.choose_backend(kernel, False, 2, 16, dtype, device)

    assert {chosen(x, cuda) for x in (torch.float32, torch.bfloat16, torch.float16)} == {"surreal triton"}
    assert chosen(torch.float32, cuda, kernel="reference") == "reference"
    for refused in (
        (torch.float32, cpu),
        (torch.float64, cuda),
        (torch.float32, cuda, 130),
        (torch.float32, cuda, 64, 3),
    ):
        assert chosen(*refused) == "surreal blocked"
    monkeypatch.setattr("bulba.device.HAS_TRITON", False)
    assert chosen(torch.bfloat16, cuda) == "surreal blocked"
    monkeypatch.setattr("bulba.device.HAS_TRITON", True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert chosen(torch.float16, cuda) == "surreal blocked"


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
@pytest.mark.parametrize("compiled", [False, True])
def test_the_layer_runs_it_and_twice_gives_the_same_bits(compiled: bool) -> None:
    assert takes_triton(2, torch.float32, torch.device("cuda"), 64)
    tensors, *rest = case((200, 0, 64, 2, True, True), num_rows=2, num_heads=4, levels=2)
    attend = torch.compile(surreal_attention, fullgraph=True) if compiled else surreal_attention
    first, second = (outcome(attend, tensors, 2, *rest) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    torch.testing.assert_close(first, [x.float() for x in formula(tensors, *rest)], rtol=1e-4, atol=1e-4)
