"""The ledger: what exactly an optimizer step reads, from the order alone, without a log.

The order of the samples is a pure function of (seed, step), so any step of a run that is over, or still to come, can be
named again as long as its token files are there.
"""

from __future__ import annotations

from dataclasses import dataclass

from bulba.data.datamodule import TextData
from bulba.errors import DataError


@dataclass(frozen=True)
class Entry:
    """A run of tokens of one document in a step: tokens start .. stop of the document are inputs.

    micro_batch counts over all ranks. row and column: where the tokens lie in their micro-batch. document: its number
    in train.bin. text: of those tokens; a letter that is cut in two shows as a replacement character.
    """

    micro_batch: int
    row: int
    column: int
    source: str
    file: str
    language: str
    document: int
    start: int
    stop: int
    text: str


def show_step(data: TextData, step: int) -> list[Entry]:
    """Every run of tokens that step `step` (counted from 0) reads, in the order of the micro-batches.

    Args:
        data: after `prepare`, with the settings of the run.

    Raises:
        DataError: the step is negative.
    """
    if step < 0:
        raise DataError(f"step={step} must be at least 0, the first step of a run.")
    sampler, file = data.train_sampler, data.train_file
    units = sampler.units_per_micro_batch
    per_step = data.batch_size // data.micro_batch_size
    entries = []
    for unit in range(per_step * units):
        number = step * per_step * units + unit
        rows, _ = sampler.shape(number)
        for piece in sampler.pieces(number):
            document = file.describe(piece.document)
            start = piece.first_token - document.start
            entry = Entry(
                micro_batch=unit // units,
                row=unit % units * rows + piece.row,
                column=piece.column,
                source=document.source_name,
                file=document.file,
                language=document.language,
                document=piece.document,
                start=start,
                stop=start + piece.length,
                text=data.tokenizer.decode(file.read(piece.first_token, piece.length).tolist()),
            )
            entries.append(entry)
    return entries
