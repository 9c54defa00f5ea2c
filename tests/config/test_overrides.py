"""The command line of train.py: what is unknown is answered with the nearest name and the file."""

import subprocess
import sys
from pathlib import Path

import pytest

from bulba.config.entry import arguments_for_hydra, read_arguments
from bulba.config.overrides import CONF, check, expand, groups
from bulba.errors import BulbaError, ConfigError

ROOT = Path(__file__).parents[2]


def message(words: list[str]) -> str:
    with pytest.raises(ConfigError) as caught:
        check(expand(words))
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["model=zubrr"], ["model=zubrr", "did you mean zubr?", "conf/model/"]),
        (["model.num_layer=3"], ["num_layer", "did you mean num_layers?", "conf/model/"]),
        (["trainr.max_steps=3"], ["trainr", "did you mean trainer?", "conf/config.yaml"]),
        (["optimizer.lrr=3"], ["did you mean lr?", "conf/optimizer/"]),
        (["optimizer=adamw,muonn"], ["optimizer=muonn", "did you mean muon?"]),
        (["hydra.runn.dir=x"], ["did you mean run?"]),
        (["krolik"], ["'krolik'", "key=value"]),
        (["data=tales", "data.path=x"], ["data.path", "data=folder", "leave that choice out"]),
        (["data.path=[a"], ["not understood", "quotes"]),
        (["data=hub", "data.nam=x"], ["did you mean name?", "conf/data/"]),
    ],
)
def test_a_wrong_word_is_one_sentence_with_the_nearest_name(words: list[str], parts: list[str]) -> None:
    text = message(words)
    for part in parts:
        assert part in text


def test_data_path_alone_means_data_folder() -> None:
    config = check(expand(["data.path=some/folder"]))
    assert config.data._target_ == "bulba.data.corpora.FolderData"
    assert config.data.path == "some/folder"


def test_every_choice_of_every_group_composes() -> None:
    for group, choices in groups().items():
        assert choices, group
        for choice in choices:
            assert check([f"{group}={choice}"])


def test_a_sweep_without_m_is_refused() -> None:
    with pytest.raises(ConfigError, match="add -m"):
        arguments_for_hydra([], ["seed=1,2"], read_arguments([])[2])


def test_a_run_that_is_repeated_takes_values_but_no_choices(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text((CONF / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    _, words, source = read_arguments(["--config-path", str(tmp_path), "model=zubr"])
    with pytest.raises(ConfigError, match="model=zubr cannot be changed"):
        check(words, source)


def test_a_missing_run_is_named() -> None:
    with pytest.raises(ConfigError, match="holds no config.yaml"):
        read_arguments(["--config-path", "nowhere"])
    with pytest.raises(BulbaError, match="nowhere is not a run folder"):
        read_arguments(["resume=nowhere"])


def test_experiments_do_not_choose_launchers() -> None:
    """Hydra 1.3 ignores a launcher chosen inside an experiment without a word."""
    for path in (CONF / "experiment").glob("*.yaml"):
        assert "override /hydra" not in path.read_text(encoding="utf-8"), path


def test_the_command_prints_one_line_and_no_traceback() -> None:
    done = subprocess.run([sys.executable, "train.py", "model.num_layer=3"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: model.num_layer")


@pytest.mark.parametrize(
    ("program", "shown"), [("train.py", "krolik, murashka"), ("export.py", "export: gguf, handover, hf, int8, onnx")]
)
def test_help_lists_the_choices_and_no_parts(program: str, shown: str) -> None:
    done = subprocess.run([sys.executable, program, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert shown in done.stdout
    assert "_base" not in done.stdout


@pytest.mark.parametrize("words", [["data=hub", "data.name=owner/name"], ["tokenizer=file", "tokenizer.path=FOLDER"]])
def test_a_value_that_must_be_set_can_be_set(words: list[str]) -> None:
    group, key = words[1].split("=")[0].split(".")
    assert check(words)[group][key] == words[1].split("=")[1]
