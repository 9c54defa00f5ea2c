"""The Triton kernels of 2-simplicial attention: equal to the formula, gradients too, compiled for cards and traced."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bulba import device
from bulba.attention import simplicial
from bulba.attention.base import AttentionContext, MixerShape
from bulba.attention.simplicial import SimplicialAttention, flash_attention, reference_attention, takes_triton
from bulba.model.position import rotary_frequencies, rotate
from tests.kernels.ahead_of_time import CAPABILITIES, SHARED_BYTES, compile_kernel
from tests.kernels.interpreted import DEVICE, kernels

WIDTHS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
KERNELS = ["forward_kernel", "query_gradient_kernel", "first_gradient_kernel", "second_gradient_kernel"]
CUDA = torch.device("cuda")
needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture
def kernel() -> Iterator[ModuleType]:
    with kernels("simplicial") as module:
        yield module


def case(
    num_tokens: int,
    heads: tuple[int, int],
    head_dim: int,
    kind: str = "plain",
    before: tuple[int, int] = (0, 0),
    dtype: torch.dtype = torch.float32,
) -> tuple[list[Tensor], Tensor | None, Tensor | None, Tensor]:
    """q, k, v, k', v' with so many tokens of a cache before the keys; documents; slopes; a gradient of the output."""
    generator = torch.Generator().manual_seed(num_tokens + head_dim)
    shapes = [(heads[0], num_tokens)] + [(heads[1], num_tokens + before[n]) for n in (0, 0, 1, 1)]
    tensors = [torch.randn(2, *shape, head_dim, generator=generator).to(DEVICE, dtype) for shape in shapes]
    documents = torch.randint(3, (2, num_tokens), generator=generator).sort(1).values.to(DEVICE)
    slopes = torch.rand(heads[0], generator=generator).to(DEVICE)
    grad = torch.randn(tensors[0].shape, generator=generator).to(DEVICE, dtype)
    return tensors, documents if "packed" in kind else None, slopes if "alibi" in kind else None, grad


def results(attend: Any, made: Any, windows: tuple[int, int], dtype: torch.dtype) -> list[Tensor]:
    """The output and the gradients of q, k, v, k', v'."""
    tensors, documents, slopes, grad = made
    tensors = [x.detach().to(dtype).requires_grad_() for x in tensors]
    out = attend(tensors[0], tuple(tensors[1:]), windows, documents, slopes)
    return [x.detach().double() for x in (out, *torch.autograd.grad(out, tensors, grad.to(dtype)))]


@pytest.mark.parametrize(
    ("made", "windows"),
    [
        (case(1, (2, 1), 8), (3, 2)),
        (case(7, (4, 2), 16), (1, 1)),
        (case(33, (4, 2), 8, "packed"), (5, 3)),
        (case(20, (2, 2), 16, "packed alibi"), (3, 18)),
        (case(70, (2, 1), 20, "alibi"), (40, 3)),
        (case(33, (2, 1), 8, "plain", (9, 2)), (12, 3)),
        (case(1, (4, 1), 16, "alibi", (0, 7)), (1, 8)),
        (case(18, (2, 2), 8, "plain", (40, 20)), (64, 4)),  # a cache beyond the windows, windows beyond the text
        (case(7, (2, 1), 136), (4, 2)),
    ],
)
def test_output_and_gradients_are_those_of_the_formula(kernel: Any, made: Any, windows: tuple[int, int]) -> None:
    got = results(kernel.simplicial_attention, made, windows, torch.float32)
    expected = results(reference_attention, made, windows, torch.float64)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_it_is_as_near_to_the_formula_as_the_formula_in_its_dtype(
    kernel: Any, dtype: torch.dtype
) -> None:
    made = case(33, (4, 2), 16, "packed alibi", dtype=dtype)
    truth = results(reference_attention, made, (6, 3), torch.float64)
    near, got = (results(attend, made, (6, 3), dtype) for attend in (reference_attention, kernel.simplicial_attention))
    # The interpreter cuts numbers off to bf16 where a card rounds them.
    times = 3 if (DEVICE, dtype) == ("cpu", torch.bfloat16) else 1.5
    for one, plain, exact in zip(got, near, truth, strict=True):
        assert (one - exact).norm() <= times * (plain - exact).norm()


def test_scores_do_not_overflow(kernel: Any) -> None:
    x = torch.full((1, 1, 9, 8), 1e3, device=DEVICE)
    torch.testing.assert_close(kernel.simplicial_attention(x, (x, x, x, torch.ones_like(x)), (4, 3)), x)


def test_tensors_may_lie_in_memory_as_projections_leave_them(kernel: Any) -> None:
    made = case(18, (2, 1), 8)
    moved = (
        [x.transpose(1, 2).contiguous().transpose(1, 2) for x in made[0]],
        *made[1:3],
        made[3][:, :1].expand_as(made[3]),
    )
    plain = (*made[:3], moved[3].contiguous())
    first, second = (results(kernel.simplicial_attention, one, (5, 3), torch.float32) for one in (moved, plain))
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def arguments_of(kernel: Any, sizes: dict[str, int], dtype: torch.dtype, optional: bool) -> dict[str, Any]:
    """What a kernel is compiled for; optional: with documents and slopes."""
    types: dict[str, Any] = dict.fromkeys(kernel.arg_names, f"*{WIDTHS[dtype]}") | sizes
    types |= dict.fromkeys(("logsum", "along"), "*fp32") | {"scale": "fp32"}
    types |= {"documents": "*i64", "slopes": "*fp32"} if optional else {"documents": None, "slopes": None}
    lengths = [name for name in kernel.arg_names if name.startswith(("num_", "before", "window"))]
    return types | dict.fromkeys(lengths, "i32")


@pytest.mark.parametrize(
    ("capability", "dtype", "head_dim", "optional"),
    [(capability, torch.bfloat16, 64, True) for capability in CAPABILITIES]
    + [(86, torch.float16, 80, False), (86, torch.float32, 256, True)],
)
def test_kernels_compile_for_cards_and_fit_into_their_memory(
    capability: int, dtype: torch.dtype, head_dim: int, optional: bool
) -> None:
    pytest.importorskip("triton")
    from bulba.kernels import simplicial as module

    for name in KERNELS:
        kernel = getattr(module, name)
        sizes = module.tile_sizes(torch.empty(1, 1, 1, head_dim, dtype=dtype))
        compiled = compile_kernel(kernel, arguments_of(kernel, sizes, dtype, optional), capability)
        assert ".target sm_" in compiled.asm["ptx"]
        assert compiled.metadata.shared <= SHARED_BYTES


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a card it is compiled in earnest")
@pytest.mark.parametrize("kind", ["plain", "packed alibi"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_torch_compile_traces_forward_and_backward_without_a_break(
    dynamic: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as it goes without a card: graphs with the four kernels, whose results are made up."""
    pytest.importorskip("triton")
    import torch.utils._triton as torch_triton
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    traced: list[str] = []

    def only_shapes(graph: Any, inputs: Any) -> Any:
        nodes = list(graph.graph.nodes)
        traced.extend(str(node.target) for node in nodes if "triton_kernel" in str(node.target))
        numbers = list(nodes[-1].args[0])
        return make_boxed_func(lambda *args: [make_up(x.meta["val"]) if hasattr(x, "meta") else x for x in numbers])

    def make_up(value: Any) -> Any:
        return (
            torch.zeros([int(n) for n in value.shape], dtype=value.dtype) if isinstance(value, Tensor) else int(value)
        )

    monkeypatch.setattr(torch_triton, "has_triton", lambda *args, **options: True)
    monkeypatch.setattr(simplicial, "takes_triton", lambda *args: True)
    active = SimpleNamespace(get_current_target=lambda: GPUTarget("cuda", 86, 32))
    monkeypatch.setattr(driver, "_active", active)
    torch._dynamo.reset()
    backend = aot_autograd(fw_compiler=only_shapes, bw_compiler=only_shapes)
    fast = torch.compile(flash_attention, fullgraph=True, dynamic=dynamic, backend=backend)
    results(fast, case(40, (4, 2), 16, kind), (5, 3), torch.float32)
    torch._dynamo.reset()
    assert len(traced) == len(KERNELS)


def test_the_backend_is_told_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "HAS_TRITON", True)
    monkeypatch.setattr(device, "major_capability", lambda _: 8)
    cpu, mixer = torch.device("cpu"), SimplicialAttention(MixerShape(16, 2, 1, 8), 4, 3)
    for dtype in WIDTHS:
        assert mixer.choose_backend("flash", False, 2, 16, dtype, cpu) == "simplicial blocked"
        assert mixer.choose_backend("flash", False, 2, 16, dtype, CUDA) == "simplicial triton"
        assert mixer.choose_backend("reference", False, 2, 16, dtype, CUDA) == "reference"
    assert mixer.choose_backend("flash", False, 2, 16, torch.float64, CUDA) == "simplicial blocked"
    assert not takes_triton(torch.bfloat16, CUDA, simplicial.MAX_HEAD_DIM + 2)
    monkeypatch.setattr(device, "major_capability", lambda _: 7)
    assert not takes_triton(torch.bfloat16, CUDA, 8)
    monkeypatch.setattr(device, "HAS_TRITON", False)
    assert not takes_triton(torch.bfloat16, CUDA, 8)


@needs_card
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_on_a_card_gives_what_its_reference_kernel_gives(dtype: torch.dtype, compiled: bool) -> None:
    torch.manual_seed(0)
    layer = SimplicialAttention(MixerShape(128, 4, 2, 32), 32, 8).to(CUDA, dtype)
    assert layer.choose_backend("flash", compiled, 2, 200, dtype, CUDA) == "simplicial triton"
    x_BTH = torch.randn(2, 200, 128, device=CUDA, dtype=dtype)
    angles = torch.arange(200, device=CUDA)[None, None, :, None] * rotary_frequencies(32, 1e4, None, CUDA)
    turn = partial(rotate, cos_B1TK=angles.cos(), sin_B1TK=angles.sin())
    documents = torch.randint(3, (2, 200), device=CUDA).sort(1).values
    flash, plain = (AttentionContext(turn, documents, None, None, kernel) for kernel in ("flash", "reference"))
    run = torch.compile(layer, fullgraph=True, dynamic=False) if compiled else layer

    def outputs(call: Any, context: AttentionContext) -> Tensor:
        out = call(x_BTH, context)
        grads = torch.autograd.grad(out.float().square().sum(), list(layer.parameters()))
        return torch.cat([x.double().flatten() / x.double().norm() for x in (out, *grads)])

    got, again, expected = outputs(run, flash), outputs(run, flash), outputs(layer, plain)
    assert torch.equal(got, again)  # no atomics
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 2e-2)
