"""What quaternion and octonion attention share: their linear maps, heads, gate and weights, against tables by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bulba.attention import hypercomplex
from bulba.attention.base import MixerShape
from bulba.attention.hypercomplex import HypercomplexMixer, HyperLinear, conjugated_by, product
from bulba.attention.octonion import OctonionAttention
from bulba.attention.quaternion import QuaternionAttention
from bulba.attention.softmax import reference_attention
from bulba.attention.standard import StandardAttention
from bulba.errors import ConfigError, UnsupportedError
from bulba.optimizer.groups import role_of
from tests.attention import test_contract as contract
from tests.attention.rows import ROWS, widths
from tests.model.tiny import tiny_gpt, tokens

MIXERS: dict[int, type[HypercomplexMixer]] = {4: QuaternionAttention, 8: OctonionAttention}
NAMES = {4: "quaternion", 8: "octonion"}
# e_a e_b = e_c, and so in turn; the lines of Fano's plane in the order of the doubling (the first alone is Hamilton's).
LINES = [(1, 2, 3), (1, 4, 5), (1, 7, 6), (2, 4, 6), (2, 5, 7), (3, 4, 7), (3, 6, 5)]


def table(num_components: int) -> Tensor:
    """t[a, b, c]: how much of e_c is in e_a e_b."""
    found = torch.zeros(num_components, num_components, num_components, dtype=torch.float64)
    for a in range(num_components):
        found[0, a, a] = found[a, 0, a] = 1
    for a in range(1, num_components):
        found[a, a, 0] = -1
    for line in LINES[: 1 if num_components == 4 else 7]:
        for turn in range(3):
            a, b, c = line[turn], line[(turn + 1) % 3], line[(turn + 2) % 3]
            found[a, b, c], found[b, a, c] = 1, -1
    return found


def by_table(x: Tensor, y: Tensor) -> Tensor:
    return torch.einsum("abc,...a,...b->...c", table(x.shape[-1]), x, y)


def conjugate(x: Tensor) -> Tensor:
    return torch.cat([x[..., :1], -x[..., 1:]], -1)


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def units(seed: int, *shape: int) -> Tensor:
    return torch.nn.functional.normalize(numbers(seed, *shape), dim=-1)


def close(left: Any, right: Any) -> None:
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


components = pytest.mark.parametrize("count", [4, 8])
randomly = settings(deadline=None, max_examples=20)
seeds = st.integers(0, 2**31)


@components
@randomly
@given(seed=seeds)
def test_the_product_is_that_of_the_table(count: int, seed: int) -> None:
    x, y = numbers(seed, 2, 3, 5, count)
    close(product(x, y), by_table(x, y))


@components
@randomly
@given(seed=seeds)
def test_norms_multiply_and_the_dot_product_is_the_real_part(count: int, seed: int) -> None:
    x, y = numbers(seed, 2, 5, count)
    close(product(x, y).norm(dim=-1), x.norm(dim=-1) * y.norm(dim=-1))
    close(product(conjugate(x), y)[..., 0], (x * y).sum(-1))


@components
@randomly
@given(seed=seeds)
def test_one_unit_number_on_the_left_of_all_queries_and_keys_changes_nothing(count: int, seed: int) -> None:
    q, k, v = numbers(seed, 3, 1, 2, 6, 3 * count)
    u = units(seed + 1, count)
    turned_q, turned_k = (product(u, x.unflatten(-1, (-1, count))).flatten(-2) for x in (q, k))
    assert not torch.allclose(turned_q, q)
    close(reference_attention(turned_q, turned_k, v, None), reference_attention(q, k, v, None))


@components
@randomly
@given(seed=seeds)
def test_rotors_keep_norms_and_real_parts_and_their_brackets_are_free(count: int, seed: int) -> None:
    r, v = units(seed, 5, count), numbers(seed + 1, 5, count)
    turned = conjugated_by(r, v[:, None])[:, 0]
    close(turned, by_table(by_table(r, v), conjugate(r)))
    close(turned, by_table(r, by_table(v, conjugate(r))))
    close(turned.norm(dim=-1), v.norm(dim=-1))
    close(turned[:, 0], v[:, 0])
    close(conjugated_by(conjugate(r), turned[:, None])[:, 0], v)


@components
@settings(deadline=None, max_examples=10)
@given(seed=seeds, rows=st.integers(1, 40), bias=st.booleans())
def test_a_linear_map_is_its_formula_and_its_dense_matrix(count: int, seed: int, rows: int, bias: bool) -> None:
    torch.manual_seed(seed)
    linear = HyperLinear(2 * count, 3 * count, count, bias).double()
    x = numbers(seed, rows, 2 * count)
    weight = linear.weight.detach().view(3, count, 2)  # out, component, in
    expected = torch.einsum("abc,oai,tib->toc", table(count), weight, x.view(rows, 2, count)).flatten(1)
    if linear.bias is not None:
        linear.bias.data.normal_()
        expected = expected + linear.bias.detach()
    close(linear(x).detach(), expected)
    close(linear.by_components(x).detach(), x @ linear.dense().T.detach())


def by_formula(mixer: HypercomplexMixer, x_TH: Tensor, rotate: Callable[[Tensor], Tensor]) -> Tensor:
    """The whole layer for one row, the values turned one by one: [T, H] -> [T, H]."""
    count, shape = mixer.num_components, mixer.shape

    def project(linear: Any, x: Tensor) -> Tensor:
        weight = linear.weight.unflatten(1, (count, -1))
        y = torch.einsum("abc,oai,tib->toc", table(count), weight, x.unflatten(-1, (-1, count))).flatten(1)
        return y if linear.bias is None else y + linear.bias

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, shape.head_dim)).transpose(0, 1)[None]

    q = rotate(mixer.q_norm(heads(project(mixer.q_proj, x_TH))))[0]
    k = rotate(mixer.k_norm(heads(project(mixer.k_proj, x_TH))))[0]
    v = heads(project(mixer.v_proj, x_TH))[0].unflatten(-1, (-1, count))
    num_tokens, rows = len(x_TH), []
    if mixer.rotor_proj is None:
        r = torch.eye(count, dtype=x_TH.dtype)[:1].expand(num_tokens, shape.num_heads, count)
    else:
        r = project(mixer.rotor_proj, x_TH).unflatten(-1, (-1, count)) + torch.eye(count, dtype=x_TH.dtype)[0]
        r = r / r.norm(dim=-1, keepdim=True)
    for i in range(num_tokens):
        for n in range(shape.num_heads):
            g = n // (shape.num_heads // shape.num_kv_heads)
            shares = torch.softmax(k[g, : i + 1] @ q[n, i] / math.sqrt(shape.head_dim), 0)
            turned = by_table(by_table(r[i, n], v[g, : i + 1]), conjugate(r[i, n]))
            rows.append(torch.einsum("j,jmc->mc", shares, turned).flatten())
    return project(mixer.o_proj, torch.stack(rows).view(num_tokens, -1))


@components
@pytest.mark.parametrize("kernel", ["reference", "flash"])
@pytest.mark.parametrize("rotor_gate", [False, True])
def test_the_layer_is_its_formula_with_gradients(count: int, kernel: str, rotor_gate: bool) -> None:
    node = {**contract.ATTENTIONS[NAMES[count]], "rotor_gate": rotor_gate}
    changes = {"qk_norm": True, "attention_bias": True, "attention": node, "num_layers": 1}
    model = tiny_gpt(kernel=kernel, **changes)
    mixer, seen = model.mixers()[0].double(), []
    hook = mixer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    with torch.no_grad():
        model.double()(tokens(1, 7))
    hook.remove()
    x = numbers(0, 7, 48)
    results = []
    for y in (mixer(x[None], seen[0])[0], by_formula(mixer, x, seen[0].rotate)):
        results.append((y, *torch.autograd.grad(y.square().sum(), list(mixer.parameters()))))
    torch.testing.assert_close(results[0], results[1], rtol=1e-8, atol=1e-8)


@components
@pytest.mark.parametrize(("bias", "qk_norm"), [(False, False), (True, True)])
def test_expanded_it_is_standard_attention(count: int, bias: bool, qk_norm: bool) -> None:
    model = tiny_gpt(attention=contract.ATTENTIONS[NAMES[count]], attention_bias=bias, qk_norm=qk_norm)
    plain = tiny_gpt(attention_bias=bias, qk_norm=qk_norm)
    state = model.state_dict()
    for index, mixer in enumerate(model.mixers()):
        state |= {f"layers.{index}.self_attn.{name}": weight for name, weight in mixer.dense_weights().items()}
    plain.load_state_dict(state)
    assert isinstance(plain.mixers()[0], StandardAttention)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens(2, 20)), plain(tokens(2, 20)), rtol=0, atol=2e-5)


@components
def test_with_a_gate_it_does_not_expand(count: int) -> None:
    with pytest.raises(UnsupportedError, match=r"with rotor_gate=true is no standard attention"):
        MIXERS[count](MixerShape(16, 2, 1, 8), rotor_gate=True).dense_weights()


@components
def test_sizes_that_hold_no_whole_numbers_are_refused(count: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"needs the head width to be a multiple of {count}, and it is 6: set model\."
    ):
        MIXERS[count](MixerShape(hidden_size=48, num_heads=8, num_kv_heads=8, head_dim=6), rotor_gate=False)
    with pytest.raises(ConfigError, match=rf"needs model\.hidden_size to be a multiple of {count}, and it is 50"):
        MIXERS[count](MixerShape(hidden_size=50, num_heads=2, num_kv_heads=2, head_dim=8), rotor_gate=False)


@components
def test_initial_weights_have_the_std_of_the_model_and_uniform_phases(count: int) -> None:
    model = tiny_gpt(
        attention=contract.ATTENTIONS[NAMES[count]], hidden_size=384, num_heads=6, num_kv_heads=6, init_std=0.05
    )
    mixer = model.mixers()[0]
    assert mixer.q_proj.dense().std().item() == pytest.approx(0.05, rel=0.05)
    assert mixer.o_proj.dense().std().item() == pytest.approx(0.05 / math.sqrt(2 * 2), rel=0.05)
    parts = mixer.q_proj.weight.detach().unflatten(1, (count, -1)).transpose(0, 1).flatten(1)
    modulus = parts.norm(dim=0)
    # The square of a chi variable has mean `count` and variance 2 count; a uniform angle falls into quarters alike.
    square = (modulus / 0.05).square()
    assert square.mean().item() == pytest.approx(count, rel=0.05)
    assert square.var().item() == pytest.approx(2 * count, rel=0.1)
    angles = (parts[0] / modulus).acos()
    shares = torch.histc(angles, 4, 0, math.pi) / len(angles)
    torch.testing.assert_close(shares, torch.full((4,), 0.25), rtol=0, atol=0.02)
    assert parts[1:].mean(1).abs().max() < 0.005


@components
def test_a_step_of_muon_on_the_components_stays_bounded_in_the_dense_matrix(count: int) -> None:
    linear = HyperLinear(128, 64, count, bias=False)
    assert role_of("layers.0.self_attn.q_proj.weight", linear.weight) == "matrix"
    with torch.no_grad():
        linear.weight.copy_(torch.linalg.qr(torch.randn_like(linear.weight).T).Q.T)  # what Newton-Schulz steps lead to
        norms = torch.linalg.svdvals(linear.dense())
    assert norms.max() <= math.sqrt(count) + 1e-5
    assert norms.square().mean().item() == pytest.approx(1.0, abs=1e-4)


# The contract has the gate as its YAML has it, closed, and too few tokens for dense matrices mostly; here is the rest.
GATED: list[tuple[Callable[..., None], tuple[str, ...]]] = [
    *(
        (check, (kernel,))
        for kernel in ("reference", "flash")
        for check in (
            contract.test_causal,
            contract.test_kernels_agree_with_gradients,
            contract.test_packing,
            contract.test_cache,
            contract.test_gradients_are_those_of_finite_differences,
            contract.test_bf16_autocast_stays_near,
        )
    ),
    (contract.test_compiled_it_is_the_same_without_a_break_or_recompile, ("flash",)),
    (contract.test_every_weight_learns, ()),
    (contract.test_memory_grows_as_stated, ()),
    (contract.test_weights_and_products_are_those_of_the_formulas, ()),
]


@components
@pytest.mark.parametrize(("check", "kernel"), GATED)
def test_the_contract_with_an_open_gate(
    count: int, check: Callable[..., None], kernel: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = NAMES[count]
    row = ROWS[name]
    monkeypatch.setattr(hypercomplex, "DENSE_ROWS", 0)
    monkeypatch.setitem(contract.ATTENTIONS, name, {**contract.ATTENTIONS[name], "rotor_gate": True})
    gated = dataclasses.replace(
        row,
        params=lambda shape: row.params(shape) + shape.hidden_size * shape.num_heads,
        forward_flops=lambda shape, tokens: (
            row.forward_flops(shape, tokens)
            + 2 * tokens * shape.hidden_size * shape.num_heads * count  # rotors
            + 2 * tokens * count * widths(shape)[0]  # conjugations
        ),
    )
    monkeypatch.setitem(ROWS, name, gated)
    check(name, *kernel)


@components
def test_figures_are_angles_between_numbers(count: int) -> None:
    node = {**contract.ATTENTIONS[NAMES[count]], "rotor_gate": True}
    mixer = tiny_gpt(attention=node, num_layers=1).mixers()[0]
    _, context = contract.mixer_and_context(NAMES[count], 5, "reference")
    x = torch.randn(1, 5, 48)
    found = mixer.figures(x, context)
    q, k, _ = mixer.queries_keys_values(x, context)
    k = k.repeat_interleave(3, 1)
    for i, j, n in ((0, 0, 0), (4, 2, 5), (3, 1, 2)):
        left, right = q[0, n, i].view(-1, count), k[0, n, j].view(-1, count)
        cosine = (left * right).sum(-1) / left.norm(dim=-1) / right.norm(dim=-1)
        torch.testing.assert_close(found["turn_deg"][0, n, i, j], cosine.acos().rad2deg().mean(), rtol=1e-3, atol=1e-2)
    assert found["rotor_deg"].shape == (1, 6, 5)
    assert found["rotor_deg"].min() >= 0
    assert found["rotor_deg"].max() <= 180
    assert not any(figure.requires_grad for figure in found.values())
