"""Makes the golden token files beside this script from docs/format.md alone: `python -m tests.data.golden.make`.

It shares no code with the writer in bulba_rust, which must reproduce every byte of them.
"""

import json
import random
import struct
from dataclasses import dataclass
from pathlib import Path

import xxhash

FOLDER = Path(__file__).parent
NO_TOKEN = 2**32 - 1
BLOCK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Document:
    ids: list[int]
    origin: int
    language: int


@dataclass(frozen=True)
class Golden:
    """What one golden file holds. `sources`: names, and the names of their input files."""

    vocab_size: int
    special_ids: tuple[int, int, int]
    sources: list[tuple[str, list[str]]]
    documents: list[Document]
    text_bytes: int


def random_documents(seed: int, vocab_size: int, origins: list[int], count: int) -> list[Document]:
    rng = random.Random(seed)
    places = sorted(rng.choices(origins, k=count))
    return [
        Document([rng.randrange(vocab_size) for _ in range(rng.choice([1, 2, 5, 40]))], origin, rng.randrange(6))
        for origin in places
    ]


GOLDEN = {
    "u16": Golden(300, (0, 1, 2), [("tales", ["be.jsonl"])], random_documents(1, 300, [0], 5), 1234),
    "u16-full": Golden(65_536, (0, 1, NO_TOKEN), [("a", ["b"])], [Document([0, 65_535, 1], 0, 4)], 3),
    "u32-sources": Golden(
        70_000,
        (69_997, 69_998, 69_999),
        [("казкі", ["дзед і баба.txt", 'quote " slash \\ tab \t.md']), ("empty", ["none.json"]), ("code", ["x.py"])],
        random_documents(2, 70_000, [0, 1, 3], 30),
        2**40,
    ),
    "one-token": Golden(1, (NO_TOKEN, 0, NO_TOKEN), [("", [""])], [Document([0], 0, 0)], 0),
    "no-documents": Golden(300, (0, 1, 2), [("a", ["b"]), ("no files", [])], [], 0),
    "no-sources": Golden(300, (0, 1, 2), [], [], 0),
}


def to_bytes(golden: Golden) -> bytes:
    token_bytes = 2 if golden.vocab_size <= 65_536 else 4
    ids = [number for document in golden.documents for number in document.ids]
    offsets = [0]
    for document in golden.documents:
        offsets.append(offsets[-1] + len(document.ids))
    table = {"sources": [{"name": name, "files": files} for name, files in golden.sources]}
    num_origins, spans = 0, [0]
    for _, files in golden.sources:
        num_origins += len(files)
        spans.append(sum(document.origin < num_origins for document in golden.documents))
    regions = [
        json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode(),
        struct.pack(f"<{len(spans)}Q", *spans),
        struct.pack(f"<{len(offsets)}Q", *offsets),
        struct.pack(f"<{len(golden.documents)}I", *[document.origin for document in golden.documents]),
        bytes(document.language for document in golden.documents),
        struct.pack(f"<{len(ids)}{'H' if token_bytes == 2 else 'I'}", *ids),
    ]
    padded = [region + bytes(-len(region) % 64) for region in regions]
    blocks = [region[at : at + BLOCK_BYTES] for region in padded for at in range(0, len(region), BLOCK_BYTES)]
    checksums = b"".join(struct.pack("<Q", xxhash.xxh3_64_intdigest(block)) for block in blocks)
    positions = [256]
    for region in [*padded, checksums]:
        positions.append(positions[-1] + len(region))
    header = struct.pack(
        "<8s8I32s14Q",
        b"BULBATOK",
        *(2, 256, token_bytes, golden.vocab_size, *golden.special_ids, len(golden.sources)),
        bytes(range(100, 132)),
        *(len(ids), len(golden.documents), golden.text_bytes, num_origins, len(regions[0])),
        *positions,
        xxhash.xxh3_64_intdigest(checksums),
    ).ljust(248, b"\0")
    header += struct.pack("<Q", xxhash.xxh3_64_intdigest(header))
    return b"".join([header, *padded, checksums])


if __name__ == "__main__":
    for name, golden in GOLDEN.items():
        (FOLDER / f"{name}.bin").write_bytes(to_bytes(golden))
