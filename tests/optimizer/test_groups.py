"""Which weights decay, which go to Muon, and that the groups say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.optim import Optimizer

from bulba.config.build import build
from bulba.errors import ConfigError
from bulba.optimizer.groups import describe_groups, role_of
from bulba.optimizer.kernel import choose_kernel
from tests.model.tiny import TINY, tiny_gpt

CONF = Path(__file__).parents[2] / "conf" / "optimizer"
WITH_BIAS = {**TINY["attention"], "bias": True}


def make_optimizer(name: str, named_parameters: list[tuple[str, nn.Parameter]], **changes: Any) -> Any:
    # The peak of some optimizers follows the width of the model.
    config: Any = OmegaConf.create({"model": {"hidden_size": 128}, "optimizer": OmegaConf.load(CONF / f"{name}.yaml")})
    node = OmegaConf.merge(config, {"optimizer": changes}).optimizer
    return build(node, path="optimizer", named_parameters=named_parameters)


def members(optimizer: Optimizer) -> dict[str, set[str]]:
    return {group["name"]: set(group["parameters"]) for group in describe_groups(optimizer)}


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("*.yaml")))
@pytest.mark.parametrize("tied", [True, False])
def test_every_weight_is_in_one_group_and_only_linear_matrices_decay(name: str, tied: bool) -> None:
    model = tiny_gpt(attention=WITH_BIAS, tie_embeddings=tied)
    optimizer = make_optimizer(name, list(model.named_parameters()), weight_decay=0.1)
    listed = [weight for group in describe_groups(optimizer) for weight in group["parameters"]]
    assert sorted(listed) == sorted(weight for weight, _ in model.named_parameters())
    linear = {f"{weight}.weight" for weight, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert ("lm_head.weight" in linear) is not tied
    decayed = [group["parameters"] for group in describe_groups(optimizer) if group["weight_decay"]]
    assert set().union(*decayed) == linear
    assert sum(group["num_params"] for group in describe_groups(optimizer)) == model.get_num_params()


def test_a_weight_whose_gradient_is_zero_shrinks_only_in_the_decay_group() -> None:
    model = tiny_gpt(attention=WITH_BIAS, tie_embeddings=False)
    optimizer = make_optimizer("adamw", list(model.named_parameters()), lr=0.5, weight_decay=0.1)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    decayed = members(optimizer)["decay"]
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] * (1 - 0.5 * 0.1 * (name in decayed)))


def test_muon_gets_the_hidden_matrices_and_nothing_else() -> None:
    model = tiny_gpt(attention=WITH_BIAS, tie_embeddings=False)
    groups = members(make_optimizer("muon", list(model.named_parameters())))
    hidden = {name for name, p in model.named_parameters() if name.startswith("layers.") and p.ndim == 2}
    assert groups["muon"] == hidden
    assert groups["adamw_decay"] == {"lm_head.weight"}
    assert "embed_tokens.weight" in groups["adamw_no_decay"]


@pytest.mark.parametrize(
    ("name", "shape", "role"),
    [
        ("embed_tokens.weight", (7, 4), "embedding"),
        ("embed_positions.weight", (7, 4), "embedding"),
        ("lm_head.weight", (7, 4), "head"),
        ("layers.0.self_attn.q_proj.weight", (4, 4), "matrix"),
        ("layers.0.self_attn.q_proj.bias", (4,), "vector"),
        ("layers.0.input_layernorm.weight", (4,), "vector"),
        ("layers.0.self_attn.slopes", (2, 4), "vector"),
        ("layers.0.self_attn.conv.weight", (4, 1, 3), "vector"),
        ("layers.0.self_attn.q_proj.lora_A.weight", (2, 4), "lora"),
    ],
)
def test_role_of_a_weight(name: str, shape: Any, role: str) -> None:
    assert role_of(name, nn.Parameter(torch.zeros(shape))) == role


def test_frozen_weights_are_in_no_group() -> None:
    model = tiny_gpt(attention=WITH_BIAS, tie_embeddings=True)
    model.embed_tokens.weight.requires_grad_(False)
    for name in ("adamw", "muon", "sgd"):
        listed = set().union(*members(make_optimizer(name, list(model.named_parameters()))).values())
        assert listed == {name for name, _ in model.named_parameters()} - {"embed_tokens.weight"}


def test_fused_where_all_weights_allow_it_else_foreach() -> None:
    float_weight, complex_weight = (nn.Parameter(torch.ones(2, 2, dtype=d)) for d in (torch.float32, torch.complex64))
    meta_weight = nn.Parameter(torch.ones(2, 2, device="meta"))
    assert choose_kernel([("a.weight", float_weight)]) == {"fused": True}
    for other in (complex_weight, meta_weight):
        assert choose_kernel([("a.weight", float_weight), ("b.weight", other)]) == {"foreach": True}
    for name in ("adamw", "sgd"):
        fused = make_optimizer(name, [("a.weight", float_weight)])
        foreach = make_optimizer(name, [("a.weight", complex_weight)])
        assert [describe_groups(fused)[0]["kernel"], describe_groups(foreach)[0]["kernel"]] == [
            "fused",
            "foreach",
        ]
        complex_weight.grad = torch.ones_like(complex_weight)
        foreach.step()
        assert complex_weight[0, 0].item() != 1


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_weight_decay_that_no_weight_would_feel_is_refused(name: str) -> None:
    norms = [("norm.weight", nn.Parameter(torch.ones(4)))]
    with pytest.raises(ConfigError, match=r"optimizer\.weight_decay=0\.1 would do nothing.*weight_decay=0"):
        make_optimizer(name, norms, weight_decay=0.1)
    assert members(make_optimizer(name, norms, weight_decay=0.0)) == {"no_decay": {"norm.weight"}}


def test_muon_without_a_hidden_matrix_is_refused() -> None:
    lora = [("layers.0.q_proj.lora_A.weight", nn.Parameter(torch.ones(2, 4)))]
    with pytest.raises(ConfigError, match=r"optimizer=muon has nothing to do.*use adamw"):
        make_optimizer("muon", lora)
