"""Whether llama.cpp cuts text into the same pieces as the tokenizer, before any merge.

Ids alone do not tell: a small vocabulary has few tokens that a wrong cut would spoil. So a vocabulary is made for the
purpose, in which every piece of the text is a token of its own, and llama.cpp is asked for its ids under the file's
`tokenizer.ggml.pre`. `llama-bpe` takes a piece that is a token whole (ignore_merges), so equal cuts give exactly these
tokens, and any other cut gives others, or single bytes.
"""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as HfTokenizer

from bulba.data.tokenizer import byte_alphabet
from bulba.export.llama_cpp import open_llama_vocab
from bulba.export.optional import need
from bulba.export.vocab import PRE_TOKENIZER

NEVER = "\u0100 \u0100"
"""A merge of two zero bytes, which no text holds."""


def splits_fault(tokenizer_json: Path, texts: Sequence[str], pre: str = PRE_TOKENIZER) -> str | None:
    """The first text that llama.cpp cuts otherwise under `pre`, as a sentence without its full stop."""
    pre_tokenizer = HfTokenizer.from_file(str(tokenizer_json)).pre_tokenizer
    normal = [unicodedata.normalize("NFC", text) for text in texts]
    pieces = [[piece for piece, _ in pre_tokenizer.pre_tokenize_str(text)] for text in normal]
    tokens = sorted(byte_alphabet())
    tokens += sorted({piece for text in pieces for piece in text} - set(tokens))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pieces.gguf"
        write_vocabulary(file, pre, tokens)
        with open_llama_vocab(file) as vocab:
            for text, expected in zip(normal, pieces, strict=True):
                theirs = [tokens[token] for token in vocab.tokenize(text, bos=False)]
                if theirs != expected:
                    return f"under {pre} llama.cpp cuts the text {text!r} otherwise: {describe(expected, theirs)}"
    return None


def write_vocabulary(file: Path, pre: str, tokens: list[str]) -> None:
    """A GGUF file with a vocabulary and nothing else."""
    gguf = need("gguf", "the check of a GGUF file")
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(tokens))
    writer.add_token_merges([NEVER])  # without any, llama.cpp takes the file for damaged
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()


def describe(ours: list[str], theirs: list[str]) -> str:
    """Where two lists of pieces part."""
    at = next((n for n, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(ours), len(theirs)) if at is None else at
    shown = [repr(readable(pieces[at])) if at < len(pieces) else "the end" for pieces in (ours, theirs)]
    return f"piece {at} is {shown[0]} in Bulba and {shown[1]} in llama.cpp"


def readable(piece: str) -> str:
    """A piece of bytes written as in GPT-2, as text."""
    alphabet = byte_alphabet()
    return bytes(alphabet[character] for character in piece).decode(errors="backslashreplace")
