"""GGUF, the file of llama.cpp, LM Studio and ollama, written straight from model.safetensors.

No converter script is involved: the `gguf` package writes the metadata and the tensors of the architecture that the
model is to llama.cpp (bulba/export/architecture.py), block of rows by block of rows, so that memory does not grow with
the model. Norms and biases stay f32; a tied head is left out. In types of 4 and 5 bits the embedding and the output
matrix have 8. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.

Every file is tried in llama.cpp itself (bulba/export/verify.py) before it gets its name.
It does not write K-quants or chat templates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np

from bulba.errors import ConfigError, ExportError
from bulba.export.architecture import Architecture, GgufTensor, Part, Rows, Storage, check_tensors, read_architecture
from bulba.export.llama_cpp import load_library
from bulba.export.optional import need
from bulba.export.tensor_file import TensorFile
from bulba.export.vocab import PRE_TOKENIZER, Vocab, read_vocab
from bulba.files import atomic_file

GgufType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
BLOCK_TYPES: tuple[GgufType, ...] = ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
BLOCK = 32  # elements that share the scale of a block type; a row of another length cannot be stored so
F16_MAX = 65504.0
# The largest magnitude of each type. Scales are f16, and with a lowest value beside them that is one too.
LARGEST: dict[GgufType, float] = {
    "f32": 3.4e38,
    "bf16": 3.38e38,
    "f16": F16_MAX,
    "q8_0": 127 * F16_MAX,
    "q5_1": F16_MAX,
    "q5_0": 16 * F16_MAX,
    "q4_1": F16_MAX,
    "q4_0": 8 * F16_MAX,
}
BLOCK_BYTES = 8 << 20  # how much of a tensor is in memory at once, as fp32


def export_gguf(
    checkpoint: Path,
    tokenizer: Path,
    out: Path,
    type: GgufType,
    license: str | None = None,
    verify: bool = True,
) -> Path:
    """Write `OUT-TYPE.gguf` and prove in llama.cpp that it behaves as the checkpoint does.

    checkpoint: a checkpoint folder. tokenizer: its tokenizer.json. type: how matrices are stored. license: an SPDX
    name for the metadata. verify: False leaves the proof out and says so.
    Raises UnsupportedError for a model that llama.cpp has no architecture for, and ExportError for weights that do not
    fit the type or for a file that behaves otherwise; that file stays as `*.gguf.rejected`.
    """
    if type not in get_args(GgufType):
        raise ConfigError(f"export.gguf.type={type} must be one of {', '.join(get_args(GgufType))}.")
    need("gguf", "the GGUF export")
    if verify:
        # Before minutes are spent on a file that cannot be checked.
        load_library()
    model = read_architecture(checkpoint, "a GGUF file")
    vocab = read_vocab(tokenizer)
    path = out.with_name(f"{out.name}-{type}.gguf")
    with atomic_file(path) as temporary:
        write_gguf(checkpoint, model, vocab, temporary, type, name=out.name, license=license)
        if verify:
            # Here, so that writing a file needs no torch.
            from bulba.export.verify import verify_gguf

            verify_gguf(temporary, path, checkpoint, tokenizer, type)
    if not verify:
        print(f"{path} was not tried in llama.cpp, because verify=false", flush=True)
    if model.difference:
        print(f"{path.name} is of architecture {model.name}, and {model.difference}", flush=True)
    return path


def write_gguf(
    checkpoint: Path,
    model: Architecture,
    vocab: Vocab,
    path: Path,
    type: GgufType,
    name: str,
    license: str | None = None,
) -> None:
    """Write the file itself."""
    if len(vocab.tokens) != model.config["vocab_size"]:
        raise ExportError(
            f"the tokenizer has {len(vocab.tokens)} tokens and {checkpoint} {model.config['vocab_size']} rows: export "
            "with the tokenizer that the model was trained with."
        )
    gguf = need("gguf", "the GGUF export")
    with TensorFile(checkpoint / "model.safetensors") as source:
        check_tensors(source.shapes, model.tensors, checkpoint, "a GGUF file")
        streams = [
            TensorStream(source, tensor, stored_type(tensor.storage, type, tensor.shape[-1]))
            for tensor in model.tensors
        ]
        fallback = [stream.tensor.name for stream in streams if stream.is_fallback(type)]
        if fallback:
            print(
                f"{len(fallback)} tensors have rows that are not a multiple of {BLOCK} and are stored as f16, "
                f"not {type}: {', '.join(fallback)}",
                flush=True,
            )
        writer = gguf.GGUFWriter(path, model.name)
        about = {"general.name": name} | ({"general.license": license} if license else {})
        add_metadata(writer, about | file_metadata(model, vocab, type) | {"bulba.fallback_f16": fallback})
        for stream in streams:
            writer.add_tensor_info(
                stream.tensor.name,
                stream.tensor.shape,
                np.float32,
                stream.nbytes,
                raw_dtype=stream.ggml_type,
            )
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for stream in streams:
                writer.write_tensor_data(stream)
        finally:
            writer.close()


def file_metadata(model: Architecture, vocab: Vocab, type: GgufType) -> dict[str, Any]:
    """What llama.cpp must know, by key; what is left out here it would silently guess."""
    gguf = need("gguf", "the GGUF export")
    kinds = [int(gguf.TokenType.NORMAL)] * len(vocab.tokens)
    for token in vocab.control:
        kinds[token] = int(gguf.TokenType.CONTROL)
    for token in vocab.user_defined:
        kinds[token] = int(gguf.TokenType.USER_DEFINED)
    found: dict[str, Any] = {
        "general.type": "model",
        "general.file_type": int(file_types()[type]),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        **model.metadata,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": PRE_TOKENIZER,
        "tokenizer.ggml.tokens": vocab.tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": vocab.merges,
        "tokenizer.ggml.bos_token_id": vocab.bos_id,
        "tokenizer.ggml.eos_token_id": vocab.eos_id,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
    }
    if vocab.pad_id is not None:
        found["tokenizer.ggml.padding_token_id"] = vocab.pad_id
    if model.difference:
        found["bulba.difference"] = model.difference
    return found


def add_metadata(writer: Any, metadata: dict[str, Any]) -> None:
    """Write it down, each value as the type that llama.cpp reads."""
    add = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    for key, value in metadata.items():
        add[value.__class__](key, value)


def stored_type(storage: Storage, type: GgufType, width: int) -> GgufType:
    """How a tensor with rows of `width` is stored in a file of `type`."""
    if storage == "f32":
        return "f32"
    if storage == "wide" and type != "f32":
        return "bf16"
    if type not in BLOCK_TYPES:
        return type
    if width % BLOCK:
        return "f16"
    return "q8_0" if storage == "head" else type


@dataclass(frozen=True)
class TensorStream:
    """A tensor on its way into the file; to GGUFWriter it looks like an array with `nbytes` and `tofile`."""

    source: TensorFile
    tensor: GgufTensor
    type: GgufType

    @property
    def ggml_type(self) -> Any:
        gguf = need("gguf", "the GGUF export")
        return gguf.GGMLQuantizationType[self.type.upper()]

    @property
    def nbytes(self) -> int:
        gguf = need("gguf", "the GGUF export")
        block, block_bytes = gguf.GGML_QUANT_SIZES[self.ggml_type]
        return int(np.prod(self.tensor.shape)) // block * block_bytes

    def is_fallback(self, type: GgufType) -> bool:
        return type in BLOCK_TYPES and self.type == "f16"

    def tofile(self, file: BinaryIO) -> None:
        quants = need("gguf.quants", "the GGUF export")
        for part in self.tensor.parts:
            for rows in self.row_blocks(part):
                # Not ndarray.tofile: its OSError does not say that the disk is full.
                file.write(np.ascontiguousarray(quants.quantize(rows, self.ggml_type)).data)

    def row_blocks(self, part: Part) -> Iterator[Rows]:
        """Rows of a part in fp32, some at a time; ExportError for values that the type cannot hold."""
        for rows in part.blocks(self.source, BLOCK_BYTES):
            largest = np.abs(rows).max()
            # Not `>`: NaN must not pass.
            if not largest <= LARGEST[self.type]:
                raise ExportError(
                    f"{getattr(part, 'name', self.tensor.name)} has values up to {largest:.3g}, which {self.type} "
                    "cannot hold: export with type=bf16 or f32, or from an earlier checkpoint."
                )
            yield rows


def file_types() -> dict[GgufType, int]:
    """The numbers of general.file_type."""
    kinds = need("gguf", "the GGUF export").LlamaFileType
    return {
        "f32": kinds.ALL_F32,
        "f16": kinds.MOSTLY_F16,
        "bf16": kinds.MOSTLY_BF16,
        "q8_0": kinds.MOSTLY_Q8_0,
        "q5_1": kinds.MOSTLY_Q5_1,
        "q5_0": kinds.MOSTLY_Q5_0,
        "q4_1": kinds.MOSTLY_Q4_1,
        "q4_0": kinds.MOSTLY_Q4_0,
    }
