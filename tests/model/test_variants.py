"""Variants around the Llama shape: presets counted by hand, QK-norm, capped logits, dropout, hybrids of attentions."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from bulba.attention.standard import StandardAttention
from bulba.config.build import build
from bulba.config.overrides import check, expand
from bulba.errors import ConfigError, UnsupportedError
from bulba.model.gpt import GPT
from bulba.model.mlp import FeedForward
from tests.model.tiny import tiny_gpt, tokens

TARGET = "bulba.attention.standard.StandardAttention"
SMALL = ["model.num_layers=2", "model.hidden_size=64", "model.num_heads=2", "model.num_kv_heads=2"]
EXPERTS = [("tiny", 256, 4, 1024), ("small", 512, 6, 2048), ("medium", 768, 8, 3072), ("large", 1024, 12, 4096)]


def preset(name: str, vocab_size: int, *words: str) -> GPT:
    with torch.device("meta"):
        return build(check(expand([f"model={name}", *words])).model, path="model", vocab_size=vocab_size)


@pytest.mark.parametrize(("name", "hidden", "layers", "inner"), EXPERTS)
def test_expert_presets_equal_a_count_by_hand(name: str, hidden: int, layers: int, inner: int) -> None:
    attention = 4 * (hidden * hidden + hidden)
    mlp = hidden * inner + inner + inner * hidden + hidden
    body = layers * (attention + mlp + 2 * 2 * hidden) + 2 * hidden
    model = preset(f"expert_{name}", 10000)
    assert model.get_num_params() == body + 2 * 10000 * hidden
    assert model.get_num_params(non_embedding=True) == body + 10000 * hidden
    if name == "small":
        assert (model.get_num_params(), model.get_num_params(non_embedding=True)) == (29_155_328, 24_035_328)


def test_nanochat_equals_a_count_by_hand() -> None:
    body = 12 * (4 * 768 * 768 + 2 * 768 * 3072)
    assert preset("nanochat", 50304).get_num_params() == body + 2 * 50304 * 768 == 162_201_600
    assert not [name for name in preset("nanochat", 64).state_dict() if "norm" in name or "bias" in name]


@pytest.mark.parametrize("name", ["nanochat", "expert_tiny"])
def test_presets_learn_and_rebuild_from_their_own_config(name: str) -> None:
    torch.manual_seed(0)
    node = check(expand([f"model={name}", *SMALL])).model
    model: GPT = build(node, path="model", vocab_size=50)
    rows, optimizer = tokens(4, 16, 50), torch.optim.AdamW(model.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        logits = model.logits(model(rows[:, :-1])).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    again = GPT(**model.get_model_config())
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(rows), model.eval()(rows))


@pytest.mark.parametrize("activation", ["relu", "gelu", "relu_squared"])
def test_feed_forward_by_hand(activation: Any) -> None:
    mlp = FeedForward(2, 2, activation, bias=True).double()
    with torch.no_grad():
        for parameter, values in zip(mlp.parameters(), ([1, 0, 0, 1], [0.5, -1], [1, 2, 3, 4], [0, 1]), strict=True):
            parameter.copy_(torch.tensor(values, dtype=torch.float64).view_as(parameter))
        inner = torch.tensor([1.5, -2.0], dtype=torch.float64)  # of x = (1, -1)
        expected = {
            "relu": torch.tensor([1.5, 0.0]),
            "gelu": inner * 0.5 * (1 + torch.erf(inner / 2**0.5)),
            "relu_squared": torch.tensor([2.25, 0.0]),
        }[activation].double()
        wanted = torch.tensor([[1.0, 2], [3, 4]], dtype=torch.float64) @ expected + torch.tensor([0.0, 1.0])
        torch.testing.assert_close(mlp(torch.tensor([1.0, -1.0], dtype=torch.float64)), wanted)


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.mlp\.activation=swish must be one of relu, gelu, relu_squared"):
        FeedForward(2, 2, "swish", bias=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", [{}, {"affine": False}])
def test_qk_norm_bounds_the_scores_whatever_the_weights(norm: dict[str, Any]) -> None:
    model = tiny_gpt(qk_norm=True, norm={"_target_": "bulba.model.norm.RMSNorm", "eps": 1e-5} | norm)
    mixer = model.mixers()[0]
    assert any("q_norm" in name for name in mixer.state_dict()) == (norm == {})
    with torch.no_grad():
        before = model(tokens(1, 9))
        for projection in (mixer.q_proj, mixer.k_proj):
            projection.weight *= 1e3
        torch.testing.assert_close(model(tokens(1, 9)), before, rtol=1e-3, atol=1e-3)


def test_capped_logits_stay_below_the_cap_and_keep_their_order() -> None:
    model, plain = tiny_gpt(logit_cap=15.0, init_std=1.0), tiny_gpt(init_std=1.0)
    with torch.no_grad():
        hidden = plain(tokens(2, 9))
        capped, logits = model.logits(hidden), plain.logits(hidden)
    assert logits.abs().max() > 15 > capped.abs().max()
    torch.testing.assert_close(capped, 15 * (logits / 15).tanh())


def test_dropout_is_drawn_in_training_alone() -> None:
    model, plain = tiny_gpt(dropout=0.5, attention_dropout=0.5), tiny_gpt()
    rows = tokens(1, 9)
    with torch.no_grad():
        assert torch.equal(model(rows), plain(rows))
        model.train()
        torch.manual_seed(3)
        first = model(rows)
        assert not torch.equal(first, model(rows))
        torch.manual_seed(3)
        assert torch.equal(first, model(rows))


def test_attention_dropout_alone_changes_training() -> None:
    model = tiny_gpt(attention_dropout=0.5).train()
    with torch.no_grad():
        assert not torch.equal(model(tokens(1, 9)), model(tokens(1, 9)))


@pytest.mark.parametrize(
    ("lacks", "changes", "message"),
    [
        ({"qk_norm": False}, {"qk_norm": True}, r"cannot norm its q and k: set model\.qk_norm=false"),
        ({"dropout": False}, {"attention_dropout": 0.1}, r"cannot drop attention weights: set model\.attention_dr"),
    ],
)
def test_what_an_attention_does_not_declare_is_refused(
    lacks: dict[str, Any], changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = dataclasses.replace(StandardAttention.capabilities, **lacks)
    monkeypatch.setattr(StandardAttention, "capabilities", declared)
    with pytest.raises(UnsupportedError, match=rf"layer 0 \(StandardAttention\) {message}"):
        tiny_gpt(**changes)


def test_fused_kernels_refuse_attention_dropout() -> None:
    with pytest.raises(
        UnsupportedError, match=r"fused attention drops no attention weights: set model\.attention_drop"
    ):
        tiny_gpt(attention_dropout=0.1, kernel="flash")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropout": 1.0}, r"model\.dropout=1\.0 must be at least 0 and below 1"),
        ({"attention_dropout": -0.1}, r"model\.attention_dropout=-0\.1 must be at least 0"),
        ({"logit_cap": 0.0}, r"model\.logit_cap=0\.0 must be above 0"),
        ({"attention": {"pattern": [], "mixers": {}}}, r"model\.attention\.pattern is empty: name attentions"),
        (
            {"attention": {"pattern": ["a", "b"], "mixers": {"a": {"_target_": TARGET}}}},
            r"attention\.pattern names b, which is neither a file of conf/attention nor one of attention\.mixers \(a\)",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_gpt(**changes)


def test_a_pattern_is_cycled_over_the_depth_and_rebuilds_itself() -> None:
    mixers = {"plain": {"_target_": TARGET}, "other": {"_target_": f"{__name__}.Biased"}, "unused": {"_target_": "x.Y"}}
    node = {"pattern": ["plain", "plain", "other"], "mixers": mixers}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bulba.model.gpt.MODEL_TARGETS", ("bulba.", __name__))
        model = tiny_gpt(attention=node, num_layers=5)
        config = model.get_model_config()
        assert [type(mixer).__name__ for mixer in model.mixers()] == [
            "StandardAttention", "StandardAttention", "Biased", "StandardAttention", "StandardAttention",
        ]  # fmt: skip
        assert config["attention"] == {"pattern": node["pattern"], "mixers": {k: mixers[k] for k in ("plain", "other")}}
        assert GPT(**config).state_dict().keys() == model.state_dict().keys()


class Biased(StandardAttention):
    def __init__(self, shape: Any) -> None:
        super().__init__(dataclasses.replace(shape, bias=True))


def test_a_pattern_on_the_command_line_finds_the_files_of_its_names() -> None:
    config = check(expand(["attention.pattern=[standard]", "model.num_layers=3"]))
    assert [type(m).__name__ for m in preset_of(config).mixers()] == ["StandardAttention"] * 3
    named = check(expand(["attention.pattern=[standard,mine]", f"+attention.mixers.mine={{_target_: {TARGET}}}"]))
    assert list(named.attention.mixers) == ["standard", "mine"]
    with pytest.raises(ConfigError, match=r"attention\.pattern names standart, which is neither a file of"):
        preset_of(check(expand(["attention.pattern=[standart,standard]"])))


def preset_of(config: Any) -> GPT:
    with torch.device("meta"):
        return build(config.model, path="model", vocab_size=10)
