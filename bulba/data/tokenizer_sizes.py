"""Tokenizers learnt straight from texts in memory: the same text at several vocabulary sizes, and for measurements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bulba import _rust
from bulba.data.cleaning import Cleaning
from bulba.data.prepare import TokenizerSpec
from bulba.data.tokenizer import TOKENIZER_FILE, Tokenizer
from bulba.errors import DataError

VAL_FRAC = 1e-9  # the split keeps one document back whatever is asked for


def train_sizes(
    texts: Sequence[str], sizes: Sequence[int], folder: Path
) -> Iterator[tuple[int, Tokenizer | DataError]]:
    """A tokenizer of each size, learnt in `folder` from all of the texts but one, as a run learns its own.

    sizes: entries without the special tokens. A size that the text does not suffice for comes with its error.
    """
    store_texts(texts, folder)
    corpus = open_texts(folder)
    for size in sizes:
        spec = TokenizerSpec(vocab_size=size)
        file = folder / str(size) / TOKENIZER_FILE
        file.parent.mkdir()
        try:
            learn(corpus, folder, spec, file)
        except DataError as error:
            yield size, error
        else:
            yield size, Tokenizer.load(file, spec.bos_token, spec.eos_token, spec.pad_token)


def store_texts(texts: Sequence[str], folder: Path) -> None:
    """Writes the texts into `folder`, as they are but for NFC, for `open_texts`."""
    (folder / "texts").mkdir()
    writer = _rust.ShardWriter(folder / "texts", Cleaning.none().as_dict())
    writer.add_documents(list(texts), writer.begin_file())
    writer.finish()
    open_texts(folder).keep_duplicates(folder)


def open_texts(folder: Path) -> _rust.Corpus:
    """What `store_texts` wrote."""
    return _rust.Corpus([(folder / "texts", 0, 0)])


def learn(corpus: _rust.Corpus, folder: Path, spec: TokenizerSpec, file: Path, num_threads: int = 0) -> None:
    """Learns a tokenizer from the texts of `folder`; DataError where they do not suffice."""
    corpus.train_tokenizer(
        folder / "dropped",
        file,
        vocab_size=spec.vocab_size,
        special_tokens=[spec.bos_token, spec.eos_token, spec.pad_token],
        bos_token=spec.bos_token,
        min_frequency=spec.min_frequency,
        max_text_bytes=spec.max_text_bytes,
        max_memory_bytes=spec.max_memory_mb << 20,
        balance=spec.balance,
        val_frac=VAL_FRAC,
        seed=0,
        num_threads=num_threads,
    )
