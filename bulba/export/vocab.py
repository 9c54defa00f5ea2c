"""The vocabulary of a tokenizer.json as llama.cpp keeps it.

llama.cpp builds its tokenizer from the tokens, their types and the merges, and splits the text with a regex that
`tokenizer.ggml.pre` names. `llama-bpe` is the Llama 3 regex with ignore_merges on, so the tokenizer.json must be just
that: anything else would be labelled wrongly and give other ids without a word. llama.cpp does not normalise: NFC is
left to the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bulba.data.tokenizer import Tokenizer, read_tokenizer_file
from bulba.errors import ExportError

PRE_TOKENIZER = "llama-bpe"
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Vocab:
    """A byte-level BPE vocabulary.

    tokens: the text of every id, its bytes written as in GPT-2; that of an added token as it is.
    control: ids of the special tokens, which plain text never gives. user_defined: ids of other added tokens.
    merges: "a b", best first.
    """

    tokens: list[str]
    control: frozenset[int]
    user_defined: frozenset[int]
    merges: list[str]
    bos_id: int
    eos_id: int
    pad_id: int | None


def load_tokenizer(tokenizer_json: Path, num_rows: int, checkpoint: Path) -> Tokenizer:
    """The tokenizer; ExportError where the model of `checkpoint` has another number of rows."""
    loaded = Tokenizer.load(tokenizer_json)
    check_num_tokens(loaded.vocab_size, num_rows, checkpoint)
    return loaded


def check_num_tokens(num_tokens: int, num_rows: int, checkpoint: Path) -> None:
    """ExportError where the model of `checkpoint` has another number of rows than its tokenizer has tokens."""
    if num_tokens != num_rows:
        raise ExportError(
            f"the tokenizer has {num_tokens} tokens and {checkpoint} {num_rows} rows: export with the tokenizer that "
            "the model was trained with."
        )


def read_vocab(tokenizer_json: Path) -> Vocab:
    """Read a tokenizer.json; ExportError names the first part that `llama-bpe` does not stand for."""
    file = read_tokenizer_file(tokenizer_json)
    check_llama_bpe(file.definition, tokenizer_json)
    model, added = file.definition["model"], file.definition["added_tokens"]
    tokens = _tokens(model["vocab"], {token["id"]: token["content"] for token in added}, tokenizer_json)
    control = frozenset(token["id"] for token in added if token["special"])
    user_defined = frozenset(token["id"] for token in added) - control
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return Vocab(tokens, control, user_defined, merges, file.bos_id, file.eos_id, file.pad_id)


def check_llama_bpe(spec: dict[str, Any], source: Path) -> None:
    """ExportError names the first part of a tokenizer.json, read from `source`, that `llama-bpe` does not stand for."""
    model = spec["model"]
    splitter, byte_level = _split_steps(spec.get("pre_tokenizer"))
    checks = (
        ("model.type", model.get("type"), "BPE"),
        ("model.byte_fallback", bool(model.get("byte_fallback")), False),
        ("model.ignore_merges", bool(model.get("ignore_merges")), True),
        ("model.dropout", model.get("dropout") or None, None),
        ("normalizer", (spec.get("normalizer") or {"type": "NFC"}).get("type"), "NFC"),
        ("pre_tokenizer Split pattern", splitter.get("pattern"), {"Regex": LLAMA3_PATTERN}),
        ("pre_tokenizer Split behavior", splitter.get("behavior"), "Isolated"),
        ("pre_tokenizer Split invert", splitter.get("invert"), False),
        ("pre_tokenizer ByteLevel add_prefix_space", byte_level.get("add_prefix_space"), False),
        ("pre_tokenizer ByteLevel use_regex", byte_level.get("use_regex"), False),
    )
    for name, got, expected in checks:
        if got != expected:
            raise ExportError(
                f"{source} cannot become a GGUF vocabulary: its {name} is {got!r} and llama.cpp's "
                f"{PRE_TOKENIZER} needs {expected!r}; train the model with a tokenizer of conf/tokenizer."
            )


def _tokens(vocab: dict[str, int], added: dict[int, str], source: Path) -> list[str]:
    """The text of every id; ExportError for gaps and for tokens that llama.cpp would abort on."""
    by_id = {index: token for token, index in vocab.items()} | added
    tokens = [by_id[index] for index in range(len(by_id)) if index in by_id]
    if len(tokens) != len(by_id) or len(set(tokens)) != len(tokens):
        raise ExportError(
            f"{source} has ids that are not 0 to {len(by_id) - 1}, or the same token twice, which llama.cpp cannot "
            "load: train a new tokenizer."
        )
    return tokens


def _split_steps(pre_tokenizer: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The Split and the ByteLevel step, {} where absent."""
    steps = (pre_tokenizer or {}).get("pretokenizers", [])
    if [step["type"] for step in steps] != ["Split", "ByteLevel"]:
        return {}, {}
    return steps[0], steps[1]
