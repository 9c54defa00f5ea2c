"""The compiled core: reading text, the tokenizer, token files and sampling.

Use it through `bulba.data`; nothing else imports it. Every call releases the GIL. Faults raise
`bulba.errors.DataError` with one sentence. `progress(done_bytes, total_bytes)` is called about five times a
second on the calling thread, and what it raises, or Ctrl-C, ends the task.
"""

from collections.abc import Callable
from os import PathLike
from typing import Literal, TypeAlias, TypedDict, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["CorpusWriter", "TokenFile", "encode_corpus", "encode_texts", "normalize", "train_tokenizer"]

_Path: TypeAlias = str | PathLike[str]
_Progress: TypeAlias = Callable[[int, int], object] | None

class _FileReport(TypedDict):
    documents: int
    text_bytes: int
    empty: int
    num_rejected: int
    rejects: list[tuple[str, str]]  # the first 20: (place, reason)

class _TrainReport(TypedDict):
    documents: int
    text_bytes: int
    distinct_pieces: int

class _SplitReport(TypedDict):
    tokens: int
    documents: int
    text_bytes: int
    source_tokens: list[int]  # by source index
    source_documents: list[int]

class _EncodeReport(TypedDict):
    train: _SplitReport
    val: _SplitReport
    tokenizer_fingerprint: str

def normalize(text: str) -> str:
    """`text` in Unicode normal form C, as every document is stored."""

@final
class CorpusWriter:
    """Collects documents, in NFC, in `PATH.text` and `PATH.index`; empty ones are counted, not stored."""

    def __new__(cls, path: _Path) -> CorpusWriter: ...
    def add_file(
        self,
        path: _Path,
        format: Literal["text", "json", "jsonl"],
        source: int,
        *,
        on_bad: Literal["skip", "fail"] = "skip",
        progress: _Progress = None,
    ) -> _FileReport: ...
    def add_documents(self, texts: list[str], source: int) -> _FileReport: ...
    @property
    def num_documents(self) -> int: ...
    @property
    def text_bytes(self) -> int: ...
    def finish(self) -> None: ...

def train_tokenizer(
    corpus: _Path,
    out_path: _Path,
    *,
    vocab_size: int,
    special_tokens: list[str],
    bos_token: str,
    min_frequency: int,
    max_text_bytes: int,
    val_frac: float,
    seed: int,
    weights: list[float],
    num_threads: int = 0,
    progress: _Progress = None,
) -> _TrainReport:
    """Learns a byte-level BPE from the training documents of the corpus file and writes `out_path`.

    Ids 0..vocab_size are 256 bytes and the merges; the special tokens follow them.
    Progress counts the text twice: reading it, and learning the merges.
    """

def encode_corpus(
    corpus: _Path,
    tokenizer: _Path,
    out_dir: _Path,
    *,
    bos_id: int,
    eos_id: int,
    pad_id: int | None = None,
    val_frac: float,
    seed: int,
    weights: list[float],
    num_threads: int = 0,
    progress: _Progress = None,
) -> _EncodeReport:
    """Writes `train.bin` and `val.bin` into `out_dir`; each document is bos, its ids, eos."""

def encode_texts(tokenizer: _Path, texts: list[str]) -> list[list[int]]:
    """Ids of each text, without bos and eos, as `encode_corpus` makes them."""

@final
class TokenFile:
    def __new__(cls, path: _Path, tokenizer_fingerprint: str | None = None) -> TokenFile: ...
    @property
    def num_tokens(self) -> int: ...
    @property
    def num_documents(self) -> int: ...
    @property
    def text_bytes(self) -> int: ...
    @property
    def token_bytes(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def bos_id(self) -> int | None: ...
    @property
    def eos_id(self) -> int | None: ...
    @property
    def pad_id(self) -> int | None: ...
    @property
    def tokenizer_fingerprint(self) -> str: ...
    def rows(self, seq_len: int) -> int: ...
    def eval_rows(self, seq_len: int) -> int: ...
    def verify(self) -> None: ...
    def document(self, index: int) -> tuple[int, int, int]: ...
    def read(self, start: int, out: NDArray[np.int64]) -> None: ...
    def count_targets(self, first_sample: int, count: int, seq_len: int, seed: int | None) -> int: ...
    def fill(
        self,
        first_sample: int,
        count: int,
        seed: int | None,
        inputs: NDArray[np.int64],
        targets: NDArray[np.int64],
        positions: NDArray[np.int32],
        documents: NDArray[np.int32],
    ) -> int: ...
