"""Preparation end to end: what it writes, what it remembers, and what it survives."""

import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bulba.bench.kill_prepare import kill_prepare
from bulba.data import fingerprint, shards
from bulba.data.cleaning import Cleaning
from bulba.data.dedup import Dedup
from bulba.data.prepare import PreparedData, Source, TokenizerSpec, prepare, read_part
from bulba.data.tokenizer import Tokenizer
from bulba.data.tokens import TokenFile
from bulba.errors import BulbaError, DataError
from bulba.report.preparation import preparation_tables
from tests.data.conftest import SMALL_SPEC, UNTOUCHED, write_corpus


def texts_of(prepared: PreparedData, path: Path) -> list[str]:
    tokenizer = Tokenizer.load(prepared.folder)
    file = TokenFile(path, prepared.tokenizer_fingerprint)
    return [tokenizer.decode(file.document(index).tolist()) for index in range(file.num_documents)]


def entries(cache: Path) -> list[Path]:
    """The finished preparations of a cache."""
    return sorted(path.parent for path in cache.glob("*/prepare.json"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_document_ends_up_on_exactly_one_side(corpus: Path, prepared: PreparedData, tmp_path: Path) -> None:
    from bulba import _rust

    expected = Counter(_rust.normalize(text.removeprefix("\ufeff")) for text in write_corpus(tmp_path / "again"))
    train, val = texts_of(prepared, prepared.train_path), texts_of(prepared, prepared.val_path)
    assert Counter(train) + Counter(val) == expected
    assert not set(train) & set(val)
    report = prepared.report
    assert (report["train_documents"], report["val_documents"]) == (len(train), len(val))
    assert report["train_text_bytes"] == sum(len(text.encode()) for text in train)
    assert report["vocab_size"] == 503
    (source,) = report["sources"]
    assert source["documents"] == 41
    assert source["train"]["tokens"] == report["train_tokens"]
    assert source["val"]["tokens"] == report["val_tokens"]
    assert sum(counts["documents"] for counts in source["train"]["languages"].values()) == len(train)
    assert {file["name"]: file["documents"] for file in source["files"]} == {
        "deep/er/two.md": 1,
        "lines.jsonl": 10,
        "list.json": 8,
        "objects.json": 10,
        "one.txt": 1,
        "single.json": 1,
        "table.parquet": 10,
    }
    # Neighbours in the stream do not keep the order of the files.
    numbers = [int(text.split()[1].rstrip(".")) for text in train if text.startswith("Казка")]
    assert numbers != sorted(numbers)


def test_two_preparations_give_the_same_bytes(corpus: Path, prepared: PreparedData, tmp_path: Path) -> None:
    again = prepare([Source(corpus)], SMALL_SPEC, tmp_path, val_frac=0.1, seed=3, **UNTOUCHED)
    assert again.folder.name == prepared.folder.name
    assert contents(again.folder) == contents(prepared.folder) | {
        "prepare.json": (again.folder / "prepare.json").read_bytes()
    }
    assert again.report == prepared.report


def test_a_second_run_does_nothing(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # These files are fresh, and fresh files are not remembered.
    monkeypatch.setattr(fingerprint, "SETTLED_NS", -1)
    texts = tmp_path / "texts"
    shutil.copytree(corpus, texts)
    stages: list[str] = []

    def run() -> PreparedData:
        stages.clear()
        return prepare(
            [Source(texts)], SMALL_SPEC, tmp_path / "cache", progress=lambda stage, done, total: stages.append(stage)
        )

    first = run()
    assert set(stages) == {"hash", "read", "dedup", "tokenizer", "encode", "write"}
    assert entries(tmp_path / "cache") == [first.folder]
    assert not [*(tmp_path / "cache" / "shards").iterdir(), *(tmp_path / "cache" / "work").iterdir()]
    before = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    second = run()
    assert stages == []
    assert second == first
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == before
    # The same folder elsewhere is the same data.
    texts.rename(tmp_path / "moved")
    moved = prepare([Source(tmp_path / "moved")], SMALL_SPEC, tmp_path / "cache")
    assert moved.folder == first.folder


def test_any_change_that_matters_is_noticed(corpus: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    shutil.copytree(corpus, texts)
    cache = tmp_path / "cache"

    def key(language: str | None = None, weight: float | None = None, **changes: Any) -> str:
        arguments: dict[str, Any] = {"val_frac": 0.1, "seed": 0, "tokenizer": SMALL_SPEC} | changes
        return prepare([Source(texts, weight, language)], cache_dir=cache, **arguments).data_fingerprint

    keys = [
        key(),
        key(val_frac=0.2),
        key(seed=1),
        key(language="be"),
        key(on_bad="fail"),
        key(tokenizer=TokenizerSpec(vocab_size=400)),
        key(cleaning=Cleaning(min_chars=3)),
        key(dedup=Dedup(near=False)),
    ]
    # How often a source is drawn is decided when training reads it.
    assert key(weight=2.0) == keys[0]
    # Same name, same size, same time: only the content tells.
    path = texts / "one.txt"
    status = path.stat()
    path.write_text(path.read_text(encoding="utf-8").replace("Казка", "Байка"), encoding="utf-8")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    keys.append(key())
    (texts / "new.md").write_text("Новы файл")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    (texts / "new.md").unlink()
    assert key() == keys[-2]


def test_sources_lie_together_each_shuffled(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        lines = "".join(json.dumps(f"{name} дакумент {number} пра бульбу") + "\n" for number in range(400))
        (tmp_path / name / "texts.jsonl").write_text(lines)
    sources = [Source(tmp_path / "a", language="be"), Source(tmp_path / "b", 2.5)]
    prepared = prepare(sources, TokenizerSpec(vocab_size=260), tmp_path / "cache", val_frac=0.1, **UNTOUCHED)
    train = texts_of(prepared, prepared.train_path)
    names = [text[0] for text in train]
    assert names == sorted(names)
    numbers = [int(text.split()[2]) for text in train]
    assert numbers[: names.count("a")] != sorted(numbers[: names.count("a")])
    assert [source["train"]["documents"] for source in prepared.report["sources"]] == [
        names.count("a"),
        names.count("b"),
    ]
    assert prepared.report["sources"][0]["languages"] == {"be": 400}
    file = TokenFile(prepared.train_path)
    for index, text in enumerate(train):
        assert file.document_source(index) == "ab".index(text[0])


def test_copies_are_found_across_sources_and_the_first_is_kept(corpus: Path, tmp_path: Path) -> None:
    """Doubling the corpus changes nothing but the report."""
    shutil.copytree(corpus, tmp_path / "copy")
    options: dict[str, Any] = {"val_frac": 0.1, "seed": 3}
    once = prepare([Source(corpus)], SMALL_SPEC, tmp_path / "once", **options)
    twice = prepare([Source(corpus), Source(tmp_path / "copy")], SMALL_SPEC, tmp_path / "twice", **options)
    for path in ("train_path", "val_path"):
        assert texts_of(once, getattr(once, path)) == texts_of(twice, getattr(twice, path))
    assert once.tokenizer_path.read_bytes() == twice.tokenizer_path.read_bytes()
    assert twice.report["sources"][1]["train"]["documents"] == twice.report["sources"][1]["val"]["documents"] == 0
    kept = once.report["train_documents"] + once.report["val_documents"]
    assert twice.report["sources"][1]["documents"] >= kept


def test_cleaning_is_applied_and_reported(tmp_path: Path) -> None:
    lines = [f"Пры\u00adвітанне, cвет нумар {number}!" for number in range(20)] + ["ok"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    spec = TokenizerSpec(vocab_size=256)
    prepared = prepare([Source(tmp_path / "a.jsonl")], spec, tmp_path / "cache", cleaning=Cleaning(min_chars=5))
    texts = texts_of(prepared, prepared.train_path) + texts_of(prepared, prepared.val_path)
    assert set(texts) == {f"Прывітанне, свет нумар {number}!" for number in range(20)}
    rules = prepared.report["cleaning"]["rules"]
    assert (rules["soft_hyphen"]["documents"], rules["homoglyphs"]["documents"]) == (20, 20)
    assert rules["soft_hyphen"]["samples"]
    (source,) = prepared.report["sources"]
    assert (source["documents"], source["dropped"]) == (20, 1)


def test_parts_read_apart_make_the_same_whole(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 2000)
    whole = prepare([Source(corpus)], SMALL_SPEC, tmp_path / "whole")
    cache = tmp_path / "parts"
    counts = [read_part([Source(corpus)], cache, part, 3) for part in (2, 0, 1)]
    assert sum(count["part_shards"] for count in counts) == counts[0]["shards"] > 3
    assert read_part([Source(corpus)], cache, 1, 3)["found_done"] == counts[2]["part_shards"]
    stages: list[tuple[str, int]] = []
    made = prepare([Source(corpus)], SMALL_SPEC, cache, progress=lambda stage, done, _: stages.append((stage, done)))
    assert not [done for stage, done in stages if stage == "read" and done]
    assert contents(made.folder) == contents(whole.folder)
    with pytest.raises(DataError, match="part=3 of num_parts=3 does not exist"):
        read_part([Source(corpus)], cache, 3, 3)


def test_bad_documents_are_in_the_report_or_end_the_run(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.jsonl").write_bytes(b'"first document"\nbroken\n"second document"\n' + b"{}\n" * 30)
    (texts / "b.txt").write_bytes(b"a\0b\0\0\xff")
    (texts / "c.pdf").write_bytes(b"%PDF")
    (texts / "d.txt").write_text("  \n")
    spec = TokenizerSpec(vocab_size=256)
    prepared = prepare([Source(texts)], spec, tmp_path / "cache", val_frac=0.5, **UNTOUCHED)
    (source,) = prepared.report["sources"]
    assert (source["documents"], source["num_rejected"], source["empty"]) == (2, 32, 1)
    assert source["ignored"] == {".pdf": 1}
    lines, binary, _ = source["files"]
    assert lines["rejects"][0] == ["line 2", "broken JSON, expected value at column 1"]
    assert len(lines["rejects"]) == 20
    assert binary["num_rejected"] == 1
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: broken JSON"):
        prepare([Source(texts)], spec, tmp_path / "cache", on_bad="fail")
    assert entries(tmp_path / "cache") == [prepared.folder]


def test_no_text_is_dropped_for_its_language(tmp_path: Path) -> None:
    texts = {
        "be": "Ранкам дзед запаліў печ, і ў хаце запахла бульбай, а за акном ужо святлела.",
        "ru": "Утром дед затопил печь, и в избе запахло картошкой, а за окном уже светало.",
        "uk": "Вранці дід затопив піч, і в хаті запахло картоплею, а за вікном уже світало.",
        "en": "In the morning the old man lit the stove, and the house smelled of potatoes.",
        "code": "def add(a, b):\n    total = a + b\n    return total\n\nfor i in range(10):\n    print(add(i, 1))\n",
        "other": "漢字かな交じり文",
        "polish": "Rano dziadek rozpalił w piecu i w chacie zapachniało ziemniakami, a za oknem już świtało.",
        "trasianka": "Я ўчора хадзіла ў бальніцу, там ачарадзь бальшая была, патом палучыла справку і паехала дамой.",
        "surzhyk": "Я вчора ходила в больницю, там очередь була здоровенна, потом получила справку і поїхала домой.",
        "signs": "1 + 1 = 2 → 🥔🥔",
    }
    lines = "".join(json.dumps(text) + "\n" for text in texts.values())
    (tmp_path / "a.jsonl").write_text(lines)
    prepared = prepare([Source(tmp_path / "a.jsonl")], TokenizerSpec(vocab_size=256), tmp_path / "c", val_frac=0.3)
    kept = [*texts_of(prepared, prepared.train_path), *texts_of(prepared, prepared.val_path)]
    assert sorted(kept) == sorted(texts.values())
    (source,) = prepared.report["sources"]
    assert (source["documents"], source["dropped"], source["num_rejected"]) == (len(texts), 0, 0)
    assert source["languages"].keys() == {"be", "ru", "uk", "en", "code", "other"}


def test_files_that_cannot_be_opened_are_left_out_and_named_or_end_the_run(corpus: Path, tmp_path: Path) -> None:
    texts, cache = tmp_path / "texts", tmp_path / "cache"
    shutil.copytree(corpus, texts)
    whole = prepare([Source(texts)], SMALL_SPEC, cache)
    (texts / "gone.txt").symlink_to(tmp_path / "nowhere")
    (texts / "loop.md").symlink_to("loop.md")
    again = prepare([Source(texts)], SMALL_SPEC, cache)
    assert again.folder == whole.folder, "the same texts are the same data"
    for report in (again.report, json.loads((again.folder / "prepare.json").read_bytes())):
        (source,) = report["sources"]
        assert (source["num_rejected"], source["documents"]) == (2, whole.report["sources"][0]["documents"])
        rejects = {file["name"]: file["rejects"] for file in source["files"] if file["num_rejected"]}
        assert rejects.pop("gone.txt") == [["the file", "cannot be opened: No such file or directory"]]
        assert "Too many" in rejects.pop("loop.md")[0][1]
        assert not rejects
    shown = Console(width=150, record=True, file=io.StringIO())
    for table in preparation_tables(again.report):
        shown.print(table)
    assert "gone.txt" in shown.export_text()
    with pytest.raises(DataError, match=r"cannot read .*gone\.txt: No such file"):
        prepare([Source(texts)], SMALL_SPEC, cache, on_bad="fail")
    (texts / "gone.txt").unlink()
    (texts / "loop.md").unlink()
    assert prepare([Source(texts)], SMALL_SPEC, cache).report == whole.report
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "gone.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"only holds nothing .*1 that cannot be opened, .*gone\.txt: No such file"):
        prepare([Source(texts), Source(tmp_path / "only")], SMALL_SPEC, cache)


@pytest.mark.parametrize("stage", ["hash", "read"])
def test_files_that_vanish_while_others_are_read_are_left_out_and_named(
    stage: str, corpus: Path, tmp_path: Path
) -> None:
    texts, cache = tmp_path / "texts", tmp_path / "cache"

    def vanish(now: str, done: int, total: int) -> None:
        if now == stage:
            (texts / "table.parquet").unlink(missing_ok=True)

    shutil.copytree(corpus, texts)
    made = prepare([Source(texts)], SMALL_SPEC, cache, progress=vanish)
    (source,) = made.report["sources"]
    assert source["files"][-1]["name"] == "table.parquet"
    assert source["files"][-1]["rejects"] == [["the file", "cannot be opened: it vanished while the texts were read"]]
    assert source["documents"] == 31
    assert (
        contents(made.folder)["train.bin"]
        == contents(prepare([Source(texts)], SMALL_SPEC, tmp_path / "b").folder)["train.bin"]
    )
    shutil.rmtree(texts)
    shutil.copytree(corpus, texts)
    with pytest.raises(DataError, match=r"cannot read .*table\.parquet: No such file"):
        prepare([Source(texts)], SMALL_SPEC, tmp_path / "c", on_bad="fail", progress=vanish)


@pytest.mark.skipif(os.name != "posix", reason="file modes of POSIX")
def test_what_may_not_be_read_is_left_out_and_named() -> None:
    with tempfile.TemporaryDirectory() as name, plain_user(Path(name)):
        texts = Path(name) / "texts"
        for part in ("open", "closed"):
            write_corpus(texts / part)
        (texts / "closed").chmod(0)
        (texts / "open" / "one.txt").chmod(0)
        made = prepare([Source(texts)], SMALL_SPEC, Path(name) / "cache")
        (texts / "closed").chmod(0o700)
    (source,) = made.report["sources"]
    assert source["documents"] == 40
    assert [(file["name"], file["rejects"]) for file in source["files"] if file["num_rejected"]] == [
        (name, [["the file", "cannot be opened: Permission denied"]]) for name in ("closed", "open/one.txt")
    ]


@contextmanager
def plain_user(folder: Path) -> Iterator[None]:
    """root may read everything, so as root this becomes somebody else, who owns the folder."""
    root = os.geteuid() == 0
    if root:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_ready_tokenizer_is_taken_as_it_is(corpus: Path, prepared: PreparedData, tmp_path: Path) -> None:
    for path in (prepared.folder, prepared.tokenizer_path):
        again = prepare([Source(corpus)], TokenizerSpec(path=path), tmp_path, val_frac=0.1, seed=3, **UNTOUCHED)
        assert again.tokenizer_path.read_bytes() == prepared.tokenizer_path.read_bytes()
        assert again.train_path.read_bytes() == prepared.train_path.read_bytes()
    assert entries(tmp_path) == [again.folder]
    assert again.data_fingerprint != prepared.data_fingerprint


def test_impossible_requests_say_what_to_change(corpus: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    single = tmp_path / "single.txt"
    single.write_text("Адзін дакумент.")
    blank = tmp_path / "blank.txt"
    blank.write_text(" \n ")
    cases: list[tuple[list[Source], dict[str, Any], str]] = [
        ([], {}, r"set data\.sources"),
        ([Source(tmp_path / "nowhere")], {}, "does not exist"),
        ([Source(single)], {}, "only one distinct document"),
        ([Source(single), Source(single)], {}, "only one distinct document"),
        ([Source(blank)], {}, "no text at all"),
        ([Source(corpus)], {"val_frac": 0.0}, r"data\.val_frac: expected a fraction"),
        ([Source(corpus)], {"val_frac": 1.5}, r"data\.val_frac: expected a fraction"),
        ([Source(corpus, language="pl")], {}, "language of a source: expected be, ru, uk"),
        ([Source(corpus)], {"on_bad": "ignore"}, r"data\.on_bad should be skip or fail"),
        ([Source(corpus)], {"tokenizer": TokenizerSpec(vocab_size=100_000)}, r"set tokenizer\.vocab_size=\d+"),
        ([Source(corpus)], {"tokenizer": TokenizerSpec(path=tmp_path / "no")}, "cannot read the tokenizer"),
    ]
    for sources, changes, message in cases:
        with pytest.raises(DataError, match=message):
            prepare(sources, cache_dir=cache, **({"tokenizer": SMALL_SPEC} | changes))
    assert entries(cache) == []


def test_a_folder_that_cannot_be_written_is_named(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises((BulbaError, NotADirectoryError), match="file"):
        prepare([Source(corpus)], SMALL_SPEC, tmp_path / "file" / "cache")


def test_a_file_that_changes_while_it_is_read_is_refused(corpus: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    shutil.copytree(corpus, texts)

    def meddle(stage: str, done: int, total: int) -> None:
        if stage == "read":
            (texts / "one.txt").write_text("Зусім іншы тэкст")

    with pytest.raises(DataError, match=r"one\.txt changed while it was read"):
        prepare([Source(texts)], SMALL_SPEC, tmp_path / "cache", progress=meddle)
    assert entries(tmp_path / "cache") == []


def test_a_damaged_entry_is_refused_not_used(corpus: Path, tmp_path: Path) -> None:
    prepared = prepare([Source(corpus)], SMALL_SPEC, tmp_path)
    with prepared.train_path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match=r"train\.bin: the size of the file"):
        prepare([Source(corpus)], SMALL_SPEC, tmp_path)
    (prepared.folder / "prepare.json").unlink()
    with pytest.raises(DataError, match="not a whole preparation .*delete that folder"):
        prepare([Source(corpus)], SMALL_SPEC, tmp_path)


LIMITED = """
    import resource, sys
    from pathlib import Path
    from bulba.data.prepare import Source, prepare
    from bulba.errors import BulbaError
    from tests.data.conftest import SMALL_SPEC
    corpus, cache, limit = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    try:
        prepare([Source(corpus)], SMALL_SPEC, cache)
    except BulbaError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no file-size limit to set")
def test_a_full_disk_is_one_sentence_wherever_it_strikes(corpus: Path, tmp_path: Path) -> None:
    """A limit on the size of files fails a write as a full disk does."""
    whole = prepare([Source(corpus)], SMALL_SPEC, tmp_path / "whole")
    sizes = {path.name: path.stat().st_size for path in whole.folder.iterdir()}
    places = set()
    for limit in (500, 5_000, sizes["tokenizer.json"] - 1, sizes["train.bin"] - 1, max(sizes.values()) - 1):
        cache = tmp_path / f"cache-{limit}"
        command = [sys.executable, "-c", textwrap.dedent(LIMITED), str(corpus), str(cache), str(limit)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "no room left" in result.stdout or "the disk is full" in result.stdout, (limit, result)
        assert result.stdout.count("\n") == 1
        assert str(cache) in result.stdout
        assert entries(cache) == []
        places.add(result.stdout.split("/")[-1].split()[0])
    assert len(places) > 1, "the limits should strike in different files"


def slow_prepare(corpus: Path, cache: Path, started: Any, go: Any) -> None:
    def pause(stage: str, done: int, total: int) -> None:
        if stage == "encode" and not started.is_set():
            started.set()
            go.wait()

    prepare([Source(corpus)], SMALL_SPEC, cache, progress=pause)


def test_a_killed_run_leaves_its_finished_parts_and_nothing_else_that_counts(corpus: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started, go = context.Event(), context.Event()
    process = context.Process(target=slow_prepare, args=(corpus, tmp_path, started, go))
    process.start()
    assert started.wait(60)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").glob("*/*")}
    assert made
    assert entries(tmp_path) == []
    (leftover,) = tmp_path.glob("work/*/encoded/.tmp-*")
    stages: list[tuple[str, int]] = []
    finished = prepare([Source(corpus)], SMALL_SPEC, tmp_path, progress=lambda *report: stages.append(report[:2]))
    # Reading is not done again: its finished shards were found, and the plan too.
    assert not [stage for stage, done in stages if stage in ("read", "dedup", "tokenizer") and done]
    assert not leftover.is_dir()
    TokenFile(finished.train_path).verify()


def test_changed_input_is_read_again_after_a_kill(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    texts, cache = tmp_path / "texts", tmp_path / "cache"
    shutil.copytree(corpus, texts)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "dedup":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare([Source(texts)], SMALL_SPEC, cache, progress=stop)
    before = {path.name for path in (cache / "shards").iterdir()}
    (texts / "one.txt").write_text("Зусім іншы тэкст пра бульбу і дранікі")
    with pytest.raises(KeyboardInterrupt):
        prepare([Source(texts)], SMALL_SPEC, cache, progress=stop)
    after = {path.name for path in (cache / "shards").iterdir()}
    assert len(after - before) == 1
    made = prepare([Source(texts)], SMALL_SPEC, cache, **UNTOUCHED)
    texts_made = texts_of(made, made.train_path) + texts_of(made, made.val_path)
    assert "Зусім іншы тэкст пра бульбу і дранікі" in texts_made


def test_a_run_killed_behind_its_last_rename_is_tidied_up_by_the_next(corpus: Path, tmp_path: Path) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bulba.data.prepare.remove_shards", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare([Source(corpus)], SMALL_SPEC, tmp_path)
    (entry,) = entries(tmp_path)
    before = contents(entry)
    assert list(tmp_path.glob("shards/*"))
    assert list(tmp_path.glob("work/*"))
    prepare([Source(corpus)], SMALL_SPEC, tmp_path)
    assert contents(entry) == before
    assert not [*tmp_path.glob("shards/*"), *tmp_path.glob("work/*")]


@pytest.mark.slow
def test_kill_9_anywhere_and_a_restart_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_corpus(tmp_path / name)
    kills = kill_prepare([tmp_path / "a", tmp_path / "b", tmp_path / "c"], kills=6, vocab_size=500, shard_bytes=4000)
    assert len(kills) == 6


def test_two_runs_at_once_both_get_the_one_result(corpus: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started, go = context.Event(), context.Event()
    process = context.Process(target=slow_prepare, args=(corpus, tmp_path, started, go))
    process.start()
    assert started.wait(60)
    first = prepare([Source(corpus)], SMALL_SPEC, tmp_path)
    before = contents(first.folder)
    go.set()
    process.join(60)
    assert process.exitcode == 0
    assert contents(first.folder) == before
    assert entries(tmp_path) == [first.folder]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_a_run_at_once_and_leaves_nothing(corpus: Path, tmp_path: Path) -> None:
    program = """
        import os, signal, sys
        from bulba.data.prepare import Source, prepare
        from tests.data.conftest import SMALL_SPEC
        def interrupt(stage, done, total):
            if stage == sys.argv[3]:
                os.kill(os.getpid(), signal.SIGINT)
        prepare([Source(sys.argv[1])], SMALL_SPEC, sys.argv[2], progress=interrupt)
    """
    for stage in ("read", "tokenizer", "encode"):
        command = [sys.executable, "-c", textwrap.dedent(program), str(corpus), str(tmp_path / stage), stage]
        result = subprocess.run(command, capture_output=True, text=True)
        assert "KeyboardInterrupt" in result.stderr
        assert result.returncode != 0
        assert entries(tmp_path / stage) == []
        assert not list((tmp_path / stage).rglob(".tmp-*"))


def test_memory_of_hashes_is_only_a_memory(corpus: Path, tmp_path: Path) -> None:
    first = prepare([Source(corpus)], SMALL_SPEC, tmp_path)
    for broken in ("{", "[]", '{"x": 3}'):
        (tmp_path / "file_hashes.json").write_text(broken)
        assert prepare([Source(corpus)], SMALL_SPEC, tmp_path) == first


def test_a_change_right_after_a_run_is_noticed(tmp_path: Path) -> None:
    """Two writes may carry the same time, so a fresh file is read again."""
    texts = tmp_path / "texts.jsonl"
    texts.write_text('"адзін"\n"два"\n"тры"\n')
    spec = TokenizerSpec(vocab_size=256)
    first = prepare([Source(texts)], spec, tmp_path / "cache")
    status = texts.stat()
    texts.write_text('"адзін"\n"два"\n"сем"\n')
    os.utime(texts, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert time.time_ns() - status.st_mtime_ns < 60_000_000_000
    second = prepare([Source(texts)], spec, tmp_path / "cache")
    assert first.data_fingerprint != second.data_fingerprint
