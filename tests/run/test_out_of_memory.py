"""A device that runs out of memory in the middle of a training: one sentence, or smaller micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.nn.modules.module import register_module_forward_pre_hook

from bulba.errors import ConfigError, TrainingError, UnsupportedError
from bulba.model.gpt import GPT
from bulba.report.records import read_metrics
from tests.run.in_process import train_here

SHORT = (
    "trainer.max_steps=8",
    "trainer.val_every_steps=8",
    "callbacks.checkpoints.every_steps=3",
    "callbacks.samples.every_steps=null",
)


@contextmanager
def room_for(max_rows: int, after_forwards: int = 0) -> Iterator[Callable[[], int]]:
    """The training forward of more than `max_rows` rows runs out of memory, once `after_forwards` of them are done."""
    done = 0

    def hook(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal done
        if isinstance(module, GPT) and module.training and len(inputs[0]) > max_rows:
            done += 1
            if done > after_forwards:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    handle = register_module_forward_pre_hook(hook)
    try:
        yield lambda: done
    finally:
        handle.remove()


def losses(run: Path) -> dict[int, float]:
    return {step: row["train/loss"] for step, row in read_metrics(run).items()}


def test_out_of_memory_names_settings_that_take_less(small: list[str], tmp_path: Path) -> None:
    with room_for(1), pytest.raises(TrainingError) as caught:
        train_here(tmp_path / "run", *small, *SHORT)
    sentence = str(caught.value)
    assert "memory ran out with data.micro_batch_size=2 and data.seq_len=64 (CUDA out of memory)" in sentence
    assert "data.micro_batch_size=1 (the same training in smaller parts)" in sentence
    assert "data.seq_len=32" in sentence


@pytest.mark.parametrize("mode", ["chunked", "packed"])
def test_shrink_trains_as_if_begun_with_the_smaller_micro_batch(mode: str, small: list[str], tmp_path: Path) -> None:
    words = [*small, *SHORT, f"data.mode={mode}"]
    with room_for(1):
        train_here(tmp_path / "shrunk", *words, "trainer.on_oom=shrink", "data.micro_batch_size=4")
    train_here(tmp_path / "small", *words, "data.micro_batch_size=1")
    assert losses(tmp_path / "shrunk") == losses(tmp_path / "small")
    finals = [(tmp_path / name / "final.safetensors").read_bytes() for name in ("shrunk", "small")]
    assert finals[0] == finals[1]
    config = yaml.safe_load((tmp_path / "shrunk" / "config.yaml").read_text(encoding="utf-8"))
    assert config["data"]["micro_batch_size"] == 1


def test_shrink_in_the_middle_goes_on_from_the_newest_checkpoint(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # One micro-batch a step, then two: the third step ends at an odd number of micro-batches.
    words = [*small, *SHORT, "data.micro_batch_size=4"]
    with room_for(2, after_forwards=4):
        train_here(tmp_path / "shrunk", *words, "trainer.on_oom=shrink")
    assert "beginning again from step 3 with data.micro_batch_size=2" in capsys.readouterr().out
    train_here(tmp_path / "whole", *words)
    shrunk, whole = losses(tmp_path / "shrunk"), losses(tmp_path / "whole")
    assert shrunk.keys() == whole.keys() == set(range(1, 9))
    # Sums over other micro-batches differ in the last digits.
    assert shrunk == pytest.approx(whole, rel=1e-5)
    tokens = [read_metrics(tmp_path / name)[8]["train/tokens"] for name in ("shrunk", "whole")]
    assert tokens[0] == tokens[1]


def test_one_row_that_is_too_large_cannot_shrink(small: list[str], tmp_path: Path) -> None:
    with room_for(0), pytest.raises(TrainingError, match="memory ran out with data.micro_batch_size=1"):
        train_here(tmp_path / "run", *small, *SHORT, "trainer.on_oom=shrink")


def test_shrink_is_refused_where_it_would_change_the_training(small: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="data.mode=bucketed makes its rows by data.micro_batch_size"):
        train_here(tmp_path, *small, "trainer.on_oom=shrink", "data.mode=bucketed")
    with pytest.raises(UnsupportedError, match="within one process and trainer.num_devices=2"):
        train_here(tmp_path, *small, "trainer.on_oom=shrink", "trainer.num_devices=2")
