"""The sampler and the micro-batches through torch: every mode against slow references, and the order of a run."""

from __future__ import annotations

import itertools
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bulba.data.corpora import FolderData
from bulba.data.datamodule import FixedBatches, MicroBatches, Share, read_units
from bulba.data.ledger import show_step
from bulba.data.prefetch import Prefetch
from bulba.data.prepare import TokenizerSpec
from bulba.data.sampler import IGNORE_TARGET, Mode, Sampler
from bulba.data.tokens import TokenFile
from bulba.errors import ConfigError, DataError
from tests.conftest import run_program
from tests.data.golden.make import Document, Golden, to_bytes

MODES: tuple[Mode, ...] = ("chunked", "packed", "bucketed")
LENGTHS = st.lists(st.lists(st.one_of(st.integers(1, 12), st.integers(1, 70)), max_size=25), min_size=1, max_size=3)


def write(path: Path, lengths: list[list[int]]) -> TokenFile:
    """A token file with documents of these lengths by source; each token is its own place in the file."""
    places = itertools.count()
    documents = [
        Document([next(places) for _ in range(length)], source, 0)
        for source, of_source in enumerate(lengths)
        for length in of_source
    ]
    sources = [(f"source {number}", [f"file {number}"]) for number in range(len(lengths))]
    path.write_bytes(to_bytes(Golden(70_000, (69_997, 69_998, 69_999), sources, documents, 1)))
    return TokenFile(path)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> TokenFile:
    rng = random.Random(1)
    lengths = [[int(rng.paretovariate(0.9) * 5) % 400 + 2 for _ in range(count)] for count in (200, 100, 50)]
    return write(tmp_path_factory.mktemp("tokens") / "train.bin", lengths)


def fill(sampler: Sampler, first: int, count: int) -> tuple[int, dict[str, Any]]:
    rows, length = sampler.shape(first)
    shape = (count * rows, length)
    arrays = {name: np.full(shape, 77, np.int64) for name in ("inputs", "targets")}
    arrays |= {name: np.full(shape, 77, np.int32) for name in ("positions", "documents")}
    return sampler.fill(first, count, **arrays), arrays


def pieces_in(arrays: dict[str, Any]) -> list[tuple[list[int], list[int], list[int]]]:
    """(inputs, targets, positions) of every document of every row that has targets."""
    pieces = []
    for row in range(len(arrays["inputs"])):
        documents = arrays["documents"][row]
        for number in sorted(set(documents.tolist())):
            places = documents == number
            pieces.append(tuple(arrays[name][row, places].tolist() for name in ("inputs", "targets", "positions")))
    return [piece for piece in pieces if set(piece[1]) != {IGNORE_TARGET}]


def reference_chunk(file: TokenFile, row: int, seq_len: int) -> dict[str, list[int]]:
    """One full row of contiguous tokens from the documents, token by token."""
    stream = [(int(token), index) for index in range(file.num_documents) for token in file.document(index)]
    start = row * seq_len
    out: dict[str, list[int]] = {"inputs": [], "targets": [], "positions": [], "documents": []}
    for at in range(start, start + seq_len):
        (token, document), (following, next_document) = stream[at], stream[at + 1]
        same = at > start and stream[at - 1][1] == document
        out["inputs"].append(token)
        out["targets"].append(following if document == next_document else IGNORE_TARGET)
        out["positions"].append(out["positions"][-1] + 1 if same else 0)
        out["documents"].append(out["documents"][-1] + (not same) if out["documents"] else 0)
    return out


@pytest.mark.parametrize("seq_len", [1, 7, 64])
def test_chunks_equal_the_documents(file: TokenFile, seq_len: int) -> None:
    sampler = Sampler(file, seq_len)
    for row in {0, 1, 5, (file.num_tokens - 1) // seq_len - 1}:
        _, arrays = fill(sampler, row, 1)
        for name, expected in reference_chunk(file, row, seq_len).items():
            assert arrays[name][0].tolist() == expected, name


@settings(deadline=None)
@given(data=st.data(), lengths=LENGTHS, seq_len=st.integers(1, 20), mode=st.sampled_from(("packed", "bucketed")))
def test_planned_epochs_hold_every_target_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, lengths: list[list[int]], seq_len: int, mode: Mode
) -> None:
    file = write(tmp_path_factory.mktemp("plan") / "train.bin", lengths)
    documents = [file.document(index).tolist() for index in range(file.num_documents)]
    expected = sorted(tuple(pair) for ids in documents for pair in itertools.pairwise(ids))
    if not expected:
        with pytest.raises(DataError, match="needs 2"):
            Sampler(file, seq_len, mode=mode)
        return
    sampler = Sampler(file, seq_len, mode=mode, seed=data.draw(st.integers(0, 2**64 - 1)), rows_per_micro_batch=3)
    first = data.draw(st.integers(0, 3)) * sampler.num_units
    seen, cuts = [], set()
    for number in range(first, first + sampler.num_units):
        targets, arrays = fill(sampler, number, 1)
        pieces = pieces_in(arrays)
        assert targets == sum(len(piece[0]) for piece in pieces) == sampler.count_targets(number, 1)
        for inputs, following, positions in pieces:
            seen += zip(inputs, following, strict=True)
            cuts.add(inputs[0])
            assert positions == list(range(len(inputs)))
    assert sorted(seen) == expected
    # A document is cut after every full row and nowhere else, so one that fits is whole.
    assert cuts == {ids[at] for ids in documents for at in range(0, len(ids) - 1, seq_len)}
    assert 0 <= sampler.padding_frac < 1
    assert len(sampler.shapes) <= 8


@settings(deadline=None)
@given(data=st.data(), mode=st.sampled_from(MODES))
def test_parts_of_a_run_are_one_sequence(file: TokenFile, data: st.DataObject, mode: Mode) -> None:
    seed, first = data.draw(st.integers(0, 2**64 - 1)), data.draw(st.integers(0, 10**12))
    weights = data.draw(st.none() | st.just([1.0, 2.0, 0.5]))
    sampler = Sampler(file, data.draw(st.integers(1, 300)), mode=mode, seed=seed, weights=weights)
    count = 1 if mode == "bucketed" else data.draw(st.integers(1, 20))
    cut = data.draw(st.integers(0, count))
    targets, whole = fill(sampler, first, count)
    parts = [fill(sampler, first, cut), fill(sampler, first + cut, count - cut)] if mode != "bucketed" else []
    for name, array in whole.items():
        if parts:
            np.testing.assert_array_equal(array, np.concatenate([part[1][name] for part in parts]))
    assert targets == (whole["targets"] != IGNORE_TARGET).sum() == sampler.count_targets(first, count)


def test_an_evaluation_sees_every_target_once_and_padding_counts_nothing(file: TokenFile) -> None:
    seq_len = 100
    rows = Sampler(file, seq_len)
    assert rows.num_units == -(-(file.num_tokens - 1) // seq_len)
    targets, arrays = fill(rows, 0, rows.num_units + 2)
    assert targets == file.num_tokens - file.num_documents == rows.num_targets
    last, tail = rows.num_units - 1, (file.num_tokens - 1) % seq_len
    assert (arrays["targets"][last, tail:] == IGNORE_TARGET).all()
    assert (arrays["inputs"][last, tail:] == file.pad_id).all()
    documents = arrays["documents"][last]
    assert (documents[tail:] == documents[tail - 1] + 1).all()
    assert (arrays["targets"][rows.num_units :] == IGNORE_TARGET).all()


@pytest.mark.parametrize("mode", MODES)
def test_weights_hold_over_any_ten_million_tokens(file: TokenFile, mode: Mode) -> None:
    """Sources of quite different documents, and so of different padding."""
    shares = np.array([0.55, 0.15, 0.3])
    sampler = Sampler(file, 64, mode=mode, seed=5, weights=(shares * 7).tolist(), rows_per_micro_batch=8)
    # A unit is always of one source; the ten million tokens are counted in units of the real size.
    scale = 1024 / 64
    for start in (0, 12_345):
        targets, number = np.zeros(3), start
        while targets.sum() * scale < 10_000_000:
            source = file.document_source(sampler.pieces(number)[0].document)
            targets[source] += sampler.count_targets(number, 1)
            number += 1
        assert np.abs(targets / targets.sum() - shares).max() < 0.01


def test_threads_read_the_same(file: TokenFile) -> None:
    sampler = Sampler(file, 64, mode="packed", seed=1)
    _, expected = fill(sampler, 0, 64)
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(fill(sampler, 0, 64)[1])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        np.testing.assert_array_equal(result["inputs"], expected["inputs"])
    large = [fill(Sampler(file, 64, seed=1, num_threads=threads), 0, 5000)[1] for threads in (1, 3)]
    for name in large[0]:
        np.testing.assert_array_equal(large[0][name], large[1][name])


def test_wrong_buffers_are_refused(file: TokenFile) -> None:
    sampler = Sampler(file, 8, seed=1)
    good = fill(sampler, 0, 2)[1]
    read_only = np.zeros((2, 8), np.int64)
    read_only.flags.writeable = False
    whole = np.zeros((2, 16), np.int64)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"inputs": np.zeros((2, 8), np.int32)}, "inputs: expected an array of int64"),
        ({"positions": np.zeros((2, 8), np.int64)}, "positions: expected an array of int32"),
        ({"documents": np.zeros((2, 9), np.int32)}, r"documents: expected shape \[2, 8\]"),
        ({"targets": read_only}, "targets: expected a writable C-contiguous"),
        ({"targets": whole[:, ::2]}, "targets: expected a writable C-contiguous"),
        ({"inputs": np.zeros(16, np.int64)}, "inputs: expected a writable C-contiguous array of 2 dimensions"),
        ({"targets": good["inputs"]}, "expected separate arrays, got overlapping"),
        ({"inputs": "text"}, "inputs: expected an array of int64"),
    ]
    for wrong, message in cases:
        with pytest.raises(DataError, match=message):
            sampler.fill(0, 2, **(good | wrong))
    with pytest.raises(DataError, match=r"inputs: expected shape \[3, 8\] for 3 units, got \[2, 8\]"):
        sampler.fill(0, 3, **good)
    assert sampler.fill(0, 2, good["inputs"], good["targets"]) == sampler.count_targets(0, 2)


def test_what_cannot_be_sampled_says_what_to_do(file: TokenFile, tmp_path: Path) -> None:
    tokens = file.num_tokens
    assert Sampler(file, tokens - 1, seed=1).num_units == 1
    assert Sampler(file, tokens).num_units == 1
    cases: list[tuple[dict[str, Any], str]] = [
        ({"seq_len": tokens, "seed": 1}, rf"holds {tokens} tokens .*needs {tokens + 1}: set a smaller"),
        ({"seq_len": 0}, r"data\.seq_len: expected at least 1"),
        ({"mode": "paked"}, r"data\.mode: expected chunked, packed or bucketed, got paked"),
        ({"weights": [1.0], "seed": 1}, r"data\.weights: expected one for each of the 3 sources \(source 0, source 1"),
        ({"weights": [1.0, 1.0, -1.0], "seed": 1}, r"data\.weights: expected numbers from 0"),
        ({"weights": [1.0, 1.0, 1.0]}, r"data\.weights: expected none without a seed"),
    ]
    for settings_, message in cases:
        with pytest.raises(DataError, match=message):
            Sampler(file, **({"seq_len": 8} | settings_))
    empty = write(tmp_path / "train.bin", [[5], [1]])
    with pytest.raises(DataError, match=r"0 for source source 1, which has no text to train on, got 0\.5"):
        Sampler(empty, 2, mode="packed", seed=1, weights=[1.0, 0.5])


def test_a_plan_is_made_once_and_says_where_it_cannot_be(tmp_path: Path) -> None:
    file = write(tmp_path / "train.bin", [[5, 3, 9]])
    reports: list[tuple[int, int]] = []
    expected = fill(Sampler(file, 4, mode="packed", progress=lambda *done: reports.append(done)), 0, 1)
    assert reports[-1] == (4, 4)
    (plan,) = tmp_path.glob("*.plan")
    before = plan.stat().st_mtime_ns
    reports.clear()
    sampler = Sampler(TokenFile(file.path), 4, mode="packed", progress=lambda *done: reports.append(done))
    assert (reports, plan.stat().st_mtime_ns) == ([], before)
    np.testing.assert_array_equal(fill(sampler, 0, 1)[1]["inputs"], expected[1]["inputs"])
    sampler.verify()

    (tmp_path / "train.bin.packed-5.plan").mkdir()
    with pytest.raises(DataError, match=r"cannot write .*packed-5\.plan.*set data\.mode=chunked"):
        Sampler(file, 5, mode="packed")

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Sampler(file, 6, mode="packed", progress=interrupt)
    assert {path.name for path in tmp_path.iterdir()} == {"train.bin", plan.name, "train.bin.packed-5.plan"}


def steps_of(batches: MicroBatches, count: int) -> Iterator[list[torch.Tensor]]:
    """The inputs of `count` micro-batches."""
    iterator = iter(batches)
    yield from ([batch["inputs"], batch["step_tokens"]] for batch in itertools.islice(iterator, count))
    iterator.close()  # type: ignore[attr-defined]


@settings(deadline=None, max_examples=30)
@given(data=st.data(), mode=st.sampled_from(MODES), weights=st.none() | st.just([1.0, 2.0, 0.5]))
def test_devices_may_come_and_go_without_changing_the_sequence(
    file: TokenFile, data: st.DataObject, mode: Mode, weights: list[float] | None
) -> None:
    """Random step, ranks, accumulation and places to break off: the run reads what one device reads in one go."""
    seed, start = data.draw(st.integers(0, 2**64 - 1)), data.draw(st.integers(0, 10**9))
    per_step = data.draw(st.sampled_from([1, 2, 4, 6, 12]))
    sampler = Sampler(file, 32, mode=mode, seed=seed, weights=weights, rows_per_micro_batch=2)
    stretches = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    whole = list(steps_of(MicroBatches(sampler, per_step, Share(), lambda: start), per_step * sum(stretches)))
    got: list[list[torch.Tensor]] = []
    step = start
    for num_steps in stretches:
        world_size = data.draw(st.sampled_from([size for size in (1, 2, 3, 4, 6) if per_step % size == 0]))
        ranks = [
            steps_of(MicroBatches(sampler, per_step, Share(rank, world_size), lambda step=step: step),
                     num_steps * per_step // world_size)
            for rank in range(world_size)
        ]  # fmt: skip
        got += [batch for batches in zip(*ranks, strict=True) for batch in batches]
        step += num_steps
    assert len(got) == len(whole)
    for (inputs, tokens), (expected, expected_tokens) in zip(got, whole, strict=True):
        assert torch.equal(inputs, expected)
        assert tokens == expected_tokens


@pytest.mark.parametrize("mode", MODES)
def test_step_tokens_count_the_targets_of_the_whole_step(file: TokenFile, mode: Mode) -> None:
    sampler = Sampler(file, 64, mode=mode, seed=3, rows_per_micro_batch=4)
    batches = MicroBatches(sampler, 4, Share(), lambda: 7)
    step = list(itertools.islice(batches, 4))
    assert {int(batch["step_tokens"]) for batch in step} == {
        sum(int((batch["targets"] != IGNORE_TARGET).sum()) for batch in step)
    }
    assert step[0]["step_tokens"].dtype == torch.int64
    for batch in step:
        assert batch["inputs"].numel() <= 4 * 64
        assert batch["inputs"].shape == batch["targets"].shape == batch["positions"].shape == batch["documents"].shape
        assert batch["inputs"].dtype == batch["targets"].dtype == torch.int64
        assert batch["positions"].dtype == batch["documents"].dtype == torch.int32
    assert batches.wait_seconds > 0


def test_validation_batches_are_the_same_at_every_pass_and_dealt_to_the_ranks(file: TokenFile) -> None:
    sampler = Sampler(file, 16)
    whole = [read_units(sampler, row, 1)["inputs"] for row in range(21)]
    for world_size in (1, 2, 3):
        ranks = [FixedBatches(sampler, 21, 4, Share(rank, world_size)) for rank in range(world_size)]
        assert sum(map(len, ranks)) == 6
        for _ in range(2):
            lists = [list(rank) for rank in ranks]
            batches = [one for row in itertools.zip_longest(*lists) for one in row if one is not None]
            assert torch.equal(torch.cat([batch["inputs"] for batch in batches]), torch.cat(whole))


def test_a_fault_in_the_thread_is_raised_in_the_loop(tmp_path: Path) -> None:
    file = write(tmp_path / "train.bin", [[400]])
    content = bytearray(file.path.read_bytes())
    tokens = int.from_bytes(content[152:160], "little")
    content[tokens + 2 : tokens + 4] = b"\xff\xff"
    (tmp_path / "damaged.bin").write_bytes(content)
    sampler = Sampler(TokenFile(tmp_path / "damaged.bin"), 8, seed=1, rows_per_micro_batch=8)
    threads = threading.active_count()
    with pytest.raises(DataError, match=rf"damaged\.bin: a token id at byte {tokens} "):
        list(MicroBatches(sampler, 1, Share(), lambda: 0))
    assert threading.active_count() == threads


def test_prefetch_keeps_the_order_works_ahead_and_ends() -> None:
    made = []

    def numbers(count: int) -> Iterator[int]:
        for number in range(count):
            made.append(number)
            yield number

    ahead = Prefetch(numbers(100), depth=3)
    assert next(ahead) == 0
    deadline = time.monotonic() + 30
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.001)
    # One taken, three in the queue, one waiting for room.
    assert made == [0, 1, 2, 3, 4]
    assert list(ahead) == list(range(1, 100))
    with pytest.raises(StopIteration):
        next(ahead)
    stopped = Prefetch(numbers(100), depth=1)
    stopped.close()
    assert not stopped._thread.is_alive()
    with pytest.raises(StopIteration):
        next(stopped)


ENDINGS = {
    "the end of the program": "pass",
    "an error": "raise SystemExit(3)",
    "Ctrl-C": "os.kill(os.getpid(), signal.SIGINT); time.sleep(60)",
    "Ctrl-C while it waits": "threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start(); next(slow)",
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_ends_at_once_with_a_thread_at_work(file: TokenFile, ending: str) -> None:
    program = """
        import os, signal, sys, threading, time
        import numpy as np
        from bulba.data.prefetch import Prefetch
        from bulba.data.sampler import Sampler
        from bulba.data.tokens import TokenFile

        def fill():
            sampler = Sampler(TokenFile(sys.argv[1]), 64, seed=1)
            for number in range(10**9):
                arrays = np.empty((2, 4000, 64), np.int64)
                sampler.fill(number, 4000, *arrays)
                yield arrays

        def wait():
            yield 0
            time.sleep(2)

        # Whoever runs the tests in the background has it ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        slow, busy = Prefetch(wait(), 1), Prefetch(fill(), 4)
        next(slow), next(busy)
        print("begun", flush=True)
    """
    source = textwrap.dedent(program) + ENDINGS[ending]
    result = subprocess.run(
        [sys.executable, "-c", source, str(file.path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.stdout == "begun\n", result.stderr
    expected = {"the end of the program": 0, "an error": 3}.get(ending, -signal.SIGINT)
    assert result.returncode in (expected, 128 + signal.SIGINT if expected < 0 else expected), result.stderr


def test_a_sampler_in_another_process_reads_the_same(file: TokenFile) -> None:
    again = Sampler(pickle.loads(pickle.dumps(file)), 32, mode="packed", seed=4)
    np.testing.assert_array_equal(
        fill(again, 9, 3)[1]["targets"], fill(Sampler(file, 32, mode="packed", seed=4), 9, 3)[1]["targets"]
    )


ROWS = {"batch_size": 4, "micro_batch_size": 2, "val_frac": 0.1, "val_rows": None, "on_bad": "skip", "seed": 1}


def folder_data(corpus: Path, cache: Path, **settings: Any) -> FolderData:
    data = FolderData(path=str(corpus), sources=None, seq_len=48, cache_dir=str(cache), **(ROWS | settings))
    data.prepare(TokenizerSpec(vocab_size=400))
    return data


@pytest.mark.parametrize("mode", MODES)
def test_the_ledger_names_every_token_of_a_step(corpus: Path, tmp_path: Path, mode: Mode) -> None:
    data = folder_data(corpus, tmp_path, mode=mode)
    file, step = data.train_file, 5
    batches = MicroBatches(data.train_sampler, 2, Share(), lambda: step)
    entries = show_step(data, step)
    named = 0
    for number, batch in enumerate(itertools.islice(batches, 2)):
        of_batch = [entry for entry in entries if entry.micro_batch == number]
        for entry in of_batch:
            ids = file.document(entry.document)[entry.start : entry.stop]
            columns = slice(entry.column, entry.column + entry.stop - entry.start)
            assert batch["inputs"][entry.row, columns].tolist() == ids.tolist()
            assert entry.text == data.tokenizer.decode(ids.tolist())
            described = file.describe(entry.document)
            assert (entry.source, entry.file, entry.language) == (
                described.source_name, described.file, described.language,
            )  # fmt: skip
            named += int((batch["targets"][entry.row, columns] != IGNORE_TARGET).sum())
    assert named == data.train_sampler.count_targets(0, 0) + int(batch["step_tokens"])
    with pytest.raises(DataError, match="step=-1 must be at least 0"):
        show_step(data, -1)


def test_a_mode_that_does_not_exist(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.mode=paked must be chunked, packed or bucketed"):
        folder_data(corpus, tmp_path, mode="paked")


@pytest.mark.parametrize("mode", ["packed", "bucketed"])
def test_training_goes_through_in_every_mode(small: list[str], tmp_path: Path, mode: Mode) -> None:
    """The model is given the same kinds of tensors, whatever the mode."""
    run = tmp_path / "run"
    done = run_program("train.py", *small, "trainer.max_steps=8", f"data.mode={mode}", f"hydra.run.dir='{run}'")
    assert done.returncode == 0, done.stderr
    assert (run / "final.safetensors").exists()
