"""Every attention of conf/attention keeps what it declares, and what it does not declare is refused by name.

A new attention gets its row by adding its YAML file.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from bulba.attention.base import Capabilities, Mixer
from bulba.attention.standard import StandardAttention
from bulba.checkpoint import load_model, save_checkpoint
from bulba.config.build import build, locate
from bulba.config.overrides import check, expand
from bulba.data.tales.corpus import write_tales
from bulba.errors import UnsupportedError
from bulba.model.gpt import GPT
from bulba.stage.flops import FORMULAS, row_flops
from bulba.stage.memory import StorageCounter
from tests.attention.rows import ROWS
from tests.model.tiny import packed, tiny_gpt, tokens

CONF = Path(__file__).parents[2] / "conf" / "attention"
OPTIMIZERS = CONF.parent / "optimizer"
NODES: dict[str, Any] = {
    path.stem: OmegaConf.to_container(OmegaConf.load(path)) for path in sorted(CONF.glob("*.yaml"))
}
OPTIONS = {name: row.options for name, row in ROWS.items()}
# hybrid.yaml has no target
ATTENTIONS = {name: node | OPTIONS.get(name, {}) for name, node in NODES.items() if "_target_" in node}


def mixer_of(node: dict[str, Any]) -> Any:
    return locate(node["_target_"])


CAPABILITIES: dict[str, Capabilities] = {name: mixer_of(node).capabilities for name, node in ATTENTIONS.items()}
FAST = {name: "flash" if "flash" in declared.kernels else "reference" for name, declared in CAPABILITIES.items()}
PLAIN = {name: "reference" if "reference" in declared.kernels else "flash" for name, declared in CAPABILITIES.items()}
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


def mixer_and_context(name: str, num_tokens: int, kernel: str, **changes: Any) -> tuple[Any, Any]:
    """A single mixer and what the model would hand to it."""
    model = model_with(name, num_layers=1, max_seq_len=max(num_tokens, 64), kernel=kernel, **changes)
    mixer, seen = model.mixers()[0], []
    mixer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    with torch.no_grad():
        model(tokens(1, num_tokens))
    return mixer, seen[0]


def test_every_attention_has_its_row() -> None:
    assert set(ROWS) == set(ATTENTIONS)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_weights_and_products_are_those_of_the_formulas(name: str) -> None:
    for changes in ({}, {"hidden_size": 96, "num_heads": 4, "num_kv_heads": 4}):
        mixer, _ = mixer_and_context(name, 4, PLAIN[name], **changes)
        assert sum(parameter.numel() for parameter in mixer.parameters()) == ROWS[name].params(mixer.shape)
        for num_tokens in (1, 32, 256):
            mixer, context = mixer_and_context(name, num_tokens, PLAIN[name], **changes)
            x_BTH = torch.randn(1, num_tokens, mixer.shape.hidden_size)
            with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
                mixer(x_BTH, context)
            assert counter.get_total_flops() == ROWS[name].forward_flops(mixer.shape, num_tokens), num_tokens


@pytest.mark.parametrize("name", [name for name in ATTENTIONS if mixer_of(ATTENTIONS[name]).counted_kernel == "flash"])
def test_a_kernel_that_does_less_work_is_the_one_whose_flops_count(name: str) -> None:
    model = model_with(name, max_seq_len=16384)
    few, many = (row_flops(model, num_tokens) for num_tokens in (4096, 16384))
    assert math.log(many / few, 4) < 1.1


def step_bytes(name: str, num_tokens: int) -> int:
    """The most that a training step of one mixer holds at a time, its weights left out."""
    with FakeTensorMode(allow_non_fake_inputs=True), StorageCounter() as counter:
        model = model_with(name, num_layers=1, max_seq_len=num_tokens, hidden_size=96, kernel=FAST[name])
        for parameter in model.parameters():
            counter.add(parameter, "weights")
        with counter.during("forward"):
            hidden = model(torch.zeros(1, num_tokens, dtype=torch.int64))
        hidden.sum().backward()
    return max(sum(peak[kind] for kind in ("activations", "temporary")) for peak in counter.peaks.values())


@pytest.mark.parametrize("name", ATTENTIONS)
def test_memory_grows_as_stated(name: str) -> None:
    few, many = (step_bytes(name, num_tokens) for num_tokens in (1024, 4096))
    assert math.log(many / few, 4) <= ROWS[name].memory_exponent


@pytest.mark.parametrize(("name", "kernel"), KERNELS)
def test_gradients_are_those_of_finite_differences(name: str, kernel: str) -> None:
    sizes = {"hidden_size": 16, "num_heads": 2, "num_kv_heads": 1 if CAPABILITIES[name].gqa else 2}
    mixer, context = mixer_and_context(name, 6, kernel, **sizes)
    mixer.double()
    names, weights = zip(*mixer.named_parameters(), strict=True)
    x_BTH = torch.randn(1, 6, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(mixer, dict(zip(names, values, strict=True)), (x, context))

    if ROWS[name].differentiable:
        assert gradcheck(run, (x_BTH.requires_grad_(), *weights), atol=1e-4, fast_mode=True)
    gradients = torch.autograd.grad(run(x_BTH.requires_grad_(), *weights).square().sum(), weights)
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize(("name", "kernel"), KERNELS)
def test_compiled_it_is_the_same_without_a_break_or_recompile(name: str, kernel: str) -> None:
    model, plain = model_with(name, kernel=kernel), model_with(name, kernel=kernel)
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=False)
    for lengths in ((5, 1, 10), (16,), (2, 14)):
        packing = packed(*lengths) if CAPABILITIES[name].packing else ()
        got, expected = compiled(tokens(1, 16), *packing), plain(tokens(1, 16), *packing)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
        got, expected = (
            torch.autograd.grad(out.square().sum(), list(one.parameters()))
            for out, one in ((got, model), (expected, plain))
        )
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTENTIONS)
def test_compiled_by_inductor_it_agrees(name: str) -> None:
    model, plain = (model_with(name, kernel=FAST[name], num_layers=1) for _ in range(2))
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=False)
    packing = packed(5, 1, 10) if CAPABILITIES[name].packing else ()
    results = []
    for one, weights in ((compiled, model), (plain, plain)):
        hidden = one(tokens(1, 16), *packing)
        results.append((hidden, *torch.autograd.grad(hidden.square().sum(), list(weights.parameters()))))
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "kernel"), KERNELS)
def test_bf16_autocast_stays_near(name: str, kernel: str) -> None:
    model = model_with(name, kernel=kernel, init_std=0.1)
    rows = tokens(4, 48)
    with torch.no_grad():
        exact = model(rows)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(rows)
    assert (rounded.float() - exact).norm() <= ROWS[name].bf16_error * exact.norm()


@pytest.fixture(scope="module")
def tales(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("tales")
    write_tales(folder, 100_000, seed=1)
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*.*")))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_learns_below_the_unigram_entropy(name: str, tales: bytes) -> None:
    ids = torch.frombuffer(bytearray(tales), dtype=torch.uint8).long()
    _, counts = ids.unique(return_counts=True)
    shares = counts / len(ids)
    entropy = -(shares * shares.log()).sum()
    model = model_with(name, vocab_size=256, kernel=FAST[name], init_std=0.05).train()
    optimizer = torch.optim.AdamW(model.parameters(), ROWS[name].lr)
    draw, losses = torch.Generator().manual_seed(0), []
    for _ in range(120):
        starts = torch.randint(len(ids) - 65, (8,), generator=draw)
        rows = torch.stack([ids[start : start + 65] for start in starts.tolist()])
        logits = model.logits(model(rows[:, :-1]))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < entropy - 0.2


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize("optimizer", sorted(path.stem for path in OPTIMIZERS.glob("*.yaml")))
def test_every_optimizer_takes_steps_with_it(name: str, optimizer: str) -> None:
    config = check(expand([f"optimizer={optimizer}", f"attention={name}"]))
    model = model_with(name, kernel=PLAIN[name]).train()
    steps = build(config.optimizer, path="optimizer", named_parameters=list(model.named_parameters()))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for _ in range(5):
        steps.zero_grad()
        model(tokens(2, 16)).square().mean().backward()
        steps.step()
    for old, parameter in zip(before, model.parameters(), strict=True):
        assert parameter.isfinite().all()
        assert not torch.equal(old, parameter)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_in_a_hybrid_it_keeps_documents_apart_decodes_and_rebuilds(name: str, tmp_path: Path) -> None:
    mixers = {"standard": ATTENTIONS["standard"], "other": ATTENTIONS[name]}
    node = {"pattern": ["standard", "other"], "mixers": mixers}
    kernels = CAPABILITIES["standard"].kernels & CAPABILITIES[name].kernels
    kv_heads = 2 if CAPABILITIES[name].gqa else 6
    model = tiny_gpt(attention=node, num_kv_heads=kv_heads, num_layers=3, kernel=min(kernels))
    rows = tokens(1, 16)
    with torch.no_grad():
        if CAPABILITIES[name].packing:
            alone = torch.cat([model(piece) for piece in rows.split([6, 10], 1)], 1)
            torch.testing.assert_close(model(rows, *packed(6, 10)), alone, rtol=0, atol=1e-4)
        expected = model(rows)
        if CAPABILITIES[name].cache:
            cache = model.new_cache(1, 16)
            steps = [model(piece, cache=cache) for piece in rows.split([6, 1, 1, 5, 1, 2], 1)]
            torch.testing.assert_close(torch.cat(steps, 1), expected, rtol=0, atol=1e-4)
        save_checkpoint(tmp_path / "step-1", model.get_model_config(), dict(model.state_dict()), {})
        loaded = load_model(tmp_path / "step-1")
        loaded.set_kernel(model.kernel)
        assert torch.equal(loaded(rows), expected)


@pytest.mark.parametrize("name", [name for name in ATTENTIONS if not mixer_of(ATTENTIONS[name]).reversible])
def test_reversible_layers_take_it_inside(name: str) -> None:
    node = {"_target_": "bulba.attention.reversible.ReversibleAttention", "inner": ATTENTIONS[name]}
    kv_heads = 2 if CAPABILITIES[name].gqa else 6
    model = tiny_gpt(attention=node, num_kv_heads=kv_heads, kernel=FAST[name], init_std=0.05)
    packing = packed(6, 10) if CAPABILITIES[name].packing else ()
    results = []
    for rebuild in (True, False):
        model.set_rebuild(rebuild)
        hidden = model(tokens(1, 16), *packing)
        results.append((hidden, *torch.autograd.grad(hidden.square().sum(), list(model.parameters()))))
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_positions_and_qk_norm_are_taken_or_refused(name: str) -> None:
    for position in ("rope", "sinusoidal", "learned", "alibi", "none"):
        base = 1e4 if position in ("rope", "sinusoidal") else None
        for qk_norm in (False, True):
            changes = {"position": position, "rope_base": base, "qk_norm": qk_norm}
            declared = CAPABILITIES[name]
            if (position == "alibi" and not declared.alibi) or (qk_norm and not declared.qk_norm):
                with pytest.raises(UnsupportedError, match=r"layer 0 \(\w+\) cannot (take the slopes|norm its)"):
                    model_with(name, **changes)
                continue
            model = model_with(name, kernel=FAST[name], **changes)
            with torch.no_grad():
                cache = model.new_cache(1, 12)
                steps = [model(piece, cache=cache) for piece in tokens(1, 12).split([5, 1, 6], 1)]
                torch.testing.assert_close(torch.cat(steps, 1), model(tokens(1, 12)), rtol=0, atol=1e-4)


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
