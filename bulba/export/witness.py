"""A second witness: llama.cpp's own converter writes the same checkpoint, and its file is held against ours.

Ours is written from model.safetensors and has passed its own gate; the converter comes the other way, through a
Hugging Face folder, with other people's code. Tensors must be the same bytes. Metadata may differ where llama.cpp does
the same without the key (`defaults`) or does not act on it (`is_unread`); anything else is a fault of the converter,
which old ones have: it is named, and that converter is no witness.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bulba.errors import ConfigError, ExportError, UnsupportedError
from bulba.export.architecture import Architecture
from bulba.export.certificate import Certificate, Difference, Witness
from bulba.export.contents import equal, short
from bulba.export.converter import Converter, check_type, find_converter, run_converter
from bulba.export.optional import need
from bulba.export.types import GgufType
from bulba.files import disk_errors

CONVERTIBLE = ("llama", "qwen3")  # architectures with a class of transformers that the converter knows
BLOCK_BYTES = 8 << 20  # how much of a tensor is compared at once
# llama.cpp only shows them, or they are about drawing (general.sampling), which is not the model;
DESCRIPTIVE = ("general.", "bulba.")
READ = ("general.architecture",)  # but for these
# A Llama of just these numbers of tokens is to the converter the model of somebody else.
MISTAKEN = {32016: "CodeLlama", 49152: "Granite"}


def find_witness(place: str, type: GgufType, model: Architecture, verify: bool) -> Converter:
    """The converter, before anything is written; one sentence where it could not testify."""
    if not verify:
        raise ConfigError(
            "export.llama_cpp needs export.gguf.verify=true: what it says goes into the certificate of a file that has "
            "passed its own check."
        )
    check_type(type)
    logit_cap = model.config["logit_cap"]
    if model.name not in CONVERTIBLE or logit_cap is not None:
        fact = f"to llama.cpp it is {model.name}" if logit_cap is None else f"it has model.logit_cap={logit_cap}"
        raise UnsupportedError(
            f"export.llama_cpp: the converter of llama.cpp reads Hugging Face folders of Llama and Qwen3, and this "
            f"model is neither ({fact}); export without export.llama_cpp."
        )
    for library in ("transformers", "sentencepiece"):
        need(library, "the converter of llama.cpp", "converter")
    return find_converter(place)


def call_witness(
    converter: Converter,
    file: Path,
    checkpoint: Path,
    tokenizer: Path,
    certificate: Certificate,
    license: str | None = None,
) -> None:
    """Convert, compare with `file`, and add the outcome to the certificate beside it.

    license: as in ours, so that it does not count as a difference. Raises ExportError where the converter fails, and
    where its file is another one.
    """
    # Here, so that writing a file needs no torch.
    from bulba.export.hf import export_hf

    # Beside the file, where there is room for another; the folder's name says nothing, because converters read it.
    with (
        disk_errors(file),
        tempfile.TemporaryDirectory(dir=file.parent, prefix=".unfinished-") as temporary,
    ):
        theirs = Path(temporary) / "theirs.gguf"
        folder = export_hf(checkpoint, tokenizer, Path(temporary) / "model", "float32", license, verify=False)
        patch = run_converter(converter, folder, theirs, certificate.type)
        witness = compare(file, theirs)
    witness.version, witness.layout, witness.sha256 = converter.version, converter.layout, converter.sha256
    witness.class_name, witness.splitter_named_by = patch["class_name"], "Bulba" if patch["num_answered"] else "it"
    certificate.witness = witness
    page = certificate.write(file)
    if witness.fault:
        raise ExportError(
            f"the converter of {converter.version} is no witness for {file.name}: {witness.fault}; {file.name} has "
            f"passed its own check and stays, and {page.name} has every difference; leave export.llama_cpp out, or "
            "give it another version."
        )
    print(
        f"{converter.version} wrote the same {witness.num_equal_tensors} tensors, byte for byte; "
        f"{len(witness.differences)} keys of its metadata differ without consequence, see {page.name}",
        flush=True,
    )


def compare(ours: Path, theirs: Path) -> Witness:
    """Hold the converter's file against ours. `fault`: the first of the tensors, else of the metadata."""
    gguf = need("gguf", "the comparison of GGUF files")
    try:
        readers = [gguf.GGUFReader(path) for path in (ours, theirs)]
    except (ValueError, KeyError, IndexError) as error:
        raise ExportError(
            f"the converter wrote what is no GGUF file ({error}): give export.llama_cpp another version."
        ) from error
    found, metadata = ({key: field.contents() for key, field in reader.fields.items()} for reader in readers)
    witness = Witness(differences=differences_of(found, metadata))
    tensors = [{tensor.name: tensor for tensor in reader.tensors} for reader in readers]
    with ours.open("rb", buffering=0) as our_file, theirs.open("rb", buffering=0) as their_file:
        for name in sorted(tensors[0].keys() | tensors[1].keys()):
            fault = tensor_fault(name, tensors[0].get(name), tensors[1].get(name), our_file, their_file)
            witness.num_equal_tensors += fault is None
            witness.fault = witness.fault or fault
    witness.fault = witness.fault or metadata_fault(witness.differences, found)
    return witness


def tensor_fault(name: str, ours: Any, theirs: Any, our_file: Any, their_file: Any) -> str | None:
    """How a tensor of two GGUFReaders differs; the bytes are read block by block, so that memory stays flat."""
    if ours is None or theirs is None:
        return f"{'its file' if theirs is None else 'ours'} lacks the tensor {name}"
    for what, our_value, their_value in (
        ("shape", ours.shape.tolist(), theirs.shape.tolist()),
        ("type", ours.tensor_type.name.lower(), theirs.tensor_type.name.lower()),
    ):
        if our_value != their_value:
            return f"its tensor {name} has the {what} {their_value} where ours has {our_value}"
    our_file.seek(ours.data_offset)
    their_file.seek(theirs.data_offset)
    left = int(ours.n_bytes)
    while left:
        size = min(left, BLOCK_BYTES)
        if our_file.read(size) != their_file.read(size):
            return f"its tensor {name} has other numbers than ours"
        left -= size
    return None


def differences_of(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Difference]:
    """Every key that differs, sorted; `matters` where llama.cpp behaves otherwise for it."""
    known = [{**defaults(metadata), **metadata} for metadata in (ours, theirs)]
    found = []
    for key in sorted(key for key in ours.keys() | theirs.keys() if not key.startswith("GGUF.")):
        if key in ours and key in theirs and equal(theirs[key], ours[key]):
            continue
        both = [metadata.get(key) for metadata in known]
        alike = None not in both and equal(both[1], both[0])
        matters = not alike and not is_unread(key, ours)
        here, there = (short(metadata[key]) if key in metadata else None for metadata in (ours, theirs))
        found.append(Difference(key, here, there, matters))
    return found


def defaults(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What llama.cpp takes for keys that are absent (llama-model.cpp, llama-vocab.cpp)."""
    name = metadata.get("general.architecture")
    heads = metadata.get(f"{name}.attention.head_count", 1)
    head_dim = metadata.get(f"{name}.attention.key_length", metadata.get(f"{name}.embedding_length", 0) // heads)
    return {
        f"{name}.attention.head_count_kv": heads,
        f"{name}.attention.key_length": head_dim,
        f"{name}.attention.value_length": head_dim,
        f"{name}.rope.dimension_count": head_dim,
        f"{name}.rope.freq_base": 10000.0,
        f"{name}.vocab_size": len(metadata.get("tokenizer.ggml.tokens", ())),
        "tokenizer.ggml.bos_token_id": 11,
        "tokenizer.ggml.eos_token_id": 11,
        "tokenizer.ggml.add_bos_token": metadata.get("tokenizer.ggml.pre") == "llama-bpe",
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_sep_token": False,
    }


def is_unread(key: str, ours: Mapping[str, Any]) -> bool:
    """Whether llama.cpp has no use for the key in this model."""
    name = ours["general.architecture"]
    if key == f"{name}.rope.scaling.original_context_length":
        return ours.get(f"{name}.rope.scaling.type") != "yarn"
    if key == "tokenizer.chat_template":
        # The model is the same without one; it is lost where ours has one.
        return key not in ours
    return key.startswith(DESCRIPTIVE) and not key.startswith(READ)


def metadata_fault(differences: list[Difference], ours: Mapping[str, Any]) -> str | None:
    """The keys that matter, as a sentence without its full stop."""
    faults = [difference.describe() for difference in differences if difference.matters]
    mistaken = MISTAKEN.get(len(ours["tokenizer.ggml.tokens"]))
    if faults and mistaken and ours["general.architecture"] == "llama":
        faults.append(
            f"it takes every Llama of {len(ours['tokenizer.ggml.tokens'])} tokens for {mistaken}, in every version"
        )
    return ", and ".join(faults) or None
