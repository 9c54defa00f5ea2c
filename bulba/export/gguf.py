"""GGUF, the file of llama.cpp, LM Studio and ollama, written straight from model.safetensors.

No converter script is involved: the `gguf` package writes the metadata and the tensors, block of rows by block of
rows, so that memory does not grow with the model. Arch `llama` turns adjacent pairs of a head's dimensions where
Bulba pairs d with d + D/2, so the rows of q and k are written in that order. Norms and biases stay f32; a tied head
is left out. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.

Every file is tried in llama.cpp itself (bulba/export/verify.py) before it gets its name.
It does not write K-quants, chat templates or rotary scaling.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from bulba.errors import ExportError
from bulba.export.llama import LlamaShape, LlamaTensor, check_tensors, llama_tensors, read_llama
from bulba.export.llama_cpp import load_library
from bulba.export.optional import need
from bulba.export.tensor_file import TensorFile
from bulba.export.vocab import PRE_TOKENIZER, Vocab, read_vocab
from bulba.files import atomic_file

GgufType = Literal["f32", "f16", "bf16", "q8_0"]
Q8_BLOCK = 32  # elements that share one scale in q8_0; a row of another length cannot be stored so
# The largest magnitude of each type; the scale of q8_0 is an f16.
LARGEST: dict[GgufType, float] = {"f32": 3.4e38, "bf16": 3.38e38, "f16": 65504.0, "q8_0": 127 * 65504.0}
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
    Raises UnsupportedError for a model that is not a Llama, and ExportError for weights that do not fit the type or
    for a file that behaves otherwise; that file stays as `*.gguf.rejected`.
    """
    need("gguf", "the GGUF export")
    if verify:
        # Before minutes are spent on a file that cannot be checked.
        load_library()
    shape = read_llama(checkpoint, "a GGUF file")
    vocab = read_vocab(tokenizer)
    path = out.with_name(f"{out.name}-{type}.gguf")
    with atomic_file(path) as temporary:
        write_gguf(checkpoint, shape, vocab, temporary, type, name=out.name, license=license)
        if verify:
            # Here, so that writing a file needs no torch.
            from bulba.export.verify import verify_gguf

            verify_gguf(temporary, path, checkpoint, tokenizer, type)
    if not verify:
        print(f"{path} was not tried in llama.cpp, because verify=false", flush=True)
    return path


def write_gguf(
    checkpoint: Path,
    shape: LlamaShape,
    vocab: Vocab,
    path: Path,
    type: GgufType,
    name: str,
    license: str | None = None,
) -> None:
    """Write the file itself."""
    if len(vocab.tokens) != shape.vocab_size:
        raise ExportError(
            f"the tokenizer has {len(vocab.tokens)} tokens and {checkpoint} {shape.vocab_size} rows: export with the "
            "tokenizer that the model was trained with."
        )
    gguf = need("gguf", "the GGUF export")
    tensors = llama_tensors(shape)
    with TensorFile(checkpoint / "model.safetensors") as source:
        check_tensors(source.shapes, tensors, checkpoint, "a GGUF file")
        streams = [TensorStream(source, tensor, stored_type(tensor, type), shape.head_dim) for tensor in tensors]
        fallback = [stream.tensor.gguf_name for stream in streams if stream.is_fallback(type)]
        if fallback:
            print(
                f"{len(fallback)} tensors have rows that are not a multiple of {Q8_BLOCK} and are stored as f16, "
                f"not {type}: {', '.join(fallback)}",
                flush=True,
            )
        writer = gguf.GGUFWriter(path, "llama")
        add_metadata(writer, gguf, shape, vocab, type, name, license)
        writer.add_array("bulba.fallback_f16", fallback)
        for stream in streams:
            writer.add_tensor_info(
                stream.tensor.gguf_name,
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


def add_metadata(
    writer: Any, gguf: Any, shape: LlamaShape, vocab: Vocab, type: GgufType, name: str, license: str | None
) -> None:
    """What llama.cpp must know; what is left out here it would silently guess."""
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    if license:
        writer.add_license(license)
    writer.add_file_type(_file_types(gguf)[type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(shape.num_layers)
    writer.add_context_length(shape.max_seq_len)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.num_heads)
    writer.add_head_count_kv(shape.num_kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_vocab_size(shape.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(vocab.tokens)
    kinds = [gguf.TokenType.NORMAL] * len(vocab.tokens)
    for token in vocab.control:
        kinds[token] = gguf.TokenType.CONTROL
    for token in vocab.user_defined:
        kinds[token] = gguf.TokenType.USER_DEFINED
    writer.add_token_types(kinds)
    writer.add_token_merges(vocab.merges)
    writer.add_bos_token_id(vocab.bos_id)
    writer.add_eos_token_id(vocab.eos_id)
    if vocab.pad_id is not None:
        writer.add_pad_token_id(vocab.pad_id)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)


def stored_type(tensor: LlamaTensor, type: GgufType) -> GgufType:
    """How a tensor is stored in a file of `type`."""
    if len(tensor.shape) == 1:
        return "f32"
    if type == "q8_0" and tensor.shape[-1] % Q8_BLOCK:
        return "f16"
    return type


@dataclass(frozen=True)
class TensorStream:
    """A tensor on its way into the file; to GGUFWriter it looks like an array with `nbytes` and `tofile`."""

    source: TensorFile
    tensor: LlamaTensor
    type: GgufType
    head_dim: int

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
        return len(self.tensor.shape) > 1 and self.type != type

    def tofile(self, file: BinaryIO) -> None:
        quants = need("gguf.quants", "the GGUF export")
        for rows in self.row_blocks():
            largest = np.abs(rows).max()
            # Not `>`: NaN must not pass.
            if not largest <= LARGEST[self.type]:
                raise ExportError(
                    f"{self.tensor.hf_name} has values up to {largest:.3g}, which {self.type} cannot hold: export with "
                    "type=bf16 or f32, or from an earlier checkpoint."
                )
            # Not ndarray.tofile: its OSError does not say that the disk is full.
            file.write(np.ascontiguousarray(quants.quantize(rows, self.ggml_type)).data)

    def row_blocks(self) -> Iterator[NDArray[np.float32]]:
        """The tensor in fp32, some rows at a time and never part of a head."""
        shape = self.tensor.shape
        name = self.tensor.hf_name
        if name not in self.source.shapes:
            assert self.tensor.default is not None, "check_tensors lets only gains be absent"
            yield np.full(shape, self.tensor.default, np.float32)
            return
        row_bytes = 4 * int(np.prod(shape[1:], dtype=np.int64))
        step = max(BLOCK_BYTES // row_bytes // self.head_dim, 1) * self.head_dim
        for start in range(0, shape[0], step):
            block = self.source.rows(name, start, min(start + step, shape[0]))
            yield interleave_halves(block, self.head_dim) if self.tensor.rotary_heads else block


def interleave_halves(rows: NDArray[np.float32], head_dim: int) -> NDArray[np.float32]:
    """Reorder the rows of every head from (0, 1, ..) to (0, D/2, 1, D/2 + 1, ..): [heads * D, ...] -> same."""
    halves = rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def _file_types(gguf: Any) -> dict[GgufType, int]:
    kinds = gguf.LlamaFileType
    return {
        "f32": kinds.ALL_F32,
        "f16": kinds.MOSTLY_F16,
        "bf16": kinds.MOSTLY_BF16,
        "q8_0": kinds.MOSTLY_Q8_0,
    }
