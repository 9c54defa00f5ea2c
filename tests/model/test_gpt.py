"""What a decoder owes: causality, packing, an exact cache, exact gradients, and a config that rebuilds it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from bulba.attention.heads import KeyValueCache
from bulba.config.build import build
from bulba.errors import ConfigError
from bulba.model.gpt import GPT
from tests.model.tiny import TINY, packed, tiny_gpt, tokens

LAYER_NORM = {"_target_": "bulba.model.norm.LayerNorm", "eps": 1e-5}
GAINLESS = {"_target_": "bulba.model.norm.RMSNorm", "eps": 1e-5, "affine": False}
KERNELS = ["reference", "flash"]
VARIANTS = [{}, {"norm_placement": "post"}, {"norm": LAYER_NORM}, {"tie_embeddings": False, "norm": GAINLESS}]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("changes", VARIANTS)
def test_a_later_token_changes_nothing_before_it(changes: dict[str, Any], kernel: str) -> None:
    model = tiny_gpt(kernel=kernel, **changes)
    rows = tokens(2, 24)
    with torch.no_grad():
        before = model(rows)
        for position in (0, 11, 23):
            changed = rows.clone()
            changed[:, position] = (changed[:, position] + 1) % TINY["vocab_size"]
            after = model(changed)
            assert torch.equal(after[:, :position], before[:, :position])
            assert not torch.equal(after[:, position:], before[:, position:])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("lengths", [(24,), (1, 23), (7, 1, 1, 10, 5)])
def test_a_packed_document_is_as_if_alone(lengths: Any, kernel: str) -> None:
    model = tiny_gpt(kernel=kernel)
    row = tokens(1, 24)
    positions, documents = packed(*lengths)
    with torch.no_grad():
        together = model(row, positions, documents).split(lengths, 1)
        for document, hidden in zip(row.split(lengths, 1), together, strict=True):
            torch.testing.assert_close(hidden, model(document), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_do_not_cross_documents(kernel: str) -> None:
    model = tiny_gpt(kernel=kernel)
    positions, documents = packed(10, 14)
    hidden = model(tokens(1, 24), positions, documents)
    weight = model.layers[0].self_attn.k_proj.weight
    grad = torch.autograd.grad(hidden[:, 10:].square().sum(), weight)
    expected = torch.autograd.grad(model(tokens(1, 24)[:, 10:]).square().sum(), weight)
    torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("sizes", [[1] * 20, [20], [7] + [1] * 13, [5, 1, 8, 6], [13, 7]])
def test_decoding_with_a_cache_equals_the_full_pass(sizes: list[int], kernel: str) -> None:
    model = tiny_gpt(kernel=kernel)
    rows = tokens(2, 20)
    cache = model.new_cache(2, 20)
    with torch.no_grad():
        steps = [model(piece, cache=cache) for piece in rows.split(sizes, 1)]
        torch.testing.assert_close(torch.cat(steps, 1), model(rows), rtol=0, atol=2e-5)
    assert cache.length == 20


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_cache_works_under_bfloat16_autocast(kernel: str) -> None:
    model = tiny_gpt(kernel=kernel)
    rows = tokens(2, 20)
    cache = model.new_cache(2, 20)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        steps = [model(piece, cache=cache) for piece in rows.split([7] + [1] * 13, 1)]
        full = model(rows)
    assert (torch.cat(steps, 1) - full).norm() < 0.02 * full.norm()


def test_a_full_cache_takes_no_more_tokens() -> None:
    model = tiny_gpt()
    cache = model.new_cache(1, 8)
    model(tokens(1, 8), cache=cache)
    with pytest.raises(AssertionError, match="the cache is full"):
        model(tokens(1, 1), cache=cache)


@pytest.mark.parametrize("kernel", KERNELS)
def test_bfloat16_autocast_is_close_to_fp32(kernel: str) -> None:
    model = tiny_gpt(kernel=kernel, init_std=0.05)
    positions, documents = packed(10, 14)
    with torch.no_grad():
        exact = model.logits(model(tokens(1, 24), positions, documents))
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.logits(model(tokens(1, 24), positions, documents))
    assert rounded.dtype == torch.bfloat16
    assert (rounded - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_bfloat16_model_is_close_to_fp32(kernel: str) -> None:
    model = tiny_gpt(kernel=kernel, init_std=0.05, norm=LAYER_NORM)
    with torch.no_grad():
        exact = model(tokens(2, 24))
        rounded = model.bfloat16()(tokens(2, 24))
    assert rounded.dtype == torch.bfloat16
    assert (rounded - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("changes", VARIANTS)
def test_gradients_in_float64(changes: dict[str, Any]) -> None:
    sizes = {"vocab_size": 7, "hidden_size": 12, "num_heads": 3, "num_kv_heads": 1, "intermediate_size": 8}
    model = tiny_gpt(**sizes, **changes).double()
    names = [name for name, _ in model.named_parameters()]
    row = tokens(1, 6, vocab_size=7)
    positions, documents = packed(2, 4)

    def outputs(*weights: Tensor) -> Tensor:
        model_weights = dict(zip(names, weights, strict=True))
        hidden = torch.func.functional_call(model, model_weights, (row, positions, documents))
        return hidden @ model_weights["embed_tokens.weight" if model.lm_head is None else "lm_head.weight"].T

    weights = tuple(parameter.detach().requires_grad_() for parameter in model.parameters())
    assert torch.autograd.gradcheck(outputs, weights, fast_mode=True)


def test_where_the_norms_stand() -> None:
    rows = tokens(2, 9)
    pre, post = (tiny_gpt(norm_placement=placement, norm=GAINLESS) for placement in ("pre", "post"))

    def by_hand(model: Any, placement: str) -> Tensor:
        captured: dict[str, Tensor] = {}
        model.layers[0].self_attn.register_forward_hook(lambda _, x, y: captured.update(into=x[0], out=y))
        model(rows)
        x, norm = model.embed_tokens(rows), model.layers[0].input_layernorm
        into = norm(x) if placement == "pre" else x
        torch.testing.assert_close(captured["into"], into)
        y = x + captured["out"] if placement == "pre" else norm(x + captured["out"])
        mlp = model.layers[0].mlp
        return y + mlp(norm(y)) if placement == "pre" else norm(y + mlp(y))

    for placement, model in (("pre", pre), ("post", post)):
        blocks: dict[str, Tensor] = {}
        model.layers[0].register_forward_hook(lambda _, x, y, blocks=blocks: blocks.update(out=y))
        torch.testing.assert_close(by_hand(model, placement), blocks["out"])
    with torch.no_grad():
        for model in (pre, post):
            torch.testing.assert_close(model(rows).square().mean(-1), torch.ones(2, 9), rtol=1e-3, atol=0)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("norm", [TINY["norm"], GAINLESS, LAYER_NORM])
def test_number_of_weights_equals_a_count_by_hand(norm: dict[str, Any], tied: bool) -> None:
    model = tiny_gpt(tie_embeddings=tied, norm=norm)
    hidden, heads, kv_heads, inner, vocab = 48, 6, 2, 80, 103
    attention = 2 * hidden * hidden + 2 * hidden * (hidden // heads * kv_heads)
    norm_weights = {"RMSNorm": 1, "LayerNorm": 2}[norm["_target_"].split(".")[-1]] * hidden * norm.get("affine", True)
    body = 2 * (attention + 3 * hidden * inner + 2 * norm_weights) + norm_weights
    assert model.get_num_params(non_embedding=True) == body + vocab * hidden * (not tied)
    assert model.get_num_params() == body + vocab * hidden * (1 if tied else 2)


def test_tied_embeddings_are_one_tensor_and_counted_once() -> None:
    tied, untied = tiny_gpt(tie_embeddings=True), tiny_gpt(tie_embeddings=False)
    assert tied.head.weight_VH.data_ptr() == tied.embed_tokens.weight.data_ptr()
    assert untied.head.weight_VH.data_ptr() != untied.embed_tokens.weight.data_ptr()
    assert "lm_head.weight" not in tied.state_dict()
    assert untied.get_num_params() - tied.get_num_params() == 103 * 48
    tied.logits(tied(tokens(1, 3))).sum().backward()
    assert tied.embed_tokens.weight.grad.abs().sum(1).min() > 0  # every row gets the head's gradient


def test_the_vocabulary_has_exact_rows() -> None:
    model = tiny_gpt(vocab_size=32003, num_layers=1)
    assert model.embed_tokens.weight.shape == model.head.weight_VH.shape == (32003, 48)


def test_bias_switch() -> None:
    assert not [name for name in tiny_gpt().state_dict() if name.endswith("bias")]
    names = {name for name in tiny_gpt(attention_bias=True).state_dict() if name.endswith("bias")}
    assert names == {f"layers.{n}.self_attn.{p}_proj.bias" for n in (0, 1) for p in "qkvo"}


@pytest.mark.parametrize("changes", VARIANTS)
def test_the_config_survives_json_and_rebuilds_the_model(changes: dict[str, Any]) -> None:
    sizes = {"rope_base": 5e3, "max_seq_len": 32, "init_std": 0.3} | changes
    model = tiny_gpt(**sizes)
    config = json.loads(json.dumps(model.get_model_config()))
    assert config.items() >= (TINY | sizes | {"num_params": model.get_num_params()}).items()
    rebuilt = GPT(**config)
    rebuilt.load_state_dict(model.state_dict())
    assert rebuilt.get_model_config() == model.get_model_config()
    with torch.no_grad():
        assert torch.equal(rebuilt(tokens(2, 9)), model(tokens(2, 9)))


def test_initial_weights_have_the_width_asked_for_and_follow_the_seed() -> None:
    torch.manual_seed(3)
    model: Any = GPT(**{**TINY, "hidden_size": 192, "intermediate_size": 512, "init_std": 0.02})
    layer = model.layers[1]
    for weight in (model.embed_tokens.weight, layer.self_attn.q_proj.weight, layer.mlp.up_proj.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.03)
    for weight in (layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight):
        assert weight.std().item() == pytest.approx(0.02 / 2, rel=0.03)  # 1 / sqrt(2 * 2 layers)
    torch.manual_seed(3)
    again: Any = GPT(**model.get_model_config())
    assert torch.equal(again.layers[1].mlp.up_proj.weight, layer.mlp.up_proj.weight)


def test_an_untrained_model_predicts_almost_uniformly() -> None:
    torch.manual_seed(0)
    model = GPT(**{**TINY, "init_std": 0.02})
    logits = model.logits(model(tokens(4, 32)))
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens(4, 32, seed=1).flatten())
    assert loss.item() == pytest.approx(torch.log(torch.tensor(103.0)).item(), abs=0.05)


def test_a_cache_holds_only_the_key_value_heads() -> None:
    def num_bytes(kv_heads: int) -> int:
        layers = tiny_gpt(num_kv_heads=kv_heads).new_cache(3, 50).layers
        assert all(isinstance(layer, KeyValueCache) for layer in layers)
        return sum(layer.num_bytes for layer in layers)

    whole = num_bytes(6)
    assert whole == 2 * 2 * 3 * 50 * 48 * 4  # layers, k and v, rows, tokens, hidden size, bytes
    assert [num_bytes(kv_heads) / whole for kv_heads in (3, 2, 1)] == [1 / 2, 1 / 3, 1 / 6]


@pytest.mark.parametrize("kernel", KERNELS)
def test_compiled_in_one_graph_equals_eager(kernel: str) -> None:
    model = tiny_gpt(kernel=kernel, num_layers=1)
    positions, documents = packed(10, 14)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(tokens(1, 24), positions, documents), model(tokens(1, 24), positions, documents)
    )


@pytest.mark.slow
def test_compiled_by_inductor_equals_eager() -> None:
    model = tiny_gpt(kernel="flash")
    positions, documents = packed(10, 14)
    compiled = torch.compile(model, fullgraph=True)
    ours = compiled(tokens(1, 24), positions, documents)
    theirs = model(tokens(1, 24), positions, documents)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    grad = torch.autograd.grad(ours.square().sum(), model.embed_tokens.weight)
    expected = torch.autograd.grad(theirs.square().sum(), model.embed_tokens.weight)
    torch.testing.assert_close(grad, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 50}, r"model\.hidden_size=50 is not divisible by model\.num_heads=6: set num_heads to"),
        ({"num_kv_heads": 4}, r"model\.num_heads=6 is not divisible by model\.num_kv_heads=4: set num_kv_heads"),
        ({"num_kv_heads": 12}, r"model\.num_heads=6 is not divisible by model\.num_kv_heads=12"),
        ({"hidden_size": 18}, r"odd head width, which rotary positions cannot pair: choose sizes"),
        ({"max_seq_len": 1}, r"model\.max_seq_len=1 is too short to predict anything: set at least 2"),
        ({"num_heads": 0}, r"model\.num_heads=0 must be above 0"),
        ({"num_kv_heads": -1}, r"model\.num_kv_heads=-1 must be above 0"),
        ({"num_layers": 0}, r"model\.num_layers=0 must be above 0"),
        ({"vocab_size": 0}, r"model\.vocab_size=0 must be above 0"),
        ({"rope_base": 0.0}, r"model\.rope_base=0\.0 must be above 0"),
        ({"init_std": -0.02}, r"model\.init_std=-0\.02 must be above 0"),
        ({"norm_placement": "middle"}, r"model\.norm_placement=middle must be pre or post"),
        ({"num_params": 5}, r"model\.num_params says 5 but the model .* has 40,512: the config was edited"),
        ({"num_params_non_embedding": 5}, r"model\.num_params_non_embedding says 5 but"),
        ({"mlp": {"_target_": "os.system"}}, r"os\.system is not allowed"),
        ({"attention": {"_target_": "torch.optim.AdamW"}}, r"torch\.optim\.AdamW is not allowed"),
    ],
)
def test_an_impossible_model_is_refused_in_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GPT(**{**TINY, **changes})


def test_from_a_config_a_misspelt_size_names_the_nearest() -> None:
    node = {**TINY, "_target_": "bulba.model.gpt.GPT", "num_head": 4}
    with pytest.raises(ConfigError, match=r"model\.num_head is not an option of GPT; did you mean num_heads\?"):
        build(node, path="model")
