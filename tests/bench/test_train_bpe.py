"""The benchmark of training runs every trainer on the same pieces."""

from __future__ import annotations

import random
import sys

import pytest

from bulba.bench.train_bpe import measure_training
from bulba.errors import BulbaError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="anonymous memory is Linux's")


def made_texts() -> list[str]:
    draw = random.Random(0)
    words = ["".join(draw.choices("абвгдеў", k=draw.randint(2, 7))) for _ in range(2000)]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    return [" ".join(draw.choices(words, weights, k=200)) for _ in range(300)]


def test_ours_and_the_library_learn_alike() -> None:
    figures = measure_training(made_texts(), 500, rounds=2, trainers=("bulba", "tokenizers"))
    assert [len(rounds) for rounds in figures.values()] == [2, 2]
    for training in [*figures["bulba"], *figures["tokenizers"]]:
        assert len(training.tokens) == 500
        assert 0 < training.cpu_seconds < 2.5 * training.wall_seconds
        assert training.peak_bytes > 0
    # One document is held out from ours.
    assert len(figures["bulba"][0].tokens & figures["tokenizers"][0].tokens) > 490
    assert {bytes([byte]) for byte in range(256)} <= figures["tokenizers"][0].tokens


def test_a_trainer_that_is_not_there_is_named(tmp_path: object) -> None:
    with pytest.raises(BulbaError, match=r"the training with nobody failed \(KeyError: 'nobody'\): install it for"):
        measure_training(["адзін два"], 300, rounds=1, trainers=("nobody",))
