"""The outline of a model, read from its config, against the modules that the config builds."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from bulba.attention.hypercomplex import HyperLinear
from bulba.checkpoint import to_hf_names
from bulba.config.build import build
from bulba.config.overrides import check, expand
from bulba.errors import UnsupportedError
from bulba.export.architecture import architecture_of, check_tensors
from bulba.export.outline import DEFAULTS, Outline, num_components
from bulba.model.gpt import GPT
from bulba.shapes import shapes_only

CONF = Path(__file__).parents[2] / "conf"
PRESETS = [path.stem for path in (CONF / "model").glob("[!_]*.yaml")]
ATTENTIONS = [path.stem for path in (CONF / "attention").glob("*.yaml") if path.stem != "hybrid"]
SOFTMAX = {"standard", "quaternion", "octonion"}
OF_SOME_OPTIONS = ["attention.levels=1", "attention.omega=null"]


def gpt(*words: str) -> GPT:
    with shapes_only():
        model: GPT = build(check(expand(list(words))).model, path="model", vocab_size=300)
    return model


@pytest.mark.parametrize(
    "words",
    [
        *([f"model={preset}"] for preset in PRESETS),
        ["attention=quaternion", "model.attention_bias=true"],
        ["model=expert_tiny", "attention=octonion"],
        ["model=expert_tiny", "model.norm.affine=false", "model.mlp.bias=false", "model.attention_bias=false"],
        ["model=expert_tiny", "model.position=learned", "model.rope_base=null", "model.tie_embeddings=true"],
        ["attention=surreal", *OF_SOME_OPTIONS],
        ["attention.pattern=[standard,octonion]"],
    ],
)
def test_it_names_every_weight_with_its_shape(words: list[str]) -> None:
    model = gpt(*words)
    shapes = {name: tuple(weight.shape) for name, weight in to_hf_names(dict(model.state_dict())).items()}
    architecture = architecture_of(model.get_model_config(), "a GGUF file")
    # Raises for a weight too few, too many or of another shape.
    check_tensors(shapes, architecture.tensors, Path("checkpoint"), "a GGUF file")
    assert architecture.head_dim == model.head_dim
    outline = Outline(model.get_model_config())
    assert outline.norm_kind == type(model.norm).__name__
    layer: Any = model.layers[0]
    assert outline.mlp_kind == type(layer.mlp).__name__
    assert outline.activation == getattr(layer.mlp, "activation", "silu")


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_only_softmax_attention_is_taken(attention: str) -> None:
    model = gpt(f"attention={attention}", "model.num_layers=2")
    config = model.get_model_config()
    count = num_components(config["attention"])
    assert (count is not None) == (attention in SOFTMAX)
    if count is None:
        with pytest.raises(UnsupportedError, match=f"layer 0 mixes its tokens with {type(model.mixers()[0]).__name__}"):
            architecture_of(config, "a GGUF file")
    else:
        projection = model.mixers()[0].q_proj
        assert count == (projection.num_components if isinstance(projection, HyperLinear) else 1)


@pytest.mark.parametrize("words", [["attention=quaternion", "attention.rotor_gate=true"], ["attention=surreal"]])
def test_options_that_make_another_attention_are_seen(words: list[str]) -> None:
    assert num_components(gpt(*words).get_model_config()["attention"]) is None


def test_what_older_configs_leave_out_is_what_the_model_takes() -> None:
    parameters = inspect.signature(GPT.__init__).parameters
    assert {name: parameters[name].default for name in DEFAULTS} == DEFAULTS
    # Whatever else may be left out changes nothing in a file.
    others = {name for name, one in parameters.items() if one.default is not one.empty} - DEFAULTS.keys()
    assert others == {"dropout", "attention_dropout", "num_params", "num_params_non_embedding"}
