"""Activation checkpointing: the same bits in the gradients, less stored for them, and nothing else changed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from bulba.attention.standard import StandardAttention
from bulba.errors import UnsupportedError
from bulba.stage.losses import token_loss_sum
from tests.model.tiny import packed, tiny_gpt, tokens

KINDS = ["selective", "full"]
KERNELS = ["reference", "flash"]


def gradients(kind: str, kernel: str, autocast: bool = False, backend: str | None = None) -> list[Tensor]:
    torch._dynamo.reset()
    model = tiny_gpt(kernel=kernel).train()
    model.set_activation_checkpointing(kind)
    forward: Any = torch.compile(model, fullgraph=True, dynamic=False, backend=backend) if backend else model
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        hidden = forward(tokens(1, 24), *packed(10, 14))
        loss = token_loss_sum(hidden, model.head, tokens(1, 24, seed=1))
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_same_bits(kind: str, kernel: str, autocast: bool) -> None:
    expected = gradients("none", kernel, autocast)
    assert all(map(torch.equal, gradients(kind, kernel, autocast), expected))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_graph_without_a_break_or_a_word(kind: str, kernel: str, caplog: pytest.LogCaptureFixture) -> None:
    torch._dynamo.utils.counters.clear()
    got = gradients(kind, kernel, backend="aot_eager")  # fullgraph raises at a break
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    # Compiled, a kernel may be another one than eager (bulba/attention/blocked.py).
    assert all(map(torch.equal, got, gradients("none", kernel, backend="aot_eager")))
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_by_inductor_the_gradients_agree(kind: str) -> None:
    for got, expected in zip(gradients(kind, "flash", backend="inductor"), gradients("none", "flash"), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


def stored_bytes(kind: str, kernel: str) -> int:
    """Bytes of the tensors that one forward pass makes and that its graph keeps alive."""

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple) else (out,):
                if isinstance(tensor, Tensor):
                    storage = tensor.untyped_storage()
                    references.append((StorageWeakRef(storage), storage.nbytes()))
            return out

    references: list[Any] = []
    model = tiny_gpt(kernel=kernel).train()
    model.set_activation_checkpointing(kind)
    with Watch():
        hidden = model(tokens(2, 64))
    kept = {reference.cdata: size for reference, size in references if not reference.expired()}
    assert hidden.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("kernel", KERNELS)
def test_less_is_stored(kernel: str) -> None:
    none, selective, full = (stored_bytes(kind, kernel) for kind in ("none", *KINDS))
    assert full < selective < none


@pytest.mark.parametrize("kind", KINDS)
def test_generation_and_checkpoints_do_not_notice(kind: str) -> None:
    plain, model = tiny_gpt(), tiny_gpt()
    model.set_activation_checkpointing(kind)
    assert model.get_model_config() == plain.get_model_config()
    assert model.state_dict().keys() == plain.state_dict().keys()
    cache, expected = model.new_cache(1, 8), plain.new_cache(1, 8)
    for _ in range(2):  # with gradients on, as a careless caller has them
        assert torch.equal(model(tokens(1, 4), cache=cache), plain(tokens(1, 4), cache=expected))
    assert cache.length == 8


def test_an_attention_that_cannot_run_twice_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = dataclasses.replace(StandardAttention.capabilities, recompute=False)
    monkeypatch.setattr(StandardAttention, "capabilities", declared)
    model = tiny_gpt()
    model.set_activation_checkpointing("none")
    with pytest.raises(UnsupportedError, match=r"layer 0 \(StandardAttention\) cannot be computed again in the back"):
        model.set_activation_checkpointing("full")
