"""What stands in a GGUF file, held against the checkpoint: every key of the metadata and every number of the tensors.

A tensor is read back to fp32 and may be as far from the checkpoint as its own type makes it (`LIMITS`). One that is
further away is tried for the mistakes that converters make, so that the sentence names the cause: rows that were not
reordered, or the numbers of another tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bulba.export.architecture import GgufTensor, Rows, Weight
from bulba.export.optional import need
from bulba.export.tensor_file import TensorFile

# Root mean square of the error over that of the weights: about twice what rounding costs weights drawn from a normal
# distribution. Types that are not here, those of fewer bits, have OTHER_LIMIT.
LIMITS = {"F32": 0.0, "F16": 1e-3, "BF16": 4e-3, "Q8_0": 0.012, "Q6_K": 0.04, "Q5_1": 0.08, "Q5_0": 0.09, "Q5_K": 0.08}
LIMITS |= {"Q4_1": 0.16, "Q4_0": 0.18, "Q4_K": 0.16, "IQ4_NL": 0.16, "IQ4_XS": 0.16, "Q3_K": 0.32, "IQ3_S": 0.34}
OTHER_LIMIT = 0.5
# They say how numbers are stored; the tensors are looked at themselves.
NOT_COMPARED = ("general.file_type", "general.quantization_version")


def metadata_fault(fields: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """The first key that is not what the checkpoint says, as a sentence without its full stop; others may stand."""
    for key, value in expected.items():
        if key in NOT_COMPARED:
            continue
        if key not in fields:
            return f"the metadata {key} is absent where the checkpoint has {short(value)}"
        if not equal(fields[key], value):
            return f"the metadata {key} is {short(fields[key])} where the checkpoint has {short(value)}"
    return None


def equal(found: Any, expected: Any) -> bool:
    """Floats are compared as fp32, in which they are stored."""
    if isinstance(expected, float) or (isinstance(expected, list) and expected and isinstance(expected[0], float)):
        return bool(np.array_equal(np.asarray(found, np.float32), np.asarray(expected, np.float32)))
    return bool(found == expected and isinstance(found, bool) == isinstance(expected, bool))


def short(value: Any) -> str:
    """A value, or the length of a long list."""
    return f"a list of {len(value)}" if isinstance(value, list) and len(value) > 8 else repr(value)


def tensors_fault(reader: Any, checkpoint: Path, expected: list[GgufTensor]) -> str | None:
    """The first tensor of a GGUFReader that is not the checkpoint's, as a sentence without its full stop."""
    gguf = need("gguf", "the check of a GGUF file")
    found = {tensor.name: tensor for tensor in reader.tensors}
    names = {tensor.name for tensor in expected}
    if found.keys() != names:
        missing, more = sorted(names - found.keys()), sorted(found.keys() - names)
        what = f"it lacks the tensor {missing[0]}" if missing else f"it has the tensor {more[0]}"
        return f"{what}, and the model has {len(names)} tensors"
    with TensorFile(checkpoint / "model.safetensors") as source:
        for tensor in expected:
            stored = found[tensor.name]
            shape = tuple(int(size) for size in reversed(stored.shape))
            if shape != tensor.shape:
                return f"the tensor {tensor.name} is {size_of(shape)} where the checkpoint has {size_of(tensor.shape)}"
            values = gguf.quants.dequantize(stored.data, stored.tensor_type).reshape(shape)
            limit = LIMITS.get(stored.tensor_type.name, OTHER_LIMIT)
            error = relative_error(values, whole(tensor, source))
            # Not `>`: NaN must not pass.
            if not error <= limit:
                cause = cause_of(values, tensor, expected, source, limit)
                return (
                    f"the tensor {tensor.name} is {error:.2g} of its size away from the checkpoint, and "
                    f"{stored.tensor_type.name.lower()} explains no more than {limit:g}{cause}"
                )
    return None


def whole(tensor: GgufTensor, source: TensorFile) -> Rows:
    """The tensor as it should be, in fp32."""
    return np.concatenate([part.rows(source, 0, part.shape[0]) for part in tensor.parts])


def relative_error(found: Rows, expected: Rows) -> float:
    """Root mean square of the difference over that of what is expected; 0 for equal zeros."""
    difference = float(np.sqrt(np.mean(np.square(found - expected, dtype=np.float64))))
    size = float(np.sqrt(np.mean(np.square(expected, dtype=np.float64))))
    return difference / size if size else (0.0 if difference == 0 else float("inf"))


def cause_of(values: Rows, tensor: GgufTensor, others: list[GgufTensor], source: TensorFile, limit: float) -> str:
    """A known mistake that explains the numbers, or nothing."""
    if any(isinstance(part, Weight) and part.change for part in tensor.parts):
        raw = [source.rows(part.name, 0, part.shape[0]) for part in tensor.parts if isinstance(part, Weight)]
        plain = np.concatenate(raw)
        if plain.shape == values.shape and relative_error(values, plain) <= limit:
            return ": its rows are in the order of the checkpoint, and were not changed as this architecture needs it"
    for other in others:
        is_other = other.name != tensor.name and other.shape == tensor.shape
        if is_other and relative_error(values, whole(other, source)) <= limit:
            return f": it holds what belongs into {other.name}"
    return ""


def size_of(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
