"""What each type of a GGUF file costs a run: size, bits per weight, and bits per byte of its validation text.

The model is rounded in Bulba as the file stores it, its activations as llama.cpp rounds them
(bulba/export/rounding.py); the gate of the export holds every file to this arithmetic.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bulba.bench.opened import OpenedRun, open_run
from bulba.checkpoint_folder import find_checkpoint
from bulba.config.snapshot import write_json
from bulba.data.datamodule import read_units
from bulba.errors import ConfigError
from bulba.export.architecture import GgufTensor, read_architecture
from bulba.export.gguf import stored_size
from bulba.export.importance import measure_importances
from bulba.export.rounding import reference_model, round_hidden, round_inputs, round_matrices
from bulba.export.types import GGUF_TYPES, GgufType, Importances, takes_importance
from bulba.model.gpt import GPT
from bulba.stage.losses import bits_per_byte, per_token_losses
from bulba.stage.pretrain import model_inputs


def measure_types(
    run: str = "last", types: list[str] | None = None, rows: int | None = None, imatrix: str | None = None
) -> None:
    """Print the table and keep it in types.json of the run.

    types: None is all. rows: of validation, None is all. imatrix: a text for the importance matrix, not the
    validation text; types that take one are then shown without and with it.
    """
    chosen = list(types or GGUF_TYPES)
    unknown = [type for type in chosen if type not in GGUF_TYPES]
    if unknown:
        raise ConfigError(f"types: {unknown[0]} does not exist; choose from {', '.join(GGUF_TYPES)}.")
    if rows is not None and rows < 1:
        raise ConfigError(f"rows={rows} must be at least 1.")
    opened = open_run(run)
    checkpoint = find_checkpoint(opened.folder).folder
    tensors = read_architecture(checkpoint, "a GGUF file").tensors
    model = reference_model(checkpoint)
    weighed = measure_importances(checkpoint, opened.data.tokenizer, tensors, Path(imatrix)) if imatrix else {}
    figures: dict[str, dict[str, float]] = {}
    for type in GGUF_TYPES:
        if type in chosen:
            figures[type] = figures_of(opened, model, tensors, type, {}, rows)
            if weighed and takes_importance(type):
                figures[f"{type}, imatrix"] = figures_of(opened, model, tensors, type, weighed, rows)
    write_json(opened.folder / "types.json", figures)
    table = Table("type", "MB", "bits per weight", "bits per byte", "beside the first")
    first = next(iter(figures.values()))["bits_per_byte"]
    for name, found in figures.items():
        table.add_row(
            name,
            f"{found['mb']:,.1f}",
            f"{found['bits_per_weight']:.2f}",
            f"{found['bits_per_byte']:.4f}",
            f"{found['bits_per_byte'] - first:+.4f}",
        )
    Console().print(table)


def figures_of(
    opened: OpenedRun,
    model: GPT,
    tensors: list[GgufTensor],
    type: GgufType,
    importances: Importances,
    rows: int | None,
) -> dict[str, float]:
    """mb: of all tensors. bits_per_weight: of them. bits_per_byte: of the first `rows` rows of the validation file."""
    stored, bits = stored_size(tensors, type)
    rounded = copy.deepcopy(model)
    round_matrices(rounded, type, tensors, importances)
    round_inputs(rounded, type, tensors)
    return {
        "mb": stored / 1e6,
        "bits_per_weight": bits,
        "bits_per_byte": rounded_bits_per_byte(opened, rounded, type, rows),
    }


@torch.inference_mode()
def rounded_bits_per_byte(opened: OpenedRun, model: GPT, type: GgufType, rows: int | None) -> float:
    """Of the first `rows` rows of the validation file, None for all."""
    data = opened.data
    model.set_kernel("flash")
    nats, num_bytes_of_text = 0.0, 0
    token_bytes = torch.from_numpy(data.tokenizer.num_bytes_per_token())
    for row in range(min(rows or data.val_sampler.num_units, data.val_sampler.num_units)):
        batch = read_units(data.val_sampler, row, 1)
        hidden_BTH, targets_BT = round_hidden(model(*model_inputs(batch)), type), batch["targets"]
        nats += float(per_token_losses(hidden_BTH, model.head, targets_BT).sum(dtype=torch.float64))
        num_bytes_of_text += int((token_bytes[targets_BT.clamp(min=0)] * (targets_BT >= 0)).sum())
    return bits_per_byte(nats, num_bytes_of_text)
