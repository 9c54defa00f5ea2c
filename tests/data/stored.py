"""A small corpus made straight from texts, for tests of what comes after reading."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bulba import _rust
from bulba.data.cleaning import Cleaning

SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"]


class StoredCorpus:
    """`texts` as they are, in one shard, with nothing dropped."""

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        self.folder, shard = folder, folder / "shard"
        shard.mkdir(parents=True, exist_ok=True)
        writer = _rust.ShardWriter(shard, Cleaning.none().as_dict())
        writer.add_documents(list(texts), writer.begin_file())
        writer.finish()
        self.corpus = _rust.Corpus([(shard, 0, 0)])
        self.corpus.keep_duplicates(folder)

    def train(self, path: Path, **changes: Any) -> Any:
        """Writes a tokenizer.json of 400 entries and the special tokens, with `changes` of the options."""
        options: dict[str, Any] = {
            "vocab_size": 400,
            "special_tokens": SPECIAL,
            "bos_token": SPECIAL[0],
            "min_frequency": 2,
            "max_text_bytes": 1 << 30,
            "max_memory_bytes": 1 << 30,
            "balance": "natural",
            "val_frac": 0.01,
            "seed": 0,
        }
        return self.corpus.train_tokenizer(self.folder / "dropped", path, **(options | changes))

    def write(self, tokenizer: Path, out: Path, val_frac: float, seed: int = 0, num_threads: int = 0) -> None:
        """train.bin and val.bin in `out`."""
        encoder, encoded = _rust.Encoder(tokenizer), out / "encoded"
        encoded.mkdir(parents=True, exist_ok=True)
        ids = {"bos_id": encoder.vocab_size - 3, "eos_id": encoder.vocab_size - 2}
        dropped = self.folder / "dropped"
        self.corpus.encode_shard(0, dropped, encoder, encoded, **ids, num_threads=num_threads)
        sources = [("texts", ["texts"])]
        self.corpus.assemble(dropped, [encoded], encoder, out, **ids, sources=sources, val_frac=val_frac, seed=seed)
