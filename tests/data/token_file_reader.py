"""A second reader of token files, written from docs/format.md with struct and numpy alone, to check the first by."""

import json
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

NAMES = (
    "version", "header_bytes", "token_bytes", "vocab_size", "bos_id", "eos_id", "pad_id", "num_sources",
    "fingerprint", "num_tokens", "num_documents", "text_bytes", "num_origins", "table_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class Contents:
    """The header by name; sources as (name, files); documents as ids, and beside them source, origin and language."""

    header: dict[str, Any]
    sources: list[tuple[str, list[str]]]
    documents: list[list[int]]
    document_sources: list[int]
    origins: list[int]
    languages: list[int]


def read(path: Path) -> Contents:
    data = path.read_bytes()
    magic, *fields = struct.unpack_from("<8s8I32s5Q", data)
    assert magic == b"BULBATOK"
    header = dict(zip(NAMES, fields, strict=True))
    assert (header["version"], header["header_bytes"]) == (2, 256)
    table, spans, offsets, origins, languages, tokens, checksums, end = struct.unpack_from("<8Q", data, 112)
    assert len(data) == end
    assert all(start % 64 == 0 for start in (table, spans, offsets, origins, languages, tokens, checksums))
    num_documents = header["num_documents"]
    bounds = np.frombuffer(data, "<u8", num_documents + 1, offsets).tolist()
    ids = np.frombuffer(data, f"<u{header['token_bytes']}", header["num_tokens"], tokens).tolist()
    firsts = np.frombuffer(data, "<u8", header["num_sources"] + 1, spans).tolist()
    sources = json.loads(data[table : table + header["table_bytes"]])["sources"]
    return Contents(
        header=header,
        sources=[(source["name"], source["files"]) for source in sources],
        documents=[ids[start:stop] for start, stop in pairwise(bounds)],
        document_sources=[source for source in range(len(sources)) for _ in range(firsts[source], firsts[source + 1])],
        origins=np.frombuffer(data, "<u4", num_documents, origins).tolist(),
        languages=np.frombuffer(data, "u1", num_documents, languages).tolist(),
    )
