"""Every attention has its demo, which computes, draws, and looks into a trained run; what cannot be is one sentence."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from typer.testing import CliRunner

from bulba.checkpoint import save_checkpoint
from bulba.checkpoint_folder import checkpoint_folder
from bulba.cli import app
from bulba.config.build import locate
from bulba.data.tokenizer import Tokenizer
from bulba.demo.run import demo_command, demo_names, demo_of, load, watch
from bulba.errors import ConfigError, UnsupportedError
from tests.conftest import ROOT
from tests.generation.small_tokenizer import train_tokenizer
from tests.model.tiny import tiny_gpt, tokens

NODES: dict[str, Any] = {
    path.stem: OmegaConf.to_container(OmegaConf.load(path)) for path in sorted((ROOT / "conf/attention").glob("*.yaml"))
}
ATTENTIONS = {name: node for name, node in NODES.items() if "_target_" in node}  # hybrid.yaml has none
TEXT = "Жыў-быў $дзед$,\nжыла баба"
PNG = b"\x89PNG\r\n"


def test_every_attention_has_a_demo_and_the_other_way_round() -> None:
    assert demo_names() == sorted(ATTENTIONS)
    assert all(load(name).TITLE for name in demo_names())


@pytest.mark.slow
@pytest.mark.parametrize("name", demo_names())
def test_a_demo_computes_and_draws(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.get_rng_state()
    demo_command(name, out=str(tmp_path))
    title, *lines = capsys.readouterr().out.strip().splitlines()
    assert title == f"{name}: {load(name).TITLE}"
    assert len(lines) > 1
    assert any(character.isdigit() for line in lines[:-1] for character in line)
    assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("num_words", [1, 12])
@pytest.mark.parametrize("name", demo_names())
def test_a_demo_looks_at_a_layer(name: str, num_words: int) -> None:
    node = ATTENTIONS[name]
    gqa = locate(node["_target_"]).capabilities.gqa
    model = tiny_gpt(attention=node, num_layers=1, num_kv_heads=2 if gqa else 6)
    seen = next(at for at in watch(model, tokens(1, num_words)) if demo_of(at.mixer) == name)
    assert seen.layer == 0
    assert seen.x_BTH.shape == (1, num_words, 48)
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    weights = [parameter.clone() for parameter in model.parameters()]
    lines = load(name).look(seen.mixer, seen.x_BTH, seen.context, [f"word{n}" for n in range(num_words)], figure)
    figure.canvas.draw()
    assert lines
    assert any(axes.has_data() for axes in figure.axes)
    assert all(map(torch.equal, model.parameters(), weights))
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose model has ordinary and reversible layers."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    shutil.copytree(train_tokenizer(tmp_path_factory.mktemp("text")), folder / "tokenizer")
    model = tiny_gpt(
        vocab_size=Tokenizer.load(folder / "tokenizer").vocab_size,
        num_layers=3,
        attention={"pattern": ["standard", "reversible"], "mixers": ATTENTIONS},
    )
    (folder / "config.yaml").write_text("{}", encoding="utf-8")
    save_checkpoint(checkpoint_folder(folder, 1), model.get_model_config(), dict(model.state_dict()), {})
    return folder


def test_the_layers_of_a_run_are_shown(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo_command("all", run=str(run), text=TEXT, out=str(tmp_path))
    # The attention inside a reversible layer is a layer of its own kind as well.
    expected = ["reversible_layer_01.png", *(f"standard_layer_{layer:02d}.png" for layer in (0, 1, 2))]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected
    printed = capsys.readouterr().out
    assert "reversible, layer 1: " in printed
    assert "standard, layer 2: " in printed


def test_the_command_names_the_demos_and_answers_mistakes_in_a_sentence() -> None:
    listed = CliRunner().invoke(app, ["demo", "list"])
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == demo_names()
    wrong = CliRunner().invoke(app, ["demo", "standart"])
    assert isinstance(wrong.exception, ConfigError)
    assert str(wrong.exception) == "demo standart does not exist; did you mean standard?"
    unknown = CliRunner().invoke(app, ["demo", "standard", "outt=x"])
    assert str(unknown.exception) == "outt is not an option of demo_command; did you mean out?."


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "list_"}, r"demo list_ does not exist; did you mean list\?"),
        ({"name": "all", "text": "a"}, r"run and text go together: demo NAME run=last text="),
        ({"name": "all", "run": "last"}, r"run and text go together"),
        ({"name": "standard", "run": "RUN", "text": "а" * 200}, r"the text has \d+ tokens and the model reads 64"),
    ],
)
def test_mistakes_are_refused(settings: dict[str, str], message: str, run: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        demo_command(**{key: str(run) if value == "RUN" else value for key, value in settings.items()})


def test_a_run_without_the_attention_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulba.demo.run.demo_names", lambda: ["standard", "tropical"])
    with pytest.raises(ConfigError, match=r"has no layer of tropical: its attention is standard, reversible\.$"):
        demo_command("tropical", run=str(run), text="a")


def test_without_matplotlib_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UnsupportedError, match=r"matplotlib is not installed: uv pip install 'bulba\[report\]'"):
        demo_command("standard", out=str(tmp_path))


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("not a folder")
    with pytest.raises(ConfigError, match=r"taken is a file: give a folder for the pictures"):
        demo_command("standard", out=str(tmp_path / "taken"))
