"""Reversible layers: undone they give their input, rebuilt activations give the same gradients, memory stays flat."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from bulba.attention.base import AttentionContext
from bulba.attention.reversible import ReversibleAttention
from bulba.attention.standard import StandardAttention
from bulba.config.overrides import check, expand
from bulba.errors import ConfigError, UnsupportedError
from bulba.model.reversible import Segment, advance, undo
from bulba.model.sharding import shard
from bulba.run.restart import can_checkpoint
from bulba.stage.flops import row_flops
from bulba.stage.memory import StorageCounter, compiled_like
from tests.model.tiny import packed, tiny_gpt, tokens

STANDARD = {"_target_": "bulba.attention.standard.StandardAttention"}
NODE = {"_target_": "bulba.attention.reversible.ReversibleAttention", "inner": STANDARD}
CONTEXT = AttentionContext(lambda x: x, None, None, None, "reference")


def hybrid(*pattern: str) -> dict[str, Any]:
    return {"pattern": list(pattern), "mixers": {"standard": STANDARD, "reversible": NODE}}


def reversible_gpt(**changes: Any) -> Any:
    return tiny_gpt(**({"attention": NODE, "num_layers": 3} | changes))


def gradients(model: Any, *inputs: Tensor, autocast: bool = False) -> list[Tensor]:
    """The output and the gradient of every weight."""
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        hidden = model(*inputs)
    loss = (hidden.double() * torch.linspace(-1, 1, hidden.numel()).view_as(hidden)).sum()
    return [hidden, *torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])]


@settings(deadline=None, max_examples=6)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.1, 10))
def test_undone_the_layers_give_back_their_input(seed: int, scale: float) -> None:
    model = reversible_gpt(num_layers=24, seed=seed, init_std=0.1)
    first, second = scale * torch.randn(2, 1, 12, 48).double()
    for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-13)):
        before = first.to(dtype), second.to(dtype)
        with torch.no_grad():
            layers = list(model.to(dtype).layers)
            after = undo(layers, advance(layers, before, CONTEXT, [None] * 24), CONTEXT)
        for got, expected in zip(after, before, strict=True):
            assert (got - expected).abs().max() <= bound * expected.abs().max()


def test_a_segment_is_the_formula_in_float64() -> None:
    model = reversible_gpt().double()
    model.set_rebuild(True)
    x = model.embed_tokens(tokens(1, 7))
    first = second = x
    for layer in model.layers:
        first = first + plain_attention(layer.self_attn.inner, layer.input_layernorm(second), model)
        second = second + layer.mlp(layer.post_attention_layernorm(first))
    expected = model.norm(first + second - x)
    got = model(tokens(1, 7))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    want, have = (torch.autograd.grad(y.square().sum(), list(model.parameters())) for y in (expected, got))
    torch.testing.assert_close(have, want, rtol=1e-9, atol=1e-9)


def plain_attention(mixer: Any, x_1TH: Tensor, model: Any) -> Tensor:
    """Softmax attention of one row, a query and a head at a time."""
    rotate = model._rotation(torch.arange(x_1TH.shape[1])[None])
    q, k = (rotate(mixer.heads(proj(x_1TH)))[0] for proj in (mixer.q_proj, mixer.k_proj))
    v = mixer.heads(mixer.v_proj(x_1TH))[0]
    rows = []
    for i in range(x_1TH.shape[1]):
        heads = []
        for head in range(6):
            group = head // 3
            weights = (k[group, : i + 1] @ q[head, i] / 8**0.5).softmax(0)
            heads.append(weights @ v[group, : i + 1])
        rows.append(torch.cat(heads))
    return mixer.o_proj(torch.stack(rows))[None]


@pytest.mark.parametrize("kernel", ["reference", "flash"])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("attention", [NODE, hybrid("reversible", "reversible", "standard")])
def test_rebuilt_activations_give_the_gradients_of_stored_ones(kernel: str, autocast: bool, attention: Any) -> None:
    results = []
    for rebuild in (False, True):
        model = reversible_gpt(attention=attention, kernel=kernel, num_layers=5)
        model.set_rebuild(rebuild)
        results.append(gradients(model, tokens(2, 16), *packed(5, 1, 10), autocast=autocast))
    assert torch.equal(results[0][0], results[1][0])
    tolerance = 2e-2 if autocast else 1e-4
    for stored, rebuilt in zip(*results, strict=True):
        assert (stored - rebuilt).norm() <= tolerance * stored.norm()


@pytest.mark.parametrize(
    "dropouts", [{"dropout": 0.3}, {"attention_dropout": 0.3}, {"dropout": 0.2, "attention_dropout": 0.2}]
)
def test_dropout_is_drawn_again_as_it_was(dropouts: dict[str, float]) -> None:
    results = []
    for rebuild in (False, True):
        model = reversible_gpt(**dropouts).double().train()
        model.set_rebuild(rebuild)
        torch.manual_seed(5)
        results.append(gradients(model, tokens(2, 16)))
        results[-1].append(torch.rand(3))  # the numbers that come after are not disturbed either
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-9)


def test_between_ordinary_layers_a_single_one_is_ordinary() -> None:
    plain = tiny_gpt(num_layers=4).double()
    model = tiny_gpt(num_layers=4, attention=hybrid("standard", "reversible")).double()
    weights = {name.replace("self_attn.inner.", "self_attn."): w for name, w in model.state_dict().items()}
    plain.load_state_dict(weights)
    for got, expected in zip(gradients(model, tokens(2, 9)), gradients(plain, tokens(2, 9)), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)


def test_frozen_weights_and_a_second_backward_pass() -> None:
    results = []
    for rebuild in (False, True):
        model = reversible_gpt().double()
        model.set_rebuild(rebuild)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("k_proj" not in name and "embed" not in name)
        loss = model(tokens(2, 9)).square().sum()
        wanted = [p for p in model.parameters() if p.requires_grad]
        first = torch.autograd.grad(loss, wanted, retain_graph=True)
        results.append([*first, *torch.autograd.grad(loss, wanted)])
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-9)


def test_second_derivatives_are_refused() -> None:
    model = reversible_gpt()
    weights = list(model.layers.parameters())
    (first, *_) = torch.autograd.grad(model(tokens(1, 5)).square().sum(), weights, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_a_copy_has_segments_of_its_own() -> None:
    model = reversible_gpt()
    twin = copy.deepcopy(model)
    (_, own), (_, other) = model.parts[0], twin.parts[0]
    assert own.key != other.key
    assert all(mine is not theirs for mine, theirs in zip(own.layers, other.layers, strict=True))
    assert [id(layer) for layer in other.layers] == [id(layer) for layer in twin.layers]


def step_bytes(num_layers: int, rebuild: bool, compiled: bool = False) -> int:
    """The most that activations, and what passes in the backward pass, take in a step at a time."""
    with FakeTensorMode(allow_non_fake_inputs=True) if compiled else nullcontext():
        model = reversible_gpt(num_layers=num_layers, kernel="flash")
        model.set_rebuild(rebuild)
        rows = torch.zeros(4, 64, dtype=torch.int64)
        forward = compiled_like(model) if compiled else model
        if compiled:
            forward(rows).sum().backward()  # the tracing itself is not counted
        with StorageCounter() as counter:
            for parameter in model.parameters():
                parameter.grad = None
                counter.add(parameter, "weights")
                parameter.register_post_accumulate_grad_hook(lambda p: counter.add(p.grad, "gradients"))
            with counter.during("forward"):
                hidden = forward(rows)
            hidden.sum().backward()
    return max(peak["activations"] + peak["temporary"] for peak in counter.peaks.values())


def test_memory_does_not_grow_with_depth() -> None:
    few, more, many = (step_bytes(depth, rebuild=True) for depth in (4, 16, 64))
    assert many == more == few
    assert step_bytes(16, rebuild=False) > 3 * step_bytes(4, rebuild=False) > 3 * few


@pytest.mark.slow
def test_memory_does_not_grow_with_depth_as_torch_compile_would_split_it() -> None:
    # All gradients leave the compiled backward pass together.
    gradient_bytes = sum(p.nbytes for p in reversible_gpt(num_layers=3).layers.parameters())
    added = step_bytes(6, True, compiled=True) - step_bytes(3, True, compiled=True)
    assert added <= 1.01 * gradient_bytes
    assert step_bytes(6, False, compiled=True) - step_bytes(3, False, compiled=True) > 3 * added


MEASURE = """
import sys
import torch
from bulba.bench.plan import peak_bytes, start_measuring
from tests.attention.test_reversible import reversible_gpt, tokens
torch.set_num_threads(1)
model = reversible_gpt(num_layers=int(sys.argv[1]), kernel="flash").train()
model.set_rebuild(sys.argv[2] == "rebuilt")
def step(rows):
    model(tokens(rows, 64)).sum().backward()
step(1)
before = start_measuring(torch.device("cpu"))
step(64)
print(peak_bytes(torch.device("cpu")) - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_peak_of_a_process_does_not_grow_with_depth() -> None:
    def measured_bytes(depth: int, how: str) -> int:
        words = [sys.executable, "-c", MEASURE, str(depth), how]
        # Blocks mapped one by one are given back whole; glibc's heap keeps the gaps between those that stay.
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
        return int(subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout)

    few, more, many = (measured_bytes(depth, "rebuilt") for depth in (4, 16, 64))
    assert max(few, more, many) <= 1.3 * min(few, more, many)
    assert measured_bytes(16, "stored") > 2.5 * measured_bytes(4, "stored") > 2.5 * few


def test_what_is_computed_again_counts_once() -> None:
    assert row_flops(reversible_gpt(), 33) == row_flops(tiny_gpt(num_layers=3), 33)


def test_capabilities_are_those_of_the_inner_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ReversibleAttention.capabilities == StandardAttention.capabilities
    declared = replace(StandardAttention.capabilities, alibi=False, kernels=frozenset({"reference"}))
    monkeypatch.setattr(StandardAttention, "capabilities", declared)
    model = reversible_gpt()
    assert model.mixers()[0].capabilities == declared
    with pytest.raises(UnsupportedError, match=r"layer 0 \(ReversibleAttention\) has no 'flash' attention kernel"):
        model.set_kernel("flash")
    with pytest.raises(UnsupportedError, match=r"layer 0 \(ReversibleAttention\) cannot take the slopes"):
        reversible_gpt(position="alibi", rope_base=None)
    names = [name for name, _ in model.named_parameters()]
    assert "layers.0.self_attn.inner.q_proj.weight" in names
    assert len(names) == len(list(tiny_gpt(num_layers=3).parameters()))


def test_figures_are_those_of_a_stream_and_its_attention() -> None:
    mixer = reversible_gpt().mixers()[0]
    figures = mixer.figures(torch.randn(1, 9, 48), CONTEXT)
    assert figures["added_frac"].shape == figures["undo_error"].shape == (1, 9)
    assert 0 < figures["undo_error"].max() < 1e-5
    assert not any(figure.requires_grad for figure in figures.values())


class OnceOnly(StandardAttention):
    capabilities = replace(StandardAttention.capabilities, recompute=False)


def test_what_cannot_work_is_refused_by_name() -> None:
    model = reversible_gpt(attention=hybrid("standard", "reversible"))
    with pytest.raises(UnsupportedError, match=r"layer 1 \(ReversibleAttention\) rebuilds its activations anyway"):
        model.set_activation_checkpointing("full")
    model.set_activation_checkpointing("none")
    with pytest.raises(ConfigError, match=r"the norm before them: set model\.norm_placement=pre"):
        reversible_gpt(norm_placement="post")
    shape = model.mixers()[0].shape
    with pytest.raises(UnsupportedError, match=r"attention\.inner=ReversibleAttention is reversible itself"):
        ReversibleAttention(shape, NODE)
    here = {"_target_": "bulba.attention.standard.OnceOnly"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bulba.attention.standard.OnceOnly", OnceOnly, raising=False)
        with pytest.raises(UnsupportedError, match=r"attention\.inner=OnceOnly cannot be computed a second time"):
            ReversibleAttention(shape, here)
    with pytest.raises(UnsupportedError, match=r"fsdp2 does not work with reversible layers"):
        shard(model, cast("Any", SimpleNamespace()))
    cpu = (1, 16, torch.float32, torch.device("cpu"))
    for dropouts in ({"dropout": 0.1}, {"attention_dropout": 0.1}):
        with pytest.raises(UnsupportedError, match=r"cannot draw their dropout a second time in compiled code"):
            reversible_gpt(**dropouts).choose_backend(True, *cpu)
        reversible_gpt(**dropouts).choose_backend(False, *cpu)


def test_the_command_line_takes_an_inner_attention_from_its_file() -> None:
    words = ["attention=reversible", "attention.inner=standard"]
    config = check(expand(words))
    assert config.model.attention == NODE
    assert not can_checkpoint(config)
    assert can_checkpoint(check(["attention=standard"]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_dropout_is_drawn_again_and_memory_is_flat() -> None:
    results, peaks = [], []
    for rebuild in (False, True):
        model = reversible_gpt(dropout=0.3).cuda().train()
        model.set_rebuild(rebuild)
        torch.manual_seed(5)
        results.append(gradients(model, tokens(2, 16).cuda()))
    torch.testing.assert_close(results[1], results[0], rtol=1e-3, atol=1e-3)
    for depth in (4, 16, 64):
        model = reversible_gpt(num_layers=depth).cuda()
        before = torch.cuda.memory_allocated() + sum(p.nbytes for p in model.parameters())
        torch.cuda.reset_peak_memory_stats()
        model(tokens(16, 64).cuda()).sum().backward()
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert max(peaks) <= 1.05 * min(peaks)


def test_segments_are_the_runs_of_reversible_layers() -> None:
    model = reversible_gpt(num_layers=7, attention=hybrid("standard", "reversible", "reversible"))
    found = [(index, len(part.layers) if isinstance(part, Segment) else 1) for index, part in model.parts]
    assert found == [(0, 1), (1, 2), (3, 1), (4, 2), (6, 1)]
    assert all(isinstance(part, Segment | nn.Module) for _, part in model.parts)
