"""A safetensors file read some rows at a time, as fp32, and written so.

The `safetensors` package either maps the file, so that memory grows to its size, or reads a whole tensor for every
slice of it, and it writes only what is in memory as a whole. Format: 8 bytes length, a JSON header of that length with
dtype, shape and place of every tensor, data (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bulba.errors import CheckpointError

# numpy has no bf16: the upper half of an fp32.
DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


class TensorFile:
    """An open safetensors file, for several threads; close it, or use it in a `with`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb", buffering=0)
        length = int.from_bytes(self._file.read(8), "little")
        try:
            self._entries = json.loads(self._file.read(length))
        except ValueError as error:
            self._file.close()
            raise CheckpointError(f"{path} is not a safetensors file: use another checkpoint of the run.") from error
        self._entries.pop("__metadata__", None)
        self._start = 8 + length
        self._reading = Lock()

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's name and shape."""
        return {name: tuple(entry["shape"]) for name, entry in self._entries.items()}

    def rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop` of a tensor in fp32; CheckpointError for a dtype that is not a float."""
        entry = self._entries[name]
        if entry["dtype"] not in DTYPES:
            raise CheckpointError(f"{name} in {self.path} has dtype {entry['dtype']}, not one of {', '.join(DTYPES)}.")
        dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
        width = int(np.prod(shape[1:], dtype=np.int64))
        with self._reading:
            self._file.seek(self._start + entry["data_offsets"][0] + start * width * dtype.itemsize)
            values = np.fromfile(self._file, dtype, (stop - start) * width).reshape(stop - start, *shape[1:])
        if entry["dtype"] == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32, copy=False)


def write_tensor_file(
    path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str, blocks: Iterable[NDArray[Any]]
) -> None:
    """Write a safetensors file whose tensors are all of `dtype`, one of DTYPES.

    blocks: the numbers of all tensors in the order of `shapes`.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * DTYPES[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of 8
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for block in blocks:
            file.write(block.data)
