"""`python -m bulba tokenizer report`: the figures of a tokenizer beside others, as tables, a page and a picture."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from bulba.bench.tokenizers.measure import VocabularyFigures, measure
from bulba.bench.tokenizers.page import html_page
from bulba.bench.tokenizers.picture import draw
from bulba.bench.tokenizers.sizes import SizeFigures, measure_sizes, presets
from bulba.bench.tokenizers.tables import Report, tables_of
from bulba.bench.tokenizers.text import SampleText, read_text
from bulba.bench.tokenizers.vocabularies import open_vocabulary
from bulba.config.build import build
from bulba.config.snapshot import write_json
from bulba.data.tales import write_tales
from bulba.data.tokenizer import TOKENIZER_FILE
from bulba.errors import ConfigError
from bulba.files import atomic_file, write_text
from bulba.runs import find_run

FOLDER = "tokenizer_report"
TALES_BYTES = 4_000_000
SIZES = (8_000, 16_000, 32_000, 64_000)
SMALLEST_SIZE = 256
NO_PICTURE = "There is no picture, because matplotlib is not installed: uv pip install 'bulba[report]'."


def report_command(
    tokenizer: str = "last",
    text: str | list[str] | None = None,
    others: str | list[str] | None = None,
    sizes: list[int] | None = None,
    out: str | None = None,
    max_mb: float = 20.0,
) -> None:
    """Print the main tables and write report.html, report.png and report.json.

    tokenizer: a run (its name, folder, or `last`), a tokenizer.json or its folder, or a .gguf file. text: files or
    folders; None is the text of the run, or tales where there is no run. others: tokenizers to hold beside it. sizes:
    vocabulary sizes to learn on the text; None is `SIZES`, [] is none. out: a folder; None is `FOLDER` in the run, or
    here. max_mb: megabytes of text that are measured at most.

    Raises ConfigError, DataError, ExportError or CheckpointError for what cannot be used.
    """
    if max_mb <= 0:
        raise ConfigError(f"max_mb={max_mb} must be above 0.")
    checked_sizes = _check_sizes(list(SIZES) if sizes is None else sizes)
    path, run = find_tokenizer(tokenizer)
    folder = Path(out) if out else (run or Path()) / FOLDER
    with ExitStack() as stack:
        # All are opened before any is measured, which takes minutes.
        vocabularies = [stack.enter_context(open_vocabulary(one)) for one in (path, *_paths(others))]
        sample = stack.enter_context(_sample(_paths(text), run, round(max_mb * 1e6)))
        measured = [_tell(f"measuring {one.name}", measure, one, sample) for one in vocabularies]
    learnt: list[SizeFigures] = (
        _tell("learning at several sizes", measure_sizes, sample, checked_sizes) if checked_sizes else []
    )
    write_report(Report(sample, _distinct(measured), learnt, presets()), folder)


def write_report(report: Report, folder: Path) -> None:
    """Print the main tables and write the three files."""
    tables = list(tables_of(report))
    console = Console()
    for table in tables:
        if table.brief:
            console.print(table.rich())
            console.print(table.note, "", sep="\n", markup=False, highlight=False)
    picture, remark = None, "All figures are also in report.json."
    try:
        picture = draw(report)
    except ModuleNotFoundError:
        remark = NO_PICTURE
        print(NO_PICTURE)
    if picture is not None:
        with atomic_file(folder / "report.png") as temporary:
            temporary.write_bytes(picture)
    title = f"Tokenizer report: {report.vocabularies[0].name}"
    write_text(folder / "report.html", html_page(title, tables, picture, remark))
    write_json(folder / "report.json", as_dict(report))
    print(f"written: {folder / 'report.html'}")


def as_dict(report: Report) -> dict[str, Any]:
    """Everything that was measured, as JSON values."""
    return {
        "text": {
            "origin": report.text.origin,
            "documents": report.text.num_documents,
            "bytes": report.text.num_bytes,
            "num_skipped": report.text.num_skipped,
            "skipped": report.text.skipped,
        },
        "vocabularies": [one.as_dict() for one in report.vocabularies],
        "sizes": [one.as_dict() for one in report.sizes],
        "presets": [vars(preset) for preset in report.presets],
    }


def find_tokenizer(name: str) -> tuple[Path, Path | None]:
    """The tokenizer that a path or a run means, and the run, if it is one."""
    path = Path(name)
    if path.is_file() or path.suffix in (".json", ".gguf") or (path / TOKENIZER_FILE).is_file():
        return path, None
    run = find_run(name)
    return run / "tokenizer", run


@contextmanager
def _sample(paths: list[Path], run: Path | None, max_bytes: int) -> Iterator[SampleText]:
    """The text to measure on: what was asked for, else the run's own, else tales."""
    if paths:
        yield read_text(paths, max_bytes, ", ".join(map(str, paths)))
    elif run is not None and (run / "config.yaml").is_file():
        data = build(OmegaConf.load(run / "config.yaml").data, path="data")
        own = [Path(source.path) for source in data.sources()]
        yield read_text(own, max_bytes, f"the texts of the run {run.name}")
    else:
        with tempfile.TemporaryDirectory() as folder:
            write_tales(Path(folder), TALES_BYTES, seed=0)
            yield read_text([Path(folder)], max_bytes, "tales made by Bulba, because no text was given")


def _check_sizes(sizes: Any) -> list[int]:
    if not isinstance(sizes, list) or not all(type(size) is int and size >= SMALLEST_SIZE for size in sizes):
        raise ConfigError(
            f"sizes={sizes} must be a list of whole numbers from {SMALLEST_SIZE} on, such as sizes=[8000,16000]."
        )
    return sorted(set(sizes))


def _paths(names: str | list[str] | None) -> list[Path]:
    return [Path(str(name)) for name in ([names] if isinstance(names, str) else names or [])]


def _distinct(measured: list[VocabularyFigures]) -> list[VocabularyFigures]:
    """Names that occur again get a number."""
    seen: dict[str, int] = {}
    result = []
    for one in measured:
        seen[one.name] = seen.get(one.name, 0) + 1
        result.append(replace(one, name=f"{one.name} ({seen[one.name]})") if seen[one.name] > 1 else one)
    return result


def _tell(what: str, function: Any, *arguments: Any) -> Any:
    """Say what takes a while, where there is somebody to read it."""
    with Console(file=sys.stderr).status(what):
        return function(*arguments)
