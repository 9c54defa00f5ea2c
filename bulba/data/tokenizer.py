"""The tokenizer at the edges: prompts in, text out, bytes per token, and the folder that other programs read.

A byte-level BPE in a tokenizer.json, run by the `tokenizers` library. Text is put into NFC first, and the
literal text of a special token is ordinary text. Training one and encoding a corpus is `bulba.data.prepare`.
"""

import codecs
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bulba import _rust
from bulba.errors import DataError
from bulba.files import atomic_file, write_text

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"


def byte_alphabet() -> dict[str, int]:
    """Character -> byte of a byte-level vocabulary.

    GPT-2's table: printable Latin-1 bytes stand for themselves, the other 68 for U+0100 and up.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(0x100 + place): byte for place, byte in enumerate(others)})
    return table


@dataclass(frozen=True)
class TokenizerFile:
    """A tokenizer.json that is a byte-level BPE, and its special tokens: their texts and ids.

    content: its bytes. definition: what they say.
    """

    path: Path
    content: bytes
    definition: dict[str, Any]
    bos_token: str
    eos_token: str
    pad_token: str | None
    bos_id: int
    eos_id: int
    pad_id: int | None


def read_tokenizer_file(
    path: str | Path, bos: str | None = None, eos: str | None = None, pad: str | None = None
) -> TokenizerFile:
    """Reads a tokenizer.json without the library that runs it; see `Tokenizer.load`."""
    path = Path(path)
    file = path / TOKENIZER_FILE if path.is_dir() else path
    _refuse_sentencepiece(file)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read the tokenizer {file}: {error.strerror}; give a tokenizer.json or its folder"
        ) from error
    definition = _parse(content, file)
    # Before its tokens are asked for: naming them would not help a tokenizer of another kind.
    _check_byte_level(definition, file)
    config = _read_config(file.with_name(CONFIG_FILE))
    bos = bos or _token_name(config.get("bos_token"))
    eos = eos or _token_name(config.get("eos_token"))
    pad = pad or _token_name(config.get("pad_token"))
    if bos is None or eos is None:
        missing = "bos_token" if bos is None else "eos_token"
        raise DataError(f"{file.with_name(CONFIG_FILE)} does not name {missing}: add it there")
    return TokenizerFile(
        path=file,
        content=content,
        definition=definition,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        bos_id=_special_id(definition, "bos_token", bos, file),
        eos_id=_special_id(definition, "eos_token", eos, file),
        pad_id=None if pad is None else _special_id(definition, "pad_token", pad, file),
    )


class Tokenizer:
    """A byte-level tokenizer with the ids of its special tokens.

    Build it with `Tokenizer.load`. `vocab_size` is the rows of embedding a model needs, the largest id + 1.
    """

    def __init__(self, file: TokenizerFile) -> None:
        from tokenizers import Tokenizer as Library

        self.path = file.path
        self.content = file.content
        self.fingerprint = hashlib.sha256(file.content).hexdigest()
        """SHA-256 (hex) of the bytes of tokenizer.json."""
        self._library = Library.from_str(file.content.decode())
        self._library.no_truncation()
        self._library.no_padding()
        self._library.encode_special_tokens = True
        self.bos_token, self.eos_token, self.pad_token = file.bos_token, file.eos_token, file.pad_token
        self.bos_id, self.eos_id, self.pad_id = file.bos_id, file.eos_id, file.pad_id
        self._bytes = _bytes_of_tokens(file.definition)
        self.vocab_size = len(self._bytes)

    @classmethod
    def load(
        cls, path: str | Path, bos: str | None = None, eos: str | None = None, pad: str | None = None
    ) -> "Tokenizer":
        """Loads a tokenizer.json, or a folder with one.

        Args:
            path: the file or its folder; tokenizer_config.json beside it names the special tokens.
            bos: name of the begin-of-text token instead of the config's; likewise `eos`, `pad`.

        Raises:
            DataError: no such file, not byte-level, or its bos and eos are not named or not in it.
        """
        return cls(read_tokenizer_file(path, bos, eos, pad))

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """Ids of a text, with bos in front unless told otherwise."""
        ids = self._library.encode(_rust.normalize(text), add_special_tokens=False).ids
        return [self.bos_id, *ids] if bos else ids

    def encode_many(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, without bos, by the encoder that also encodes a corpus."""
        return _rust.Encoder(self.path).encode_batch(texts)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; special tokens vanish, bytes that are not UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The raw bytes that a token stands for; special tokens stand for none.

        Raises:
            DataError: the id is outside the vocabulary.
        """
        if not 0 <= token_id < self.vocab_size:
            raise DataError(
                f"token id {token_id} is outside the vocabulary of {self.path} (0 to {self.vocab_size - 1})"
            )
        return self._bytes[token_id]

    def num_bytes_per_token(self) -> NDArray[np.int64]:
        """UTF-8 bytes of each token, int64 [vocab_size]; 0 for special tokens."""
        return np.fromiter((len(token) for token in self._bytes), dtype=np.int64, count=self.vocab_size)

    def stream(self) -> "TextStream":
        """A decoder for ids that come one by one."""
        return TextStream(self)

    @property
    def identity(self) -> list[str | None]:
        """What decides its ids: the fingerprint and the names of the special tokens."""
        return [self.fingerprint, self.bos_token, self.eos_token, self.pad_token]

    def save_pretrained(self, folder: str | Path, model_max_length: int | None = None) -> None:
        """Writes the folder that `transformers.AutoTokenizer` opens.

        Args:
            model_max_length: context length of the model, in tokens; None where no model is known yet.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        special = {"bos_token": self.bos_token, "eos_token": self.eos_token}
        if self.pad_token is not None:
            special["pad_token"] = self.pad_token
        config = {
            # Other class names make transformers rebuild the pipeline, and ids change.
            "tokenizer_class": "PreTrainedTokenizerFast",
            **({} if model_max_length is None else {"model_max_length": model_max_length}),
            "clean_up_tokenization_spaces": False,
            **special,
        }
        with atomic_file(folder / TOKENIZER_FILE) as temporary:
            temporary.write_bytes(self.content)
        write_text(folder / CONFIG_FILE, _json_text(config))
        write_text(folder / SPECIAL_TOKENS_FILE, _json_text(special))


class TextStream:
    """Turns ids into text as they come; a character is given out once all of its bytes are there."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The text that this id completes, possibly empty."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def flush(self) -> str:
        """The end: an incomplete character becomes U+FFFD."""
        return self._decoder.decode(b"", final=True)


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def _token_name(value: Any) -> str | None:
    """transformers writes a token as its text or as an object with `content`."""
    return value.get("content") if isinstance(value, dict) else value


def _special_id(definition: dict[str, Any], role: str, token: str, path: Path) -> int:
    added = {entry["content"]: entry["id"] for entry in definition.get("added_tokens") or []}
    token_id = added.get(token, definition["model"]["vocab"].get(token))
    if token_id is None:
        raise DataError(f"{path} has no token {token!r} for its {role}: correct {CONFIG_FILE}")
    return int(token_id)


def _read_config(path: Path) -> dict[str, Any]:
    return _parse(path.read_bytes(), path) if path.is_file() else {}


def _parse(content: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): give a tokenizer.json of the tokenizers library") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} is a JSON {type(value).__name__}, not an object: give a tokenizer.json")
    return value


def _refuse_sentencepiece(file: Path) -> None:
    """A .model file is given, or lies in the folder instead of a tokenizer.json."""
    models = [file] if file.suffix == ".model" else sorted(file.parent.glob("*.model"))
    if models and models[0].is_file() and (models == [file] or not file.is_file()):
        raise DataError(
            f"the tokenizer {models[0]} cannot be used, it is a SentencePiece model: give the tokenizer.json of a "
            "byte-level BPE or train one"
        )


def _check_byte_level(definition: dict[str, Any], path: Path) -> None:
    """Only a byte-level BPE gives every text back; anything else is refused with the reason."""
    pre_tokenizers = _steps(definition.get("pre_tokenizer"), "pretokenizers")
    decoders = _steps(definition.get("decoder"), "decoders")
    byte_level = [step for step in pre_tokenizers if step.get("type") == "ByteLevel"]
    normalizers = [step.get("type") for step in _steps(definition.get("normalizer"), "normalizers")]
    model = definition.get("model") or {}
    vocabulary = model.get("vocab")
    reason = None
    if model.get("type", "BPE") != "BPE" or not isinstance(vocabulary, dict):
        reason = f"its model is {model.get('type')}, not BPE"
    elif not byte_level or [step.get("type") for step in decoders] != ["ByteLevel"]:
        reason = "it does not work on bytes (no ByteLevel pre-tokenizer and decoder)"
    elif any(step.get("add_prefix_space") for step in byte_level):
        reason = "it puts a space before every text (add_prefix_space)"
    elif set(normalizers) - {"NFC"}:
        reason = f"its normalizer {', '.join(map(str, normalizers))} changes the text"
    elif not byte_alphabet().keys() <= vocabulary.keys():
        reason = "its vocabulary lacks some of the 256 bytes"
    if reason is not None:
        raise DataError(f"the tokenizer {path} cannot be used, {reason}: give a byte-level BPE or train one")


def _steps(component: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    if component is None:
        return []
    return component[key] if component.get("type") == "Sequence" else [component]


def _bytes_of_tokens(definition: dict[str, Any]) -> list[bytes]:
    alphabet = byte_alphabet()
    vocabulary: dict[str, int] = definition["model"]["vocab"]
    added = definition.get("added_tokens") or []
    largest = max([*vocabulary.values(), *(token["id"] for token in added)])
    table = [b""] * (largest + 1)
    for token, token_id in vocabulary.items():
        # A token outside the alphabet can only be an added one, set below.
        table[token_id] = bytes(alphabet[character] for character in token if character in alphabet)
    for token in added:
        table[token["id"]] = b"" if token["special"] else token["content"].encode()
    return table
