"""How fast batches come from a token file beside other loaders, how much of them is padding, and what a file larger
than memory costs.

Every loader gives [rows, seq_len] of int64 inputs and targets from random places of the same tokens. They take turns,
`repeats` times, so that a busy machine is busy for all of them; figures are medians over the turns. Loaders that are
not installed are named.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import shutil
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bulba.data.datamodule import read_units
from bulba.data.sampler import Mode, Sampler
from bulba.data.tokens import TokenFile
from bulba.errors import DataError

Batches = Iterator[Any]


@dataclass(frozen=True)
class Task:
    """What every loader has to give: `rows` x `seq_len` tokens of a file, again and again."""

    path: Path
    seq_len: int
    rows: int

    @property
    def tokens(self) -> NDArray[np.uint16 | np.uint32]:
        """The ids of the file as numpy maps them."""
        with self.path.open("rb") as file:
            header = file.read(160)
        token_bytes, num_tokens, start = (*struct.unpack_from("<I", header, 16), *struct.unpack_from("<Q", header, 72),
                                          *struct.unpack_from("<Q", header, 152))  # fmt: skip
        return np.memmap(self.path, f"<u{token_bytes}", "r", start, (num_tokens,))


def measure_sampler(
    path: str, seq_len: int = 1024, rows: int = 32, seconds: float = 1.0, repeats: int = 5
) -> dict[str, Any]:
    """Tokens per second of every loader, for batches of `rows` x `seq_len`; each turn takes about `seconds`."""
    task = Task(Path(path), seq_len, rows)
    folder = Path(mkdtemp())
    # Not before the end: threads of other loaders go on reading there.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    loaders, absent = open_loaders(task, folder)
    copied_per_s: list[float] = []
    tokens_per_s: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(repeats):
        copied_per_s.append(copy_speed(task, seconds / 4))
        for name, batches in loaders.items():
            tokens_per_s[name].append(speed(batches, task, seconds))
    figures = {name: statistics.median(values) for name, values in tokens_per_s.items()}
    copied = statistics.median(copied_per_s)
    others = max(value for name, value in figures.items() if not name.startswith("bulba"))
    table = Table("loader", "M tokens/s", "x best other", "share of memcpy", title=f"batches of {rows} x {seq_len}")
    shares = {}
    for name, value in sorted(figures.items(), key=lambda pair: -pair[1]):
        bytes_per_token = 24 if "ids" in name else 16
        shares[name] = value * bytes_per_token / copied
        table.add_row(name, f"{value / 1e6:.1f}", f"{value / others:.2f}", f"{shares[name]:.2f}")
    Console().print(table)
    for name, reason in absent.items():
        Console().print(f"{name} was not measured: {reason}")
    return {"tokens_per_s": figures, "memcpy_bytes_per_s": copied, "memcpy_share": shares, "absent": absent}


def speed(batches: Batches, task: Task, seconds: float) -> float:
    """Tokens per second of wall time; the first batch of a turn is not counted."""
    next(batches)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        next(batches)
        count += 1
    return count * task.rows * task.seq_len / (time.perf_counter() - started)


def copy_speed(task: Task, seconds: float) -> float:
    """Bytes per second that numpy copies between two batches of inputs and targets."""
    source, target = np.ones((2, task.rows, task.seq_len), np.int64), np.empty((2, task.rows, task.seq_len), np.int64)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        np.copyto(target, source)
        count += 1
    return count * target.nbytes / (time.perf_counter() - started)


def open_loaders(task: Task, folder: Path) -> tuple[dict[str, Batches], dict[str, str]]:
    """Every loader that can be had, ready to give batches, and why the others cannot."""
    makers: dict[str, Callable[[], Batches]] = {
        "bulba chunked": lambda: bulba(task, "chunked", ids=False),
        "bulba chunked, ids": lambda: bulba(task, "chunked", ids=True),
        "bulba packed, ids": lambda: bulba(task, "packed", ids=True),
        "bulba packed, ids, fresh tensors": lambda: bulba_tensors(task, "packed"),
        "numpy memmap crops": lambda: crops(task.tokens, task),
        "torch DataLoader, 0 workers": lambda: torch_loader(task, 0),
        "torch DataLoader, 2 workers": lambda: torch_loader(task, 2),
        "litdata": lambda: litdata_loader(task, folder / "litdata"),
        "mosaicml-streaming": lambda: streaming_loader(task, folder / "streaming"),
    }
    loaders, absent = {}, {}
    for name, make in makers.items():
        try:
            loaders[name] = make()
        except ImportError as error:
            absent[name] = str(error)
    return loaders, absent


def bulba(task: Task, mode: Mode, ids: bool) -> Batches:
    """The sampler, into buffers that are used again; `ids` adds positions and document numbers."""
    sampler = Sampler(TokenFile(task.path), task.seq_len, mode=mode, seed=1)
    inputs, targets = np.empty((2, task.rows, task.seq_len), np.int64)
    numbers = np.empty((2, task.rows, task.seq_len), np.int32)
    positions, documents = numbers if ids else (None, None)
    for number in itertools.count():
        sampler.fill(number * task.rows, task.rows, inputs, targets, positions, documents)
        yield inputs, targets, positions, documents


def bulba_tensors(task: Task, mode: Mode) -> Batches:
    """The sampler as training uses it: a fresh tensor for everything."""
    sampler = Sampler(TokenFile(task.path), task.seq_len, mode=mode, seed=1)
    for number in itertools.count():
        yield read_units(sampler, number * task.rows, task.rows)


def crops(tokens: NDArray[Any], task: Task, seed: int = 1) -> Batches:
    """Random crops of the mapped tokens, as many small trainers take them."""
    rng = np.random.default_rng(seed)
    while True:
        starts = rng.integers(0, len(tokens) - task.seq_len, task.rows)
        inputs = np.stack([tokens[start : start + task.seq_len].astype(np.int64) for start in starts])
        targets = np.stack([tokens[start + 1 : start + 1 + task.seq_len].astype(np.int64) for start in starts])
        yield torch.from_numpy(inputs), torch.from_numpy(targets)


class Crops(torch.utils.data.IterableDataset[Any]):
    """The same crops, for torch's DataLoader: whole batches, so that nothing is collated."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __iter__(self) -> Batches:
        worker = torch.utils.data.get_worker_info()
        return crops(self.task.tokens, self.task, seed=worker.id if worker else 0)


def torch_loader(task: Task, num_workers: int) -> Batches:
    return iter(torch.utils.data.DataLoader(Crops(task), batch_size=None, num_workers=num_workers))


def repeated(make: Callable[[], Any]) -> Batches:
    """Epoch after epoch."""
    while True:
        yield from make()


def litdata_loader(task: Task, folder: Path) -> Batches:
    """litdata with its loader for tokens, on a shuffled data set."""
    import litdata
    from litdata.streaming.item_loader import TokensLoader

    block, slice_tokens = task.seq_len + 1, 1 << 20
    litdata.optimize(
        fn=partial(tensor_of, task, slice_tokens),
        inputs=list(range(0, len(task.tokens), slice_tokens)),
        output_dir=str(folder),
        chunk_size=block * 8192,
        item_loader=TokensLoader(block_size=block),
        num_workers=1,
    )
    data = litdata.StreamingDataset(
        input_dir=str(folder), item_loader=TokensLoader(block_size=block), shuffle=True, drop_last=True
    )
    loader = litdata.StreamingDataLoader(data, batch_size=task.rows, drop_last=True, num_workers=0)
    return map(inputs_and_targets, repeated(lambda: loader))


def tensor_of(task: Task, count: int, start: int) -> torch.Tensor:
    """Tokens start .. start + count as litdata takes them; at the top level, for its processes."""
    return torch.from_numpy(task.tokens[start : start + count].astype(np.int32))


def streaming_loader(task: Task, folder: Path) -> Batches:
    """mosaicml-streaming with rows as arrays, shuffled."""
    from streaming import MDSWriter, StreamingDataset

    tokens, block = task.tokens, task.seq_len + 1
    with MDSWriter(out=str(folder), columns={"tokens": f"ndarray:{tokens.dtype.name}:{block}"}) as writer:
        for start in range(0, len(tokens) - block, task.seq_len):
            writer.write({"tokens": np.asarray(tokens[start : start + block])})
    data = StreamingDataset(local=str(folder), batch_size=task.rows, shuffle=True)

    def collate(rows: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        return inputs_and_targets(torch.from_numpy(np.stack([row["tokens"] for row in rows]).astype(np.int64)))

    loader = torch.utils.data.DataLoader(data, task.rows, drop_last=True, collate_fn=collate)
    return repeated(lambda: loader)


def inputs_and_targets(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two views of rows that are one token longer."""
    rows = rows.long()
    return rows[:, :-1], rows[:, 1:]


def measure_padding(path: str, rows: int = 32) -> dict[int, dict[str, Any]]:
    """Share of padding by row length: packed, bucketed, and the same pieces in micro-batches of random ones."""
    file = TokenFile(path)
    title = f"padding, micro-batches of {rows} rows"
    table = Table("seq_len", "packed", "bucketed", "random batches", "rows of one piece", "shapes", title=title)
    figures = {}
    for seq_len in (256, 512, 1024, 2048, 4096):
        packed = Sampler(file, seq_len, mode="packed")
        bucketed = Sampler(file, seq_len, mode="bucketed", rows_per_micro_batch=rows)
        lengths, alone = lengths_of_pieces(bucketed)
        figures[seq_len] = {
            "packed": packed.padding_frac,
            "bucketed": bucketed.padding_frac,
            "random": random_padding(lengths, rows),
            "rows_of_one_piece": alone,
            "shapes": bucketed.shapes,
        }
        shares = [f"{figures[seq_len][name]:.2%}" for name in ("packed", "bucketed", "random", "rows_of_one_piece")]
        table.add_row(str(seq_len), *shares, " ".join(f"{count}x{length}" for count, length in bucketed.shapes))
    Console().print(table)
    return figures


def lengths_of_pieces(sampler: Sampler) -> tuple[NDArray[np.int64], float]:
    """Length of every piece of an epoch, and the share of the rows that hold one piece alone."""
    lengths, rows, alone = [], 0, 0
    for number in range(sampler.num_units):
        pieces = sampler.pieces(number)
        counts = np.unique([piece.row for piece in pieces], return_counts=True)[1]
        lengths += [piece.length for piece in pieces]
        rows, alone = rows + len(counts), alone + int((counts == 1).sum())
    return np.array(lengths), alone / rows


def random_padding(lengths: NDArray[np.int64], rows: int) -> float:
    """Padding of micro-batches of random pieces, each as long as its longest one."""
    shuffled = np.random.default_rng(1).permutation(lengths)
    batches = shuffled[: len(shuffled) // rows * rows].reshape(-1, rows)
    return float(1 - batches.sum() / (batches.max(axis=1).sum() * rows)) if len(batches) else 0.0


def measure_large_file(gigabytes: float = 60, batches: int = 100_000, folder: str | None = None) -> dict[str, Any]:
    """The first batch of 32 x 1024 from a sparse file of this size, and how memory grows over `batches` batches."""
    place = Path(folder) if folder else None
    with TemporaryDirectory(dir=place) as temporary:
        path = Path(temporary) / "train.bin"
        write_sparse(path, round(gigabytes * 1e9))
        figures = {mode: large_file(path, mode, batches) for mode in ("chunked", "packed")}
    columns = ("mode", "first start ms", "first batch ms", "M tokens/s", "anonymous memory grew by MB")
    table = Table(*columns, title=f"a file of {gigabytes:g} GB")
    for mode, of_mode in figures.items():
        values = (of_mode["first_start_ms"], of_mode["first_batch_ms"], of_mode["tokens_per_s"] / 1e6)
        table.add_row(mode, *(f"{value:.1f}" for value in values), f"{of_mode['anonymous_growth_bytes'] / 1e6:.2f}")
    Console().print(table)
    return figures


def large_file(path: Path, mode: Mode, batches: int) -> dict[str, float]:
    """One mode: with the plan still to make, then with nothing of the files in memory, then over many batches."""
    arrays = [np.zeros((32, 1024), dtype) for dtype in (np.int64, np.int64, np.int32, np.int32)]

    def first_batch() -> tuple[Sampler, float]:
        started = time.perf_counter()
        sampler = Sampler(TokenFile(path), 1024, mode=mode, seed=1)
        sampler.fill(0, 32, *arrays)
        return sampler, (time.perf_counter() - started) * 1e3

    _, first_start_ms = first_batch()
    for file in path.parent.iterdir():
        forget(file)
    sampler, first_batch_ms = first_batch()
    before, started = anonymous_bytes(), time.perf_counter()
    for number in range(1, batches):
        sampler.fill(number * 32, 32, *arrays)
    seconds = time.perf_counter() - started
    return {
        "first_start_ms": first_start_ms,
        "first_batch_ms": first_batch_ms,
        "tokens_per_s": (batches - 1) * 32 * 1024 / seconds,
        "anonymous_growth_bytes": anonymous_bytes() - before,
    }


def forget(path: Path) -> None:
    """Asks the system to drop what it holds of a file in memory."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def anonymous_bytes() -> int:
    """Memory of this process that no file stands behind."""
    info = psutil.Process().memory_info()
    return info.rss - getattr(info, "shared", 0)


def write_sparse(path: Path, size_bytes: int, document_tokens: int = 1000) -> None:
    """A token file of this size in which every id is 0 and only the header and the offsets take room on the disk.

    Its blocks have no checksums, so `verify` would refuse it. Raises DataError without xxhash or without room.
    """
    try:
        import xxhash
    except ImportError as error:
        raise DataError("a sparse token file needs xxhash for its header: uv pip install 'bulba[hub]'") from error
    num_documents = size_bytes // 2 // document_tokens
    offsets_bytes = 8 * (num_documents + 1)
    if shutil.disk_usage(path.parent).free < 4 * offsets_bytes:
        raise DataError(f"{path.parent} has no room for the {4 * offsets_bytes} bytes of a sparse file: set folder=...")
    table = json.dumps({"sources": [{"name": "sparse", "files": ["sparse"]}]}).encode()
    lengths = [len(table), 16, offsets_bytes, 4 * num_documents, num_documents, 2 * num_documents * document_tokens]
    starts = [256]
    for length in lengths:
        starts.append((starts[-1] + length + 63) // 64 * 64)
    blocks = sum(-(-(stop - start) // (16 << 20)) for start, stop in itertools.pairwise(starts))
    counts = (num_documents * document_tokens, num_documents, 0, 1, len(table), *starts, starts[-1] + 8 * blocks, 0)
    ids = (2, 256, 2, 1000, 0, 1, 2, 1)
    header = struct.pack("<8s8I32s14Q", b"BULBATOK", *ids, bytes(32), *counts).ljust(248, b"\0")
    with path.open("wb") as file:
        file.truncate(starts[-1] + 8 * blocks)
        file.write(header + struct.pack("<Q", xxhash.xxh3_64_intdigest(header)) + table)
        file.seek(starts[1])
        file.write(struct.pack("<2Q", 0, num_documents))
        file.seek(starts[2])
        for first in range(0, num_documents + 1, 1 << 20):
            places = np.arange(first, min(first + (1 << 20), num_documents + 1), dtype=np.uint64)
            file.write((places * np.uint64(document_tokens)).tobytes())
