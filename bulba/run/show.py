"""The ledger of a run: which documents a step reads, from which files, and their text."""

from __future__ import annotations

from omegaconf import OmegaConf
from rich.console import Console
from rich.markup import escape

from bulba.config.build import build
from bulba.data.datamodule import TextData
from bulba.data.ledger import show_step
from bulba.runs import find_run


def show_command(run: str = "last", step: int = 0, chars: int = 300) -> None:
    """Print every piece of text that optimizer step `step` (from 0) of a run reads, up to `chars` characters each."""
    folder = find_run(run)
    config = OmegaConf.load(folder / "config.yaml")
    data: TextData = build(config.data, path="data")
    data.prepare(build(config.tokenizer, path="tokenizer"))
    console = Console()
    entries = show_step(data, step)
    for entry in entries:
        place = f"micro-batch {entry.micro_batch}, row {entry.row}, from token {entry.column}"
        origin = f"{entry.source}: {entry.file}, document {entry.document}, tokens {entry.start} to {entry.stop}"
        console.print(f"[bold]{place}[/bold] \\[{entry.language}] {escape(origin)}", highlight=False)
        text = entry.text if len(entry.text) <= chars else entry.text[:chars] + "..."
        console.print(escape(text), highlight=False)
    documents = len({entry.document for entry in entries})
    print(f"step {step} of {folder}: {len(entries)} pieces of {documents} documents")
