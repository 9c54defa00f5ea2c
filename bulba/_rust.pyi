"""The compiled core: reading text, the tokenizer, token files and sampling; and rounding to half precision.

Use it through `bulba.data`, and `round_to_half` through `bulba.export.types`; nothing else imports it. Every call
releases the GIL. Faults raise `bulba.errors.DataError` with one sentence. `progress(done_bytes, total_bytes)` is called
about five times a second on the calling thread, and what it raises, or Ctrl-C, ends the task.
"""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, ClassVar, Literal, TypeAlias, TypedDict, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Corpus",
    "Encoder",
    "Sampler",
    "ShardWriter",
    "TokenFile",
    "clean_text",
    "detect_language",
    "find_duplicates",
    "normalize",
    "round_to_half",
]

_Path: TypeAlias = str | PathLike[str]
_Progress: TypeAlias = Callable[[int, int], object] | None
_Language: TypeAlias = Literal["other", "be", "ru", "uk", "en", "code"]

class _FileReport(TypedDict):
    num_rejected: int
    rejects: list[tuple[str, str]]  # the first 20: (place, reason)
    num_cuts: int
    encoding: str

class _CleanRules(TypedDict):
    control: bool
    zero_width: bool
    soft_hyphen: bool
    html: bool
    homoglyphs: bool
    repeated_lines: bool
    apostrophes: str
    min_chars: int

class _CleanRuleReport(TypedDict):
    documents: int  # changed by this rule; the sizes are theirs
    occurrences: int
    bytes_before: int
    bytes_after: int
    chars_before: int
    chars_after: int
    samples: list[tuple[str, str]]  # at most 20: (before, after)

class _CleanReport(TypedDict):
    documents: int
    documents_changed: int
    bytes_before: int
    bytes_after: int
    replacement_characters: int  # U+FFFD, left where they are
    rules: dict[str, _CleanRuleReport]  # in the order in which they are applied

class _ShardReport(TypedDict):
    files: list[dict[str, Any]]  # documents, text_bytes, empty, dropped, languages; up to the last with documents
    cleaning: _CleanReport

class _Duplicates(TypedDict):
    exact: int
    near: int
    samples: list[dict[str, Any]]

class _TrainReport(TypedDict):
    documents: int  # those read
    text_bytes: int
    total_text_bytes: int  # what there was to read
    language_bytes: dict[str, int]  # text_bytes by language
    distinct_pieces: int
    stopped_by: Literal["end", "max_text_bytes", "max_memory_bytes"]

class _Counts(TypedDict):
    documents: int
    tokens: int
    text_bytes: int

class _SourceReport(_Counts):
    languages: dict[str, _Counts]

class _SideReport(_Counts):
    sources: list[_SourceReport]

class _AssembleReport(TypedDict):
    train: _SideReport
    val: _SideReport

def normalize(text: str) -> str:
    """`text` in Unicode normal form C, as every document is stored."""

def detect_language(text: str) -> _Language:
    """The language of a document or a sentence; "other" also stands for text without letters."""

def clean_text(text: str, rules: _CleanRules, language: _Language | None = None) -> tuple[str | None, _CleanReport]:
    """The cleaned text (None: too short) and what was done; without `language` it is detected."""

@final
class ShardWriter:
    """Cleans, tags and signs documents on all cores and stores them in the (empty) folder."""

    def __new__(cls, folder: _Path, rules: _CleanRules, *, num_threads: int = 0) -> ShardWriter: ...
    def begin_file(self, language: str | None = None) -> int:
        """The number of the file whose documents follow; `language` is theirs, if it is known."""

    def add_file(
        self,
        path: _Path,
        format: Literal["text", "json", "jsonl", "csv"],
        file: int,
        *,
        on_bad: Literal["skip", "fail"] = "skip",
        progress: _Progress = None,
    ) -> _FileReport:
        """Reads a file as the documents of file number `file`."""

    def add_documents(self, texts: list[str], file: int) -> None:
        """Takes texts as documents of file number `file`."""

    def finish(self) -> _ShardReport:
        """Waits for the last document."""

@final
class Corpus:
    """The documents of many shards: (folder, source, number of its first file), in the order of the sources."""

    def __new__(cls, shards: Sequence[tuple[_Path, int, int]]) -> Corpus: ...
    @property
    def num_documents(self) -> int: ...
    @property
    def text_bytes(self) -> int: ...
    def document(self, index: int) -> tuple[str, int, int, str]:
        """(text, source, file, language)."""

    def find_duplicates(
        self, folder: _Path, *, min_jaccard: float | None, memory_bytes: int, progress: _Progress = None
    ) -> _Duplicates:
        """Writes the list of duplicates as `folder/dropped`; `min_jaccard` None: exact copies only."""

    def keep_duplicates(self, folder: _Path) -> None:
        """Writes an empty list of duplicates as `folder/dropped`."""

    def train_tokenizer(
        self,
        dropped: _Path,
        out_path: _Path,
        *,
        vocab_size: int,
        special_tokens: list[str],
        bos_token: str,
        min_frequency: int,
        max_text_bytes: int,
        max_memory_bytes: int,
        balance: Literal["natural", "parity"] | dict[str, float],
        val_frac: float,
        seed: int,
        num_threads: int = 0,
        progress: _Progress = None,
    ) -> _TrainReport:
        """Learns a byte-level BPE from the training documents and writes `out_path`.

        Ids 0..vocab_size are 256 bytes and the merges; the special tokens follow them. `max_memory_bytes` bounds the
        table of distinct pieces; once it is full no more text is read. `balance`: as in `TokenizerSpec`.
        Progress counts the text twice: reading it, and learning the merges.
        """

    def encode_shard(
        self,
        shard: int,
        dropped: _Path,
        encoder: Encoder,
        folder: _Path,
        *,
        bos_id: int,
        eos_id: int,
        num_threads: int = 0,
        progress: _Progress = None,
    ) -> None:
        """Writes the ids of one shard's documents into `folder`; each is bos, its ids, eos."""

    def assemble(
        self,
        dropped: _Path,
        encoded: Sequence[_Path],
        encoder: Encoder,
        out_dir: _Path,
        *,
        bos_id: int,
        eos_id: int,
        pad_id: int | None = None,
        sources: list[tuple[str, list[str]]],
        val_frac: float,
        seed: int,
        progress: _Progress = None,
    ) -> _AssembleReport:
        """Writes `train.bin` and `val.bin` from the folders that `encode_shard` filled, one a shard.

        `sources` names each source and its files.
        """

def find_duplicates(
    texts: list[str],
    threshold: float = 0.8,
    *,
    memory_bytes: int = 268435456,
    num_threads: int = 0,
    work_folder: _Path | None = None,
    progress: _Progress = None,
) -> list[tuple[int, int, Literal["exact", "near"], float]]:
    """(index, of, kind, Jaccard index) of every text that repeats an earlier, kept one; for tests and measurements.

    `threshold`: the Jaccard index of sets of five-word sequences from which a text is a near duplicate.
    `memory_bytes`: for sorting; what does not fit goes through `work_folder`, the temporary folder of the system.
    """

def round_to_half(values: NDArray[np.float32], halves: NDArray[np.uint16]) -> None:
    """Writes the f16 nearest to each value into `halves` as bit patterns, ties to even; both are of two dimensions.

    Raises:
        DataError: they differ in length, overlap, or are not contiguous and writable.
    """

@final
class Encoder:
    """Text to ids with a byte-level BPE tokenizer.json, without bos and eos; special tokens in text are ordinary text.

    `num_threads` 0 takes one thread for each core.
    """

    def __new__(cls, path: _Path) -> Encoder: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    def encode(self, text: str) -> list[int]: ...
    def encode_batch(self, texts: list[str], num_threads: int = 0) -> list[list[int]]: ...
    def count_tokens(self, texts: list[str], num_threads: int = 0) -> list[int]:
        """The lengths of `encode_batch`, without making its lists."""

    def decode(self, ids: list[int]) -> bytes:
        """The UTF-8 of the text, in NFC; special tokens give nothing. DataError if an id is not in the vocabulary."""

@final
class TokenFile:
    LANGUAGES: ClassVar[list[str]]
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
    @property
    def sources(self) -> list[tuple[str, list[str]]]: ...
    @property
    def spans(self) -> list[int]: ...
    @property
    def checksum(self) -> int: ...
    def verify(self, progress: _Progress = None) -> None: ...
    def document(self, index: int) -> tuple[int, int, int, int, int]: ...
    def origin(self, origin: int) -> tuple[str, str]: ...
    def read(self, start: int, out: NDArray[np.int64]) -> None: ...

@final
class Sampler:
    def __new__(
        cls,
        file: TokenFile,
        seq_len: int,
        *,
        mode: str = "chunked",
        seed: int | None = None,
        weights: Sequence[float] | None = None,
        rows: int = 1,
        num_threads: int = 1,
        progress: _Progress = None,
    ) -> Sampler: ...
    @property
    def num_units(self) -> int: ...
    @property
    def num_targets(self) -> int: ...
    @property
    def num_slots(self) -> int: ...
    @property
    def shapes(self) -> list[tuple[int, int]]: ...
    def shape(self, number: int) -> tuple[int, int]: ...
    def fill(
        self,
        first: int,
        count: int,
        inputs: NDArray[np.int64],
        targets: NDArray[np.int64],
        positions: NDArray[np.int32] | None = None,
        documents: NDArray[np.int32] | None = None,
    ) -> int: ...
    def count_targets(self, first: int, count: int) -> int: ...
    def pieces(self, number: int) -> list[tuple[int, int, int, int, int]]: ...
    def verify(self) -> None: ...
