"""One face over vocabularies: Bulba's own, any tokenizer.json of Hugging Face, any GGUF file.

Each runs in the program it is made for: Bulba's in the Rust encoder, a tokenizer.json in the `tokenizers` library, a
GGUF vocabulary in llama.cpp. The text of a token is what it stands for, never the byte alphabet's spelling of it.
"""

from __future__ import annotations

import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bulba.data.tokenizer import TOKENIZER_FILE, Tokenizer, byte_alphabet
from bulba.errors import DataError
from bulba.export.llama_cpp import LlamaVocab, open_llama_vocab
from bulba.export.optional import need

Ids = NDArray[np.int32]
ANCHOR = "a"
"""Stands before a word or a token, so that a space in front of it is neither added nor lost."""
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Vocabulary(ABC):
    """A tokenizer as it is measured.

    name: for tables. program: what runs it. vocab_size: the rows of embedding it needs. unknown_id: the token for what
    it cannot spell, or None.
    """

    program: str

    def __init__(self, path: Path, vocab_size: int, unknown_id: int | None) -> None:
        self.path, self.vocab_size, self.unknown_id = path, vocab_size, unknown_id
        self.name = name_of(path)

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text, without tokens around it; the literal text of a special token is ordinary text."""

    @abstractmethod
    def decode(self, ids: Ids) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD."""

    @abstractmethod
    def token_bytes(self) -> list[bytes]:
        """The bytes that every token stands for, by id; none for a special token."""

    def encode_words(self, words: Sequence[str]) -> list[Ids]:
        """Ids of each word as it stands in a sentence, with the space before it."""
        prefix = len(self.encode([ANCHOR])[0])
        return [ids[prefix:] for ids in self.encode([f"{ANCHOR} {word}" for word in words])]


class BulbaVocabulary(Vocabulary):
    """A tokenizer that Bulba trains or takes over."""

    program = "Bulba"

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer.path, tokenizer.vocab_size, None)
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        return [np.array(ids, np.int32) for ids in self._tokenizer.encode_many(list(texts))]

    def decode(self, ids: Ids) -> str:
        return self._tokenizer.decode(ids.tolist())

    def token_bytes(self) -> list[bytes]:
        return [self._tokenizer.token_bytes(index) for index in range(self.vocab_size)]


class HuggingFaceVocabulary(Vocabulary):
    """A tokenizer.json of any kind, byte-level or not."""

    program = "tokenizers"

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer as Library

        try:
            self._library = Library.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise DataError(f"{path} is not a tokenizer.json that the tokenizers library opens ({error})") from error
        self._library.no_truncation()
        self._library.no_padding()
        self._library.encode_special_tokens = True
        self._definition = json.loads(self._library.to_str())
        tokens = self._library.get_vocab(with_added_tokens=True)
        self._tokens = {index: token for token, index in tokens.items()}
        model = self._definition["model"]
        unknown = model.get("unk_id", tokens.get(model.get("unk_token")))
        super().__init__(path, max(self._tokens, default=-1) + 1, unknown)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        encoded = self._library.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encoded]

    def decode(self, ids: Ids) -> str:
        return self._library.decode(ids.tolist(), skip_special_tokens=False)

    def token_bytes(self) -> list[bytes]:
        special = {index for index, token in self._library.get_added_tokens_decoder().items() if token.special}
        decoder = self._definition["decoder"] or {}
        steps = [step["type"] for step in decoder.get("decoders", [decoder]) if step]
        spell = self._spell_bytes if "ByteLevel" in steps else self._spell_text
        plain = {index: token for index, token in self._tokens.items() if index not in special | {self.unknown_id}}
        spelt = dict(zip(plain, spell(plain), strict=True))
        return [spelt.get(index, b"") for index in range(self.vocab_size)]

    def _spell_bytes(self, tokens: dict[int, str]) -> list[bytes]:
        """By the byte alphabet; an added token is written as it is."""
        alphabet = byte_alphabet()
        added = self._library.get_added_tokens_decoder()
        return [
            token.encode() if index in added else bytes(alphabet[sign] for sign in token if sign in alphabet)
            for index, token in tokens.items()
        ]

    def _spell_text(self, tokens: dict[int, str]) -> list[bytes]:
        """By the vocabulary's own decoder, behind another token: alone a token would lose the space before it."""
        anchor = self._library.encode(ANCHOR, add_special_tokens=False).ids
        before = self._library.decode(anchor, skip_special_tokens=False)
        after = self._library.decode_batch([[*anchor, index] for index in tokens], skip_special_tokens=False)
        return [
            bytes([int(byte[1], 16)]) if (byte := BYTE_TOKEN.fullmatch(token)) else text.removeprefix(before).encode()
            for token, text in zip(tokens.values(), after, strict=True)
        ]


class GgufVocabulary(Vocabulary):
    """The vocabulary in a GGUF file, with or without a model around it."""

    program = "llama.cpp"

    def __init__(self, path: Path, vocab: LlamaVocab) -> None:
        unknown = [index for index in range(vocab.num_tokens) if vocab.is_unknown(index)]
        super().__init__(path, vocab.num_tokens, unknown[0] if unknown else None)
        self._vocab = vocab
        # Some vocabularies put a space before every text, which is no part of it.
        self._space = self._join(vocab.tokenize(ANCHOR, bos=False)).removesuffix(ANCHOR.encode())

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        # llama.cpp tokenizes slowly, and without the interpreter's lock.
        encoded: list[Ids] = [np.empty(0, np.int32)] * len(texts)
        threads = os.cpu_count() or 1
        with ThreadPoolExecutor(threads) as pool:
            for first, part in enumerate(pool.map(self._encode, [texts[first::threads] for first in range(threads)])):
                encoded[first::threads] = part
        return encoded

    def _encode(self, texts: Sequence[str]) -> list[Ids]:
        return [np.array(self._vocab.tokenize(text, bos=False), np.int32) for text in texts]

    def decode(self, ids: Ids) -> str:
        return self._join(ids.tolist()).removeprefix(self._space).decode(errors="replace")

    def token_bytes(self) -> list[bytes]:
        return [self._vocab.piece(index) for index in range(self.vocab_size)]

    def _join(self, ids: list[int]) -> bytes:
        return b"".join(map(self._vocab.piece, ids))


@contextmanager
def open_vocabulary(path: Path) -> Iterator[Vocabulary]:
    """Open a tokenizer.json, its folder, or a GGUF file.

    A tokenizer.json that Bulba itself would take runs in Bulba, any other in the `tokenizers` library.

    Raises:
        DataError: there is no such file, or no vocabulary in it.
        ExportError: llama.cpp does not load the GGUF file, or is not installed.
    """
    file = path / TOKENIZER_FILE if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"there is no tokenizer at {path}: give a tokenizer.json, the folder with it, or a .gguf file")
    if file.suffix == ".gguf":
        need("xllamacpp", "the vocabulary of a GGUF file")
        with open_llama_vocab(file) as vocab:
            yield GgufVocabulary(file, vocab)
    else:
        yield open_tokenizer_json(file)


def open_tokenizer_json(file: Path) -> Vocabulary:
    """In Bulba where Bulba can use it, else in the `tokenizers` library."""
    general = HuggingFaceVocabulary(file)
    try:
        return BulbaVocabulary(Tokenizer.load(file))
    except DataError:
        return general


def name_of(path: Path) -> str:
    """A GGUF file by its own name; tokenizer.json by the nearest folder that is not called `tokenizer`."""
    if path.name != TOKENIZER_FILE:
        return path.stem.removeprefix("ggml-vocab-")
    folders = (folder.name for folder in path.absolute().parents if folder.name not in ("tokenizer", ""))
    return next(folders, path.stem)
