"""The comparison table: only what differs, best run first."""

import json
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from bulba.errors import CheckpointError
from bulba.report.compare import compare, differences, flatten
from bulba.runs import find_run, list_runs, new_folder


def make_run(folder: Path, config: dict, bpb: float | None) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "run.json").write_text("{}", encoding="utf-8")
    result = {"val/bpb": bpb, "tokens_per_s": 12345.6, "train_tokens": 1000}
    (folder / "summary.json").write_text(json.dumps({"result": result}), encoding="utf-8")
    return folder


def text_of(runs: list[Path]) -> str:
    console = Console(width=200, record=True)
    console.print(compare(runs))
    return console.export_text()


def test_the_table_shows_what_differs_and_the_best_first(tmp_path: Path) -> None:
    base = {"seed": 1, "data": {"seed": 1}, "optimizer": {"_target_": "optimizer.adamw.build", "lr": 0.1, "beta1": 0.9}}
    other = {"seed": 2, "data": {"seed": 2}, "optimizer": {"_target_": "optimizer.muon.build", "lr": 0.1}}
    make_run(tmp_path / "sweep" / "0", base, 2.5)
    make_run(tmp_path / "sweep" / "1", other, 1.5)
    text = text_of([tmp_path / "sweep"])
    assert "2 runs" in text
    assert text.index("1.5000") < text.index("2.5000")
    assert "adamw" in text
    assert "muon" in text
    assert "beta1" not in text  # only one of the choices has it
    assert "optimizer.lr" not in text
    assert "data.seed" not in text  # a copy of seed
    assert "12,346" in text


def test_a_run_without_a_figure_comes_last(tmp_path: Path) -> None:
    make_run(tmp_path / "a", {"seed": 1}, None)
    make_run(tmp_path / "b", {"seed": 2}, 9.0)
    assert text_of([tmp_path / "a", tmp_path / "b"]).index("9.0000") < text_of([tmp_path]).rindex(" - ")


def test_a_run_that_did_not_end_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", {}, 1.0)
    (run / "summary.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no summary\.json: let the run end"):
        compare([run])


def test_a_folder_without_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a run and holds none"):
        compare([tmp_path])


def test_settings_that_only_some_runs_have_differ() -> None:
    one, two = flatten({"a": {"b": 1}}), flatten({"a": {"b": 1, "c": [1]}})
    assert differences([one, two]) == ["a.c"]


def test_last_is_the_newest_run_also_inside_a_sweep(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no run in"):
        find_run("last", tmp_path)
    make_run(tmp_path / "first", {}, 1.0)
    newest = make_run(tmp_path / "sweep" / "0", {}, 1.0)
    assert find_run("last", tmp_path) == newest
    assert find_run("first", tmp_path) == tmp_path / "first"
    assert len(list_runs(tmp_path)) == 2
    with pytest.raises(CheckpointError, match="nothing is not a run folder; the newest runs"):
        find_run("nothing", tmp_path)


def test_two_runs_of_one_second_get_two_folders(tmp_path: Path) -> None:
    assert new_folder(tmp_path, "x") != new_folder(tmp_path, "x")
