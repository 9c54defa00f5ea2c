"""The types in which GGUF files store numbers, and which of them each tensor gets in a file of a type.

f32, f16 and bf16 are single numbers. The others are blocks of numbers that share a scale: of 32 (q8_0 ... q4_0;
x ~ d q, with _1 x ~ d q + m; iq4_nl, whose levels are not evenly spaced), or of 256 with scales of scales (K-quants and
the other IQ types, which take their levels from tables). q8_0 to q4_0 are made by the `gguf` package, the others, and
all of them where an importance matrix weighs the errors (bulba/export/importance.py), by llama.cpp's own code in
`xllamacpp`. A file of a type is a mixture (after llama.cpp's llama-quant.cpp): the embedding and the output matrix have
at least 6 bits, because every word hangs on them, and types of 5 bits and fewer give more to the values and the last
matrix of the feed-forward in half of the layers. Norms, biases and tables stay f32.

A row that is no whole number of blocks falls back, as there: q6_k to q8_0, q5_k to q5_1, q4_k to q5_0, those of fewer
bits to iq4_nl, and f16 where 32 does not divide it either.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bulba import _rust
from bulba.export.llama_cpp import load_library
from bulba.export.optional import need

SingleType = Literal["f32", "f16", "bf16"]
# Blocks of 32 that the `gguf` package makes.
PlainType = Literal["q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
# Blocks of 256.
KType = Literal["q6_k", "q5_k", "q4_k", "q3_k", "iq4_xs", "iq3_s", "iq3_xxs"]
TensorType = SingleType | PlainType | KType | Literal["iq4_nl"]
GgufType = Literal[
    "f32",
    "f16",
    "bf16",
    "q8_0",
    "q6_k",
    "q5_k_m",
    "q5_1",
    "q5_0",
    "q4_k_m",
    "q4_1",
    "q4_0",
    "iq4_nl",
    "iq4_xs",
    "q3_k_m",
    "iq3_s",
    "iq3_xxs",
]
GGUF_TYPES: tuple[GgufType, ...] = get_args(GgufType)
# matrix: most of them. precise: one that small errors of cost most. head: the embedding and the output matrix. wide:
# numbers that need the range of bf16. f32: always that.
Storage = Literal["matrix", "precise", "head", "wide", "f32"]
K_TYPES: tuple[TensorType, ...] = get_args(KType)
SINGLE_TYPES: tuple[TensorType, ...] = get_args(SingleType)
PLAIN_TYPES: tuple[TensorType, ...] = get_args(PlainType)
# matrix, precise and head of the files that are mixtures; the others have one type for all three.
MIXTURES: dict[GgufType, tuple[TensorType, TensorType, TensorType]] = {
    "q5_k_m": ("q5_k", "q6_k", "q6_k"),
    "q5_1": ("q5_1", "q5_1", "q8_0"),
    "q5_0": ("q5_0", "q5_0", "q8_0"),
    "q4_k_m": ("q4_k", "q6_k", "q6_k"),
    "q4_1": ("q4_1", "q4_1", "q8_0"),
    "q4_0": ("q4_0", "q4_0", "q8_0"),
    "iq4_nl": ("iq4_nl", "q5_k", "q6_k"),
    "iq4_xs": ("iq4_xs", "q5_k", "q6_k"),
    "q3_k_m": ("q3_k", "q4_k", "q6_k"),
    "iq3_s": ("iq3_s", "q4_k", "q6_k"),
    "iq3_xxs": ("iq3_xxs", "q4_k", "q6_k"),
}
FALLBACK: dict[TensorType, TensorType] = dict.fromkeys(K_TYPES, "iq4_nl")
FALLBACK |= {"q6_k": "q8_0", "q5_k": "q5_1", "q4_k": "q5_0"}
# What an error of each column of a matrix costs, fp32 [width], by the name of the tensor in the file.
Importances = Mapping[str, NDArray[np.float32]]
BLOCK, K_BLOCK = 32, 256
F16_MAX = 65504.0
# The largest magnitude of each type. Scales are f16, and with a lowest value beside them that is one too.
LARGEST: dict[TensorType, float] = {
    "f32": 3.4e38,
    "bf16": 3.38e38,
    "f16": F16_MAX,
    "q8_0": 127 * F16_MAX,
    "q5_1": F16_MAX,
    "q5_0": 16 * F16_MAX,
    "q4_1": F16_MAX,
    "q4_0": 8 * F16_MAX,
    **dict.fromkeys((*K_TYPES, "iq4_nl"), F16_MAX),
}


def wanted_type(storage: Storage, type: GgufType) -> TensorType:
    """How a tensor is stored in a file of `type` if its rows are whole blocks."""
    if storage == "f32":
        return "f32"
    if storage == "wide" and type != "f32":
        return "bf16"
    if type not in MIXTURES:
        return type  # type: ignore[return-value]
    return dict(zip(("matrix", "precise", "head"), MIXTURES[type], strict=True))[storage]


def stored_type(storage: Storage, type: GgufType, width: int) -> TensorType:
    """How a tensor with rows of `width` is stored in a file of `type`."""
    wanted = wanted_type(storage, type)
    if wanted in K_TYPES and width % K_BLOCK:
        wanted = FALLBACK[wanted]
    return "f16" if wanted not in SINGLE_TYPES and width % BLOCK else wanted


def takes_importance(type: GgufType) -> bool:
    """Whether an importance matrix changes what a file of `type` holds; the others round too little to choose."""
    return type not in (*SINGLE_TYPES, "q8_0")


def has_more_bits(layer: int, num_layers: int) -> bool:
    """Whether a K mixture is precise in a layer: in the first and the last eighth, and in every third one between."""
    return layer < num_layers // 8 or layer >= 7 * num_layers // 8 or (layer - num_layers // 8) % 3 == 2


def quantize(
    rows: NDArray[np.float32], type: TensorType, importance: NDArray[np.float32] | None = None
) -> NDArray[Any]:
    """fp32 [n, width] -> the bytes of a file, or numbers for single types; width is a whole number of blocks.

    importance: [width], what an error of each column costs.
    """
    if type == "f16":
        halves = np.empty(rows.shape, np.float16)
        _rust.round_to_half(np.ascontiguousarray(rows), halves.view(np.uint16))
        return halves
    if type in SINGLE_TYPES or (type in PLAIN_TYPES and importance is None):
        stored: NDArray[Any] = need("gguf.quants", "the GGUF export").quantize(rows, ggml_type(type))
        return np.ascontiguousarray(stored)
    rows = np.ascontiguousarray(rows, np.float32)
    out = np.empty((len(rows), num_bytes(type, rows.shape[1])), np.uint8)
    pointers = [None if x is None else x.ctypes.data_as(ctypes.c_void_p) for x in (rows, out, importance)]
    written = load_library().ggml_quantize_chunk(int(ggml_type(type)), *pointers[:2], 0, *rows.shape, pointers[2])
    assert written == out.nbytes, "llama.cpp and gguf know the same blocks"
    return out


def dequantize(stored: NDArray[Any], type: TensorType) -> NDArray[np.float32]:
    """The inverse of `quantize`, but for what rounding has lost."""
    values: NDArray[np.float32] = need("gguf.quants", "the GGUF export").dequantize(stored, ggml_type(type))
    return values


def ggml_type(type: TensorType) -> Any:
    """llama.cpp's number of a type."""
    return need("gguf", "the GGUF export").GGMLQuantizationType[type.upper()]


def num_bytes(type: TensorType, size: int) -> int:
    """Of `size` numbers, whole blocks."""
    block, block_bytes = need("gguf", "the GGUF export").GGML_QUANT_SIZES[ggml_type(type)]
    return size // int(block) * int(block_bytes)


def file_types() -> dict[GgufType, int]:
    """The numbers of general.file_type."""
    kinds = need("gguf", "the GGUF export").LlamaFileType
    return {type: int(kinds["ALL_F32" if type == "f32" else f"MOSTLY_{type.upper()}"]) for type in GGUF_TYPES}
