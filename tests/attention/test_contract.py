"""Every attention of conf/attention keeps what it declares, and what it does not declare is refused by name.

A new attention gets its row by adding its YAML file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from bulba.attention.base import Capabilities, Mixer
from bulba.attention.standard import StandardAttention
from bulba.config.build import locate
from bulba.errors import UnsupportedError
from bulba.model.gpt import GPT
from tests.model.tiny import packed, tiny_gpt, tokens

CONF = Path(__file__).parents[2] / "conf" / "attention"
NODES: dict[str, Any] = {
    path.stem: OmegaConf.to_container(OmegaConf.load(path)) for path in sorted(CONF.glob("*.yaml"))
}
ATTENTIONS = {name: node for name, node in NODES.items() if "_target_" in node}  # hybrid.yaml has none


def mixer_of(node: dict[str, Any]) -> Any:
    return locate(node["_target_"])


CAPABILITIES: dict[str, Capabilities] = {name: mixer_of(node).capabilities for name, node in ATTENTIONS.items()}
KERNELS = [(name, kernel) for name, declared in CAPABILITIES.items() for kernel in sorted(declared.kernels)]


def model_with(name: str, **changes: Any) -> Any:
    """A model of this attention, with as few key/value heads as it declares to take."""
    kv_heads = 2 if CAPABILITIES[name].gqa else 6
    return tiny_gpt(attention=ATTENTIONS[name], **({"num_kv_heads": kv_heads} | changes))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_the_yaml_names_a_mixer_of_the_file_of_its_name(name: str) -> None:
    target = mixer_of(ATTENTIONS[name])
    assert issubclass(target, Mixer)
    assert target.__module__ == f"bulba.attention.{name}"
    assert CAPABILITIES[name].kernels


@pytest.mark.parametrize(("name", "kernel"), KERNELS)
def test_causal(name: str, kernel: str) -> None:
    model = model_with(name, kernel=kernel)
    rows = tokens(2, 16)
    changed = rows.clone()
    changed[:, 9] += 1
    with torch.no_grad():
        before, after = model(rows), model(changed)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.equal(before[:, 9:], after[:, 9:])


@pytest.mark.parametrize(("name", "kernel"), KERNELS)
def test_kernels_agree_with_gradients(name: str, kernel: str) -> None:
    first = sorted(CAPABILITIES[name].kernels)[0]
    results = []
    for chosen in (first, kernel):
        model = model_with(name, kernel=chosen)
        hidden = model(tokens(2, 16))
        results.append((hidden, *torch.autograd.grad(hidden.square().sum(), list(model.parameters()))))
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "kernel"), KERNELS)
def test_packing(name: str, kernel: str) -> None:
    model = model_with(name, kernel=kernel)
    positions, documents = packed(5, 1, 10)
    if not CAPABILITIES[name].packing:
        with pytest.raises(UnsupportedError, match=r"layer 0 \(\w+\) cannot keep the documents"):
            model(tokens(1, 16), positions, documents)
        return
    with torch.no_grad():
        together = model(tokens(1, 16), positions, documents).split((5, 1, 10), 1)
        for document, hidden in zip(tokens(1, 16).split((5, 1, 10), 1), together, strict=True):
            torch.testing.assert_close(hidden, model(document), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("name", "kernel"), KERNELS)
def test_cache(name: str, kernel: str) -> None:
    model = model_with(name, kernel=kernel)
    if not CAPABILITIES[name].cache:
        with pytest.raises(UnsupportedError, match=r"layer 0 \(\w+\) cannot decode with a cache"):
            model.new_cache(2, 16)
        return
    cache = model.new_cache(2, 16)
    with torch.no_grad():
        steps = [model(piece, cache=cache) for piece in tokens(2, 16).split([6, 1, 1, 5, 1, 2], 1)]
        torch.testing.assert_close(torch.cat(steps, 1), model(tokens(2, 16)), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_grouped_key_value_heads(name: str) -> None:
    if not CAPABILITIES[name].gqa:
        with pytest.raises(UnsupportedError, match=r"layer 0 \(\w+\) cannot share key/value heads: set model"):
            model_with(name, num_kv_heads=2)
        return
    for kv_heads in (1, 2, 3, 6):
        assert model_with(name, num_kv_heads=kv_heads)(tokens(1, 5)).isfinite().all()


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_kernel_that_is_not_declared_is_refused(name: str) -> None:
    model = model_with(name)
    for kernel in ({"reference", "flash"} | {"warp"}) - CAPABILITIES[name].kernels:
        with pytest.raises(UnsupportedError, match=rf"layer 0 \(\w+\) has no '{kernel}' attention kernel, only"):
            model.set_kernel(kernel)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_every_weight_learns(name: str) -> None:
    model = model_with(name)
    model(tokens(2, 16)).square().sum().backward()
    for weight_name, parameter in model.layers[0].self_attn.named_parameters():
        # The softmax does not see what all keys have in common.
        if weight_name != "k_proj.bias":
            assert parameter.grad.abs().max() > 0, weight_name


@pytest.mark.parametrize(
    ("lacks", "ask", "message"),
    [
        ({"packing": False}, lambda model: model(tokens(1, 6), *packed(3, 3)), "cannot keep the documents of a packed"),
        ({"cache": False}, lambda model: model.new_cache(1, 4), "cannot decode with a cache: generate with"),
        ({"kernels": frozenset({"reference"})}, lambda model: model.set_kernel("flash"), "has no 'flash' attention"),
    ],
)
def test_what_an_attention_lacks_is_refused_naming_layer_and_attention(
    lacks: dict[str, Any], ask: Callable[[GPT], Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_gpt()
    declared = dataclasses.replace(StandardAttention.capabilities, **lacks)
    monkeypatch.setattr(StandardAttention, "capabilities", declared)
    with pytest.raises(UnsupportedError, match=rf"layer 0 \(StandardAttention\) {message}"):
        ask(model)


def test_an_attention_without_grouped_heads_refuses_fewer_key_value_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = dataclasses.replace(StandardAttention.capabilities, gqa=False)
    monkeypatch.setattr(StandardAttention, "capabilities", declared)
    message = r"layer 0 \(StandardAttention\) cannot share key/value heads: set model\.num_kv_heads=6"
    with pytest.raises(UnsupportedError, match=message):
        tiny_gpt(num_kv_heads=2)
    tiny_gpt(num_kv_heads=6)
