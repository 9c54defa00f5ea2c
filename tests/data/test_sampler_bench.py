"""The benchmark of the sampler measures what it says."""

from pathlib import Path

import numpy as np
import pytest

from bulba.bench import sampler as bench
from bulba.data.sampler import Sampler
from bulba.data.tokens import TokenFile
from bulba.errors import DataError
from tests.data.test_sampler import write


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lengths = [[7 + number * number % 90 for number in range(400)], [300] * 20]
    return write(tmp_path_factory.mktemp("bench") / "train.bin", lengths).path


def test_every_loader_gives_pairs_of_neighbours(path: Path, tmp_path: Path) -> None:
    """In this file the token after `n` is `n + 1`."""
    task = bench.Task(path, seq_len=32, rows=4)
    np.testing.assert_array_equal(task.tokens, np.arange(TokenFile(path).num_tokens))
    loaders, absent = bench.open_loaders(task, tmp_path)
    assert set(absent) <= {"litdata", "mosaicml-streaming"}
    assert {"bulba chunked", "bulba packed, ids", "numpy memmap crops", "torch DataLoader, 2 workers"} <= set(loaders)
    for name, batches in loaders.items():
        if "fresh" in name:
            continue
        inputs, targets = (np.asarray(array) for array in next(batches)[:2])
        assert inputs.shape == targets.shape == (4, 32), name
        assert inputs.dtype == targets.dtype == np.int64
        real = targets >= 0
        np.testing.assert_array_equal(targets[real], inputs[real] + 1)


def test_speeds_are_measured_in_turns(path: Path) -> None:
    figures = bench.measure_sampler(str(path), seq_len=32, rows=4, seconds=0.01, repeats=2)
    assert all(value > 0 for value in figures["tokens_per_s"].values())
    assert figures["memcpy_bytes_per_s"] > 0


def test_padding_is_counted_from_the_pieces(path: Path) -> None:
    figures = bench.measure_padding(str(path), rows=8)
    sampler = Sampler(TokenFile(path), 256, mode="bucketed", rows_per_micro_batch=8)
    slots = targets = 0
    for number in range(sampler.num_units):
        rows, length = sampler.shape(number)
        slots, targets = slots + rows * length, targets + sampler.count_targets(number, 1)
    assert figures[256]["bucketed"] == pytest.approx(1 - targets / slots)
    assert 0 <= figures[256]["packed"] <= figures[256]["random"]
    assert bench.random_padding(np.array([4, 4, 2, 2]), rows=4) == 0.25


def test_a_sparse_file_is_a_token_file(tmp_path: Path) -> None:
    pytest.importorskip("xxhash")
    figures = bench.measure_large_file(gigabytes=0.07, batches=20, folder=str(tmp_path))
    assert set(figures) == {"chunked", "packed"}
    assert all(of_mode["tokens_per_s"] > 0 for of_mode in figures.values())
    bench.write_sparse(tmp_path / "train.bin", 70_000_000)
    file = TokenFile(tmp_path / "train.bin")
    assert (file.num_documents, file.num_tokens) == (35_000, 35_000_000)
    assert file.document(34_999).tolist() == [0] * 1000
    assert (tmp_path / "train.bin").stat().st_blocks * 512 < 2_000_000
    with pytest.raises(DataError, match="checksum of the checksums"):
        file.verify()
