"""GGUF, the file of llama.cpp, LM Studio and ollama, written straight from model.safetensors.

No converter script is involved: the `gguf` package writes the metadata and the tensors of the architecture that the
model is to llama.cpp (bulba/export/architecture.py), block of rows by block of rows, so that memory does not grow with
the model. How numbers are stored is in bulba/export/types.py; a tied head is left out.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.

Every file is tried in llama.cpp itself (bulba/export/verify.py) before it gets its name, and llama.cpp's own converter
can be asked for the same file (bulba/export/witness.py).
A chat template is written for models that were trained to chat (bulba/export/chat.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bulba.errors import ConfigError, ExportError
from bulba.export.architecture import Architecture, GgufTensor, Part, Rows, check_tensors, read_architecture
from bulba.export.blocks import made_ahead, row_ranges
from bulba.export.chat import Chat, read_chat
from bulba.export.llama_cpp import load_library
from bulba.export.optional import need
from bulba.export.run_facts import read_facts
from bulba.export.sampling import gguf_sampling
from bulba.export.tensor_file import TensorFile
from bulba.export.types import (
    GGUF_TYPES,
    LARGEST,
    GgufType,
    Importances,
    TensorType,
    file_types,
    ggml_type,
    num_bytes,
    quantize,
    takes_importance,
    wanted_type,
)
from bulba.export.vocab import PRE_TOKENIZER, Vocab, check_num_tokens, read_vocab
from bulba.files import atomic_file

UNPROVED = "-unproved"  # in the name of a file that was not tried
CHAT_TEMPLATE = "tokenizer.chat_template"

# llama.cpp looks for them in general.name and changes special tokens (llama-vocab.cpp); without Phi-3's it fails.
NAMES_OF_OTHERS = ("phi-3", "phi3", "modern-bert")


def export_gguf(
    checkpoint: Path,
    tokenizer: Path,
    out: Path,
    type: GgufType,
    license: str | None = None,
    verify: bool = True,
    imatrix: str | None = None,
    llama_cpp: str | None = None,
) -> Path:
    """Write `OUT-TYPE.gguf` and prove in llama.cpp that it behaves as the checkpoint does.

    One that was not proved, for verify=False or for want of xllamacpp, is `OUT-TYPE-unproved.gguf`, and that is said.

    checkpoint: a checkpoint folder. tokenizer: its tokenizer.json. type: how matrices are stored. license: an SPDX
    name for the metadata. verify: False leaves the proof out. imatrix: a text for the importance matrix
    (bulba/export/importance.py), which is kept as `OUT-TYPE.imatrix.gguf`; None for none. llama_cpp: where its own
    converter is, to be a second witness (bulba/export/witness.py); None for none.
    Raises UnsupportedError for a model that llama.cpp has no architecture for, and ExportError for weights that do not
    fit the type or for a file that behaves otherwise; that file stays as `*.gguf.rejected`.
    """
    if type not in GGUF_TYPES:
        raise ConfigError(f"export.gguf.type={type} must be one of {', '.join(GGUF_TYPES)}.")
    if imatrix is not None and not takes_importance(type):
        raise ConfigError(f"export.gguf.imatrix does nothing for type={type}, which rounds too little: leave it out.")
    (path,) = export_types(checkpoint, tokenizer, out, [type], license, verify, imatrix, llama_cpp)
    return path


def export_types(
    checkpoint: Path,
    tokenizer: Path,
    out: Path,
    types: Sequence[GgufType],
    license: str | None = None,
    verify: bool = True,
    imatrix: str | None = None,
    llama_cpp: str | None = None,
) -> list[Path]:
    """`export_gguf` for each of `types`; the importance matrix is measured once, for those of them that take one."""
    need("gguf", "the GGUF export")
    proof = verify and find_spec("xllamacpp") is not None
    if proof:
        # Before minutes are spent on a file that cannot be checked.
        load_library()
    model = read_architecture(checkpoint, "a GGUF file")
    vocab, chat = read_vocab(tokenizer), read_chat(checkpoint, tokenizer)
    about = description(out.name, license) | gguf_sampling(read_facts(checkpoint))
    measured: Importances = {}
    if imatrix is not None:
        # Here, so that writing a file needs no torch.
        from bulba.data.tokenizer import Tokenizer
        from bulba.export.importance import imatrix_file, imatrix_metadata, measure_importances, write_imatrix

        measured = measure_importances(checkpoint, Tokenizer.load(tokenizer), model.tensors, Path(imatrix))
    paths = []
    for type in types:
        converter = None
        if llama_cpp is not None:
            from bulba.export.witness import call_witness, find_witness

            converter = find_witness(llama_cpp, type, model, proof)
        path = out.with_name(f"{out.name}-{type}{'' if proof else UNPROVED}.gguf")
        importances, of_matrix = measured if takes_importance(type) else {}, {}
        if importances:
            assert imatrix is not None
            of_matrix = imatrix_metadata(path, importances, imatrix)
            write_imatrix(imatrix_file(path), importances, Path(imatrix).name)
        with atomic_file(path) as temporary:
            write_gguf(checkpoint, model, vocab, temporary, type, about | of_matrix, importances, chat)
            if proof:
                # Here, so that writing a file needs no torch.
                from bulba.export.verify import verify_gguf

                certificate = verify_gguf(temporary, path, checkpoint, tokenizer, type, importances)
        if not proof:
            reason = "xllamacpp is not installed (uv pip install 'bulba[export]')" if verify else "verify=false"
            print(f"{path} is unproved: it was not tried in llama.cpp, because {reason}", flush=True)
        if model.difference:
            print(f"{path.name} is of architecture {model.name}, and {model.difference}", flush=True)
        if converter:
            call_witness(converter, path, checkpoint, tokenizer, certificate, license)
        paths.append(path)
    return paths


def write_gguf(
    checkpoint: Path,
    model: Architecture,
    vocab: Vocab,
    path: Path,
    type: GgufType,
    about: dict[str, Any],
    importances: Importances,
    chat: Chat | None = None,
) -> None:
    """Write the file itself; about: metadata that is not the model's."""
    check_num_tokens(len(vocab.tokens), model.config["vocab_size"], checkpoint)
    gguf = need("gguf", "the GGUF export")
    with TensorFile(checkpoint / "model.safetensors") as source:
        check_tensors(source.shapes, model.tensors, checkpoint, "a GGUF file")
        fallback = [f"{name} as {own}" for name, own in fallbacks(model.tensors, type).items()]
        if fallback:
            print(
                f"{len(fallback)} tensors have rows that are no whole blocks of {type} and are stored otherwise: "
                f"{', '.join(fallback)}",
                flush=True,
            )
        writer = gguf.GGUFWriter(path, model.name)
        add_metadata(writer, about | file_metadata(model, vocab, type, chat) | {"bulba.fallback": fallback})
        sizes = [num_bytes(tensor.stored_as(type), math.prod(tensor.shape)) for tensor in model.tensors]
        for tensor, nbytes in zip(model.tensors, sizes, strict=True):
            stored = ggml_type(tensor.stored_as(type))
            writer.add_tensor_info(tensor.name, tensor.shape, np.float32, nbytes, raw_dtype=stored)
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            with closing(made_ahead(block_makers(source, model.tensors, type, importances))) as blocks:
                for nbytes in sizes:
                    writer.write_tensor_data(TensorStream(nbytes, blocks))
        finally:
            writer.close()


def fallbacks(tensors: list[GgufTensor], type: GgufType) -> dict[str, TensorType]:
    """How tensors are stored whose rows are no whole blocks of a file of `type`, by name."""
    return {
        tensor.name: tensor.stored_as(type)
        for tensor in tensors
        if tensor.stored_as(type) != wanted_type(tensor.storage, type)
    }


def stored_size(tensors: list[GgufTensor], type: GgufType) -> tuple[int, float]:
    """Bytes of all tensors in a file of `type`, and bits per weight."""
    sizes = [math.prod(tensor.shape) for tensor in tensors]
    stored = sum(num_bytes(tensor.stored_as(type), size) for tensor, size in zip(tensors, sizes, strict=True))
    return stored, 8 * stored / sum(sizes)


def description(name: str, license: str | None = None) -> dict[str, Any]:
    """What readers are shown: the name, unless llama.cpp would take the model for another because of it."""
    found = {"general.name": name, "general.license": license}
    taken = [part for part in NAMES_OF_OTHERS if part in name.lower()]
    if taken:
        print(f"{name} contains {taken[0]}, by which llama.cpp knows another model: the file has no general.name")
        found["general.name"] = None
    return {key: value for key, value in found.items() if value}


def file_metadata(model: Architecture, vocab: Vocab, type: GgufType, chat: Chat | None = None) -> dict[str, Any]:
    """What llama.cpp must know, by key; what is left out here it would silently guess."""
    gguf = need("gguf", "the GGUF export")
    kinds = [int(gguf.TokenType.NORMAL)] * len(vocab.tokens)
    for token in vocab.control:
        kinds[token] = int(gguf.TokenType.CONTROL)
    for token in vocab.user_defined:
        kinds[token] = int(gguf.TokenType.USER_DEFINED)
    found: dict[str, Any] = {
        "general.type": "model",
        "general.file_type": file_types()[type],
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
    if chat and chat.is_trained:
        found[CHAT_TEMPLATE] = chat.inference
        found["tokenizer.ggml.eot_token_id"] = chat.eot_id
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


@dataclass(frozen=True)
class TensorStream:
    """A tensor on its way into the file; to GGUFWriter it looks like an array with `nbytes` and `tofile`.

    blocks: those of this tensor come next.
    """

    nbytes: int
    blocks: Iterator[NDArray[Any]]

    def tofile(self, file: BinaryIO) -> None:
        left = self.nbytes
        while left:
            block = next(self.blocks)
            # Not ndarray.tofile: its OSError does not say that the disk is full.
            file.write(block.data)
            left -= block.nbytes


def block_makers(
    source: TensorFile, tensors: list[GgufTensor], type: GgufType, importances: Importances
) -> Iterator[Callable[[], NDArray[Any]]]:
    """What makes each block of rows of each tensor, in the order of the file."""
    for tensor in tensors:
        for part in tensor.parts:
            for start, stop in row_ranges(part):
                importance = importances.get(tensor.name)
                yield partial(stored_rows, source, tensor, part, start, stop, tensor.stored_as(type), importance)


def stored_rows(
    source: TensorFile,
    tensor: GgufTensor,
    part: Part,
    start: int,
    stop: int,
    type: TensorType,
    importance: Rows | None,
) -> NDArray[Any]:
    """Rows start .. stop of a part as they stand in the file; ExportError for values that `type` cannot hold."""
    rows = part.rows(source, start, stop)
    largest = max(rows.max(), -rows.min())
    # Not `>`: NaN must not pass.
    if not largest <= LARGEST[type]:
        raise ExportError(
            f"{getattr(part, 'name', tensor.name)} has values up to {largest:.3g}, which {type} cannot hold: export "
            "with type=bf16 or f32, or from an earlier checkpoint."
        )
    return quantize(rows, type, importance)
