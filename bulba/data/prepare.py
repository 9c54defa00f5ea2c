"""Preparation: from sources of text to a tokenizer and two token files, cached by content.

The steps, each of which a killed preparation does not do again:

1. read: every shard of input files becomes cleaned, tagged and signed documents (`bulba.data.shards`);
2. plan: duplicates are found and the tokenizer is learnt, over all shards (`CACHE/work/KEY/plan`);
3. encode: every shard becomes token ids (`CACHE/work/KEY/encoded`);
4. assemble: `CACHE/KEY`, the finished entry, holds tokenizer.json with its config, train.bin, val.bin and
   prepare.json, the report of every input file.

KEY is a hash of everything that decides the bytes: each input file's name and content, the cleaning, the tokenizer,
the split, and the version of the format. Entries are whole or absent. Processes that prepare the same texts at once
do not disturb each other; `read_part` lets several share the first step, which is most of the work.
"""

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bulba import _rust
from bulba.data.cleaning import Cleaning, merge_reports
from bulba.data.dedup import Dedup
from bulba.data.fingerprint import FileHashes
from bulba.data.prepare_report import of_files, totals
from bulba.data.readers import Found, LostFileError, find_files
from bulba.data.readers.base import OnBad
from bulba.data.shards import Reading, Shard, load_report, plan_shards, read_shard, remove_shards
from bulba.data.tokenizer import TOKENIZER_FILE, Tokenizer
from bulba.data.tokens import TokenFile
from bulba.data.workspace import remove_leftovers, working_folder
from bulba.errors import ConfigError, DataError
from bulba.files import disk_errors, write_text

FORMAT_VERSION = 2
"""Raised whenever the same inputs would give other bytes; every older cache entry is then left alone."""

REPORT_FILE = "prepare.json"

VANISHED = "it vanished while the texts were read"

Progress = Callable[[str, int, int], object]
"""Called with (stage, done_bytes, total_bytes); the stages are "hash", "read", "dedup", "tokenizer", "encode" and
"write"."""


Result = TypeVar("Result")


@dataclass(frozen=True)
class Source:
    """A file, a folder or a glob pattern of text.

    `weight`: its share of the tokens that training sees, beside the other sources' weights; None for every source
    means its natural share. `language` overrules the detection of languages for all of its documents.
    """

    path: str | Path
    weight: float | None = None
    language: str | None = None


@dataclass(frozen=True)
class TokenizerSpec:
    """How to get the tokenizer: train one, or with `path` take a byte-level tokenizer.json or its folder.

    `vocab_size` counts the 256 bytes and the merges; the special tokens follow it, so 32000 gives 32003 rows.
    `max_text_bytes` and `max_memory_mb` (of the table of distinct pieces) bound what is learnt from: a random sample of
    the documents, and the report says how much of it. `balance`: "natural", every language has the say of its share
    of the text; {language: weight}, of its weight; "parity", merges go to the language that is worst off
    (Foroutan et al. 2025, "Parity-Aware Byte-Pair Encoding").
    """

    vocab_size: int = 32_000
    bos_token: str = "<|begin_of_text|>"
    eos_token: str = "<|end_of_text|>"
    pad_token: str = "<|pad|>"
    min_frequency: int = 2
    max_text_bytes: int = 1 << 30
    max_memory_mb: int = 1024
    balance: Any = "natural"
    path: str | Path | None = None

    def __post_init__(self) -> None:
        known = ("be", "ru", "uk", "en", "code", "other")
        if isinstance(self.balance, str):
            if self.balance not in ("natural", "parity"):
                raise ConfigError(
                    f"tokenizer.balance={self.balance} must be natural, parity, or weights of languages such as "
                    "{be: 1, ru: 1, uk: 1, en: 0.5, code: 0.5}."
                )
            return
        for language, weight in self.balance.items():
            if language not in known or not (isinstance(weight, int | float) and 0 <= weight < float("inf")):
                raise ConfigError(
                    f"tokenizer.balance: {language}: {weight!r} is not a weight: give numbers of 0 or more to "
                    f"{', '.join(known)}."
                )
        if not any(self.balance.values()):
            raise ConfigError("tokenizer.balance gives no language a weight above 0: there is nothing to learn from.")


@dataclass(frozen=True)
class PreparedData:
    """A finished cache entry."""

    folder: Path
    tokenizer_path: Path
    train_path: Path
    val_path: Path
    report: dict[str, Any] = field(repr=False)
    data_fingerprint: str
    tokenizer_fingerprint: str


def prepare(
    sources: Sequence[Source],
    tokenizer: TokenizerSpec,
    cache_dir: str | Path,
    val_frac: float = 0.01,
    seed: int = 0,
    on_bad: OnBad = "skip",
    cleaning: Cleaning | None = None,
    dedup: Dedup | None = None,
    progress: Progress | None = None,
) -> PreparedData:
    """Reads, cleans, tokenizes and writes the sources, or finds that done already.

    Args:
        val_frac: share of documents held out, above 0 and below 1; equal texts always land on one side.
        seed: decides the split and the order of documents.
        on_bad: "skip" leaves out broken documents and files that cannot be opened and reports them, "fail" ends at the
            first.
        cleaning, dedup: the rules; None for their defaults.

    Raises:
        DataError: a source cannot be read, the text does not suffice, or the disk is full.
    """
    cache = Path(cache_dir)
    reading = Reading(on_bad, cleaning or Cleaning())
    job = _Job(list(sources), tokenizer, cache, val_frac, seed, reading, dedup or Dedup(), progress or _silent)
    with disk_errors(cache):
        plan = job.with_found(job.make_entry)
        return _open(plan)


def read_part(
    sources: Sequence[Source],
    cache_dir: str | Path,
    part: int,
    num_parts: int,
    on_bad: OnBad = "skip",
    cleaning: Cleaning | None = None,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Reads every `num_parts`-th shard, from number `part` on, for a later `prepare` with the same arguments.

    Returns:
        How many shards there are, and how many of them this call has in its part and found done already.

    Raises:
        DataError: as `prepare`; or `part` is not below `num_parts`.
    """
    if not 0 <= part < num_parts:
        raise DataError(f"part={part} of num_parts={num_parts} does not exist: parts count from 0 to num_parts - 1")
    cache = Path(cache_dir)
    reading = Reading(on_bad, cleaning or Cleaning())
    with disk_errors(cache):
        job = _Job(list(sources), TokenizerSpec(), cache, 0.0, 0, reading, Dedup(), progress or _silent)
        return job.with_found(partial(job.read_part, part, num_parts))


def _silent(stage: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class _Plan:
    """What is to be prepared, and where."""

    found: list[Found]
    shards: list[Shard]
    given: Tokenizer | None
    key: str
    entry: Path
    work: Path


@dataclass(frozen=True)
class _Job:
    """One call of `prepare`: its arguments, and the steps that need them."""

    sources: list[Source]
    tokenizer: TokenizerSpec
    cache: Path
    val_frac: float
    seed: int
    reading: Reading
    dedup: Dedup
    progress: Progress

    def with_found(self, work: Callable[[list[Found]], Result]) -> Result:
        """What `work` makes of the files; with on_bad "skip", once more without those that were lost meanwhile."""
        found = self.find([])
        while True:
            try:
                return work(found)
            except LostFileError:
                before, found = found, self.find(found)
                if self.reading.on_bad == "fail" or found == before:
                    raise

    def find(self, before: list[Found]) -> list[Found]:
        """The files of the sources; those that were there `before` and are not now count as unopened."""
        if self.reading.on_bad not in ("skip", "fail"):
            raise DataError(f"data.on_bad should be skip or fail, not {self.reading.on_bad!r}")
        if not self.sources:
            raise DataError("there is no source of text: set data.sources to at least one file or folder")
        on_bad = self.reading.on_bad
        found = [find_files(Path(source.path).expanduser(), on_bad) for source in self.sources]
        for then, now in zip(before, found, strict=False):
            lost = then.unopened | dict.fromkeys((file.name for file in then.files), VANISHED)
            for name in sorted(lost.keys() - {file.name for file in now.files} - now.unopened.keys()):
                now.unopened[name] = lost[name]
        return found

    def make_entry(self, found: list[Found]) -> "_Plan":
        """The plan for these files, after its cache entry is made or found."""
        plan = self.plan(found)
        if not plan.entry.is_dir():
            try:
                self.build(plan)
            except (DataError, FileNotFoundError):
                # Another process with the same inputs has finished and removed the common work files.
                if not plan.entry.is_dir():
                    raise
        # Also where a process was killed between the last rename and this.
        if plan.work.is_dir():
            remove_shards(self.cache, plan.shards)
            shutil.rmtree(plan.work, ignore_errors=True)
        return plan

    def read_part(self, part: int, num_parts: int, found: list[Found]) -> dict[str, int]:
        shards = self.shards(found)
        mine = shards[part::num_parts]
        done = sum(shard.folder(self.cache).is_dir() for shard in mine)
        self.read(mine)
        return {"shards": len(shards), "part_shards": len(mine), "found_done": done}

    def shards(self, found: list[Found]) -> list[Shard]:
        self.cache.mkdir(parents=True, exist_ok=True)
        hashes = FileHashes(self.cache / "file_hashes.json")
        languages = [source.language for source in self.sources]
        shards = plan_shards(found, languages, self.reading, hashes, partial(self.progress, "hash"))
        hashes.save()
        return shards

    def plan(self, found: list[Found]) -> _Plan:
        shards = self.shards(found)
        given = None if self.tokenizer.path is None else Tokenizer.load(self.tokenizer.path)
        settings = {
            "format_version": FORMAT_VERSION,
            "files": [[file.name for file in one.files] for one in found],
            "shards": [[shard.key, shard.source] for shard in shards],
            "tokenizer": asdict(self.tokenizer) if given is None else given.identity,
            "dedup": [self.dedup.exact, self.dedup.near, self.dedup.threshold],
            "val_frac": self.val_frac,
            "seed": self.seed,
        }
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        return _Plan(found, shards, given, key, self.cache / key[:32], self.cache / "work" / key[:32])

    def build(self, plan: _Plan) -> None:
        """Makes the cache entry."""
        for folder in (self.cache, self.cache / "shards", plan.work, plan.work / "encoded"):
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
        corpus, reports = self._corpus(plan)
        shared = self._share(plan, corpus)
        tokenizer = plan.given or Tokenizer.load(shared)
        encoder = _rust.Encoder(shared / TOKENIZER_FILE)
        encoded = self._encode(plan, corpus, shared, tokenizer, encoder, reports)
        with working_folder(self.cache, plan.entry) as folder:
            tokenizer.save_pretrained(folder)
            written = self._assemble(plan, corpus, shared, tokenizer, encoder, encoded, folder)
            report = self._report(plan, shared, tokenizer, reports, written)
            write_text(folder / REPORT_FILE, json.dumps(report, indent=1, ensure_ascii=False))

    def read(self, shards: Sequence[Shard]) -> None:
        total, done = sum(shard.size_bytes for shard in shards), 0
        for shard in shards:
            read_shard(shard, self.cache, self.reading, _offset(self.progress, "read", done, total))
            done += shard.size_bytes

    def _corpus(self, plan: _Plan) -> tuple[_rust.Corpus, list[dict[str, Any]]]:
        """All documents, and the reports of all shards."""
        places = [(shard.folder(self.cache), shard.source, shard.first_origin) for shard in plan.shards]
        while True:
            self.read(plan.shards)
            try:
                # Once these are open, it does not matter if another process that is done with them deletes them.
                return _rust.Corpus(places), [load_report(folder) for folder, _, _ in places]
            except (DataError, FileNotFoundError):
                if all(folder.is_dir() for folder, _, _ in places):
                    raise

    def _share(self, plan: _Plan, corpus: _rust.Corpus) -> Path:
        """What all shards need to be encoded: the list of duplicates and the tokenizer."""
        folder = plan.work / "plan"
        if not folder.is_dir():
            with working_folder(plan.work, folder) as temporary:
                duplicates = self._find_duplicates(corpus, temporary)
                training = self._make_tokenizer(plan, corpus, temporary)
                write_text(temporary / "plan.json", json.dumps({"duplicates": duplicates, "tokenizer": training}))
        return folder

    def _find_duplicates(self, corpus: _rust.Corpus, folder: Path) -> dict[str, Any]:
        if not self.dedup.exact:
            corpus.keep_duplicates(folder)
            return {"exact": 0, "near": 0, "samples": []}
        found = corpus.find_duplicates(
            folder,
            min_jaccard=self.dedup.threshold if self.dedup.near else None,
            memory_bytes=self.dedup.memory_mb << 20,
            progress=partial(self.progress, "dedup"),
        )
        return dict(found)

    def _make_tokenizer(self, plan: _Plan, corpus: _rust.Corpus, folder: Path) -> dict[str, Any]:
        spec = self.tokenizer
        if plan.given is not None:
            plan.given.save_pretrained(folder)
            return {"taken_from": str(spec.path)}
        file = folder / TOKENIZER_FILE
        learnt = corpus.train_tokenizer(
            folder / "dropped",
            file,
            vocab_size=spec.vocab_size,
            special_tokens=[spec.bos_token, spec.eos_token, spec.pad_token],
            bos_token=spec.bos_token,
            min_frequency=spec.min_frequency,
            max_text_bytes=spec.max_text_bytes,
            max_memory_bytes=spec.max_memory_mb << 20,
            balance=spec.balance,
            val_frac=self.val_frac,
            seed=self.seed,
            progress=partial(self.progress, "tokenizer"),
        )
        Tokenizer.load(file, spec.bos_token, spec.eos_token, spec.pad_token).save_pretrained(folder)
        return {**asdict(spec), "learnt_from": learnt}

    def _encode(
        self,
        plan: _Plan,
        corpus: _rust.Corpus,
        shared: Path,
        tokenizer: Tokenizer,
        encoder: _rust.Encoder,
        reports: list[dict[str, Any]],
    ) -> list[Path]:
        total, done = corpus.text_bytes, 0
        folders = []
        for number, report in enumerate(reports):
            folder = plan.work / "encoded" / str(number)
            if not folder.is_dir():
                with working_folder(folder.parent, folder) as temporary:
                    corpus.encode_shard(
                        number,
                        shared / "dropped",
                        encoder,
                        temporary,
                        bos_id=tokenizer.bos_id,
                        eos_id=tokenizer.eos_id,
                        progress=_offset(self.progress, "encode", done, total),
                    )
            done += sum(file["text_bytes"] for file in report["files"])
            folders.append(folder)
        return folders

    def _assemble(
        self,
        plan: _Plan,
        corpus: _rust.Corpus,
        shared: Path,
        tokenizer: Tokenizer,
        encoder: _rust.Encoder,
        encoded: list[Path],
        folder: Path,
    ) -> dict[str, Any]:
        written = corpus.assemble(
            shared / "dropped",
            encoded,
            encoder,
            folder,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            pad_id=tokenizer.pad_id,
            sources=[
                (Path(source.path).name, [file.name for file in one.files])
                for source, one in zip(self.sources, plan.found, strict=True)
            ],
            val_frac=self.val_frac,
            seed=self.seed,
            progress=partial(self.progress, "write"),
        )
        return dict(written)

    def _report(
        self,
        plan: _Plan,
        shared: Path,
        tokenizer: Tokenizer,
        reports: list[dict[str, Any]],
        written: dict[str, Any],
    ) -> dict[str, Any]:
        shared_report = json.loads((shared / "plan.json").read_bytes())
        return {
            "format_version": FORMAT_VERSION,
            "data_fingerprint": plan.key,
            "tokenizer_fingerprint": tokenizer.fingerprint,
            "vocab_size": tokenizer.vocab_size,
            "bos_id": tokenizer.bos_id,
            "eos_id": tokenizer.eos_id,
            "pad_id": tokenizer.pad_id,
            "tokenizer": shared_report["tokenizer"],
            "val_frac": self.val_frac,
            "seed": self.seed,
            "on_bad": self.reading.on_bad,
            "cleaning": merge_reports([one["cleaning"] for one in reports]),
            "duplicates": shared_report["duplicates"],
            **totals(written),
            "sources": list(self._source_reports(plan, reports, written)),
            "versions": {name: importlib.metadata.version(name) for name in ("numpy", "pyarrow", "tokenizers")},
        }

    def _source_reports(
        self, plan: _Plan, reports: list[dict[str, Any]], written: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        for index, (source, found) in enumerate(zip(self.sources, plan.found, strict=True)):
            files = [
                {"name": file.name, "format": file.format, "bytes": file.size_bytes} | report
                for shard, one in zip(plan.shards, reports, strict=True)
                if shard.source == index
                for file, report in zip(shard.files, one["files"], strict=True)
            ]
            yield {
                "path": str(source.path),
                "language": source.language,
                **of_files(files, found),
                **{side: written[side]["sources"][index] for side in ("train", "val")},
            }


def _offset(progress: Progress, stage: str, before: int, total: int) -> Callable[[int, int], object]:
    return lambda done, _: progress(stage, before + done, total)


def _open(plan: _Plan) -> PreparedData:
    """A cache entry, its token files checked against its tokenizer, and its report of what is left out up to date."""
    entry = plan.entry
    try:
        report = json.loads((entry / REPORT_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{entry} is not a whole preparation ({error}): delete that folder and run again") from error
    # Neither decides a byte, so the entry of another day may have met others.
    sources = [
        source | of_files(source["files"], found) for source, found in zip(report["sources"], plan.found, strict=True)
    ]
    if sources != report["sources"]:
        report["sources"] = sources
        write_text(entry / REPORT_FILE, json.dumps(report, indent=1, ensure_ascii=False))
    prepared = PreparedData(
        folder=entry,
        tokenizer_path=entry / TOKENIZER_FILE,
        train_path=entry / "train.bin",
        val_path=entry / "val.bin",
        report=report,
        data_fingerprint=report["data_fingerprint"],
        tokenizer_fingerprint=report["tokenizer_fingerprint"],
    )
    for path in (prepared.train_path, prepared.val_path):
        TokenFile(path, prepared.tokenizer_fingerprint)
    return prepared
