"""Bits per byte of a run on the whole of its validation text, beside two things that need no model.

The unigram entropy codes every token of the run's own tokenizer by its frequency in the training data (add-one), and
`xz -9` compresses the same validation text. All three are bits over the same UTF-8 bytes.
"""

from __future__ import annotations

import lzma

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from bulba.bench.opened import OpenedRun, open_run, texts_of
from bulba.config.snapshot import write_json
from bulba.data.datamodule import read_units
from bulba.stage.losses import bits_per_byte, per_token_losses
from bulba.stage.pretrain import model_inputs


def measure_text(run: str = "last") -> None:
    """Print the three figures and keep them in text.json of the run."""
    opened = open_run(run)
    text = "\n".join(texts_of(opened.data, opened.data.val_file)).encode()
    figures = {
        "model": model_bits_per_byte(opened),
        "unigram": unigram_bits_per_byte(opened),
        "xz -9": 8 * len(lzma.compress(text, preset=9)) / len(text),
    }
    write_json(opened.folder / "text.json", {"validation_bytes": len(text), "bits_per_byte": figures})
    table = Table("coder", "bits per byte", title=f"{len(text):,} bytes of validation text")
    for name, figure in figures.items():
        table.add_row(name, f"{figure:.4f}")
    Console().print(table)


@torch.inference_mode()
def model_bits_per_byte(opened: OpenedRun) -> float:
    """Over every row of the validation file, the last one included."""
    data, model = opened.data, opened.model
    model.set_kernel("flash")
    nats = 0.0
    for row in range(data.val_sampler.num_units):
        batch = read_units(data.val_sampler, row, 1)
        hidden = model(*model_inputs(batch))
        nats += float(per_token_losses(hidden, model.head, batch["targets"]).sum(dtype=torch.float64))
    return bits_per_byte(nats, data.val_file.text_bytes)


def unigram_bits_per_byte(opened: OpenedRun) -> float:
    """Every predicted token (all but the first of a document) coded by its training frequency."""
    data = opened.data
    counts = np.ones(data.tokenizer.vocab_size)
    counts += np.bincount(data.train_file.read(0, data.train_file.num_tokens), minlength=len(counts))
    nats_per_token = -np.log(counts / counts.sum())
    documents = (data.val_file.document(index)[1:] for index in range(data.val_file.num_documents))
    nats = sum(float(nats_per_token[ids].sum()) for ids in documents)
    return bits_per_byte(nats, data.val_file.text_bytes)
