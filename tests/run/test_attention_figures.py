"""Figures of attentions in the loggers: right numbers under their layer, and a training that does not notice them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from bulba.attention.base import Mixer
from bulba.errors import ConfigError
from bulba.report.records import read_metrics
from callbacks.attention_figures import read_layers, readings, undisturbed
from tests.conftest import ROOT
from tests.model.tiny import packed, tiny_gpt, tokens
from tests.run.in_process import train_here

NODES: dict[str, Any] = {
    path.stem: OmegaConf.to_container(OmegaConf.load(path)) for path in sorted((ROOT / "conf/attention").glob("*.yaml"))
}
ATTENTIONS = {name: node for name, node in NODES.items() if "_target_" in node}  # hybrid.yaml has none
SHORT = (
    "trainer.max_steps=6",
    "trainer.val_every_steps=6",
    "callbacks.samples.every_steps=null",
    "attention.pattern=[tropical,standard]",
)
ON = "callbacks.attention_figures.every_steps=4"


def test_a_run_logs_margins_and_is_to_the_bit_the_run_without(small: list[str], tmp_path: Path) -> None:
    rows = {}
    for name, words in (("off", []), ("on", [ON, "callbacks.attention_figures.num_rows=2"])):
        train_here(tmp_path / name, *small, *SHORT, "model.dropout=0.1", *words)
        rows[name] = read_metrics(tmp_path / name)
    weights = [(tmp_path / name / "final.safetensors").read_bytes() for name in rows]
    assert weights[0] == weights[1]
    for step, row in rows["off"].items():
        figures = ("train/loss", "train/grad_norm", "val/loss")
        assert [row.get(figure) for figure in figures] == [rows["on"][step].get(figure) for figure in figures]
    for step, row in rows["on"].items():
        logged = {name for name in row if name.startswith("attention/")}  # the second layer has none
        assert logged == ({"attention/0/margin", "attention/0/margin_min"} if step in (4, 6) else set())
    for step in (4, 6):
        least, mean = (rows["on"][step][f"attention/0/{name}"] for name in ("margin_min", "margin"))
        assert 0 <= least < mean < math.inf


def test_compiled_code_stays_as_it_is(small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.compile

    def compile_quickly(model: Any, **options: Any) -> Any:
        return real(model, backend="aot_eager", **(options | {"mode": None}))

    monkeypatch.setattr(torch, "compile", compile_quickly)
    summary = train_here(tmp_path / "run", *small, *SHORT, "mode=both", f"mode.compile_cache_dir={tmp_path}", ON)
    compiled = summary["device"]["compiled"]
    assert (compiled["graph_breaks"], compiled["recompiles"]) == (0, 0)
    assert read_metrics(tmp_path / "run")[4]["attention/0/margin"] > 0


@pytest.mark.parametrize(
    ("attention", "kind"),
    [("standard", "StandardAttention"), ("surreal", "SurrealAttention")],
)
def test_a_run_without_any_figures_is_refused(attention: str, kind: str, small: list[str], tmp_path: Path) -> None:
    words = ["attention.levels=1", "attention.omega=null"] if attention == "surreal" else []
    with pytest.raises(
        ConfigError,
        match=rf"callbacks\.attention_figures would log nothing, because {kind} has no figures: set "
        r"callbacks\.attention_figures\.every_steps=null, or choose another attention\.",
    ):
        train_here(tmp_path / "run", *small, f"attention={attention}", *words, ON)


@pytest.mark.parametrize("kernel", ["reference", "flash"])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_every_attention_that_has_figures_is_read(name: str, kernel: str) -> None:
    model = tiny_gpt(attention=ATTENTIONS[name], kernel=kernel)
    with torch.no_grad():
        expected = model(tokens(1, 12), *packed(5, 7))
        for rows in ((tokens(1, 2),), (tokens(1, 12), *packed(5, 7))):
            found = read_layers(model, *rows)
            assert all(math.isfinite(value) for value in found.values())
            own = ATTENTIONS[name]["_target_"].rpartition(".")[2] != "StandardAttention"
            assert {label.split("/")[1] for label in found} == ({"0", "1"} if own else set())
        assert torch.equal(model(tokens(1, 12), *packed(5, 7)), expected)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_readings_are_means_and_least_margins() -> None:
    inf, nan = math.inf, math.nan
    figures = {
        "margin_BNTD": torch.tensor([[inf, 1.0], [3.0, 0.5]]),
        "chosen_BNTD": torch.tensor([[1, 2], [3, 4]]),
        "far_weight_BTNh": torch.tensor([1.0, nan]),
        "share_BTNh": torch.zeros(2, 3, 4, 0),
        "turn_deg": torch.tensor([30.0, 60.0], dtype=torch.bfloat16),
    }
    found = {name: float(value) for name, value in readings(figures).items()}
    assert found == pytest.approx({"margin": 1.5, "margin_min": 0.5, "far_weight": nan, "turn_deg": 45.0}, nan_ok=True)


def test_modes_and_random_states_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_gpt(dropout=0.5, attention=ATTENTIONS["tropical"]).train()
    state = torch.get_rng_state()

    def draw_and_fail(*_: Any) -> Any:
        assert not model.training
        torch.rand(3)
        raise ZeroDivisionError

    monkeypatch.setattr(Mixer, "__call__", draw_and_fail)
    with pytest.raises(ZeroDivisionError), undisturbed(model, torch.device("cpu")):
        read_layers(model, tokens(1, 4))
    assert all(module.training for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
