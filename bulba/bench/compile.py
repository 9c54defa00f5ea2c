"""What torch.compile makes of a run: graphs, graph breaks and recompiles, for every preset and kind of rows.

The number of layers does not change the structure of the graph (each layer adds the same nodes, and none of them
looks at its number), nor do the number and length of the rows, so a few are enough to count.
"""

from __future__ import annotations

from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bulba.config.build import build
from bulba.config.overrides import check
from bulba.device import Device, choose_device
from bulba.errors import ConfigError
from bulba.mode import Compiled, Mode, describe_compiled
from bulba.model.activations import ActivationCheckpointing
from bulba.model.gpt import GPT
from bulba.packing import document_offsets, of_any_length
from bulba.stage.losses import chunk_loss, token_loss_sum

VOCAB_SIZE = 1024


def bench_compile(
    models: str = "krolik,aist,zubr",
    mode: str = "both",
    num_layers: int = 2,
    seq_len: int = 64,
    num_lengths: int = 8,
    rounds: int = 3,
    activation_checkpointing: ActivationCheckpointing = "none",
    device: Device = "auto",
) -> list[dict[str, Any]]:
    """Train some micro-batches of each preset, with a validation in between; print the counts and return them.

    seq_len: of the longest rows. num_lengths: lengths of bucketed rows. rounds: how often every length comes.
    """
    if num_lengths < 1 or rounds < 1 or seq_len < 2 * num_lengths:
        raise ConfigError("num_lengths and rounds must be at least 1, and seq_len at least twice num_lengths.")
    lengths = {"packed": [seq_len], "bucketed": [seq_len * n // num_lengths for n in range(1, num_lengths + 1)]}
    counts = []
    for name in models.split(","):
        config = check([f"model={name}", f"mode={mode}", f"model.num_layers={num_layers}"])
        for rows, row_lengths in lengths.items():
            model: GPT = build(config.model, path="model", vocab_size=VOCAB_SIZE).to(choose_device(device))
            model.set_activation_checkpointing(activation_checkpointing)
            step = compiled_step(build(config.mode, path="mode"), model, len(row_lengths) == 1)
            for _ in range(rounds):
                for length in row_lengths:
                    train_and_validate(model, step, length)
            counts.append({"model": name, "rows": rows} | describe_compiled(step))
    print_counts(counts, f"mode={mode}, torch {torch.__version__}, {choose_device(device).type}")
    return counts


def compiled_step(mode: Mode, model: GPT, one_shape: bool) -> list[Compiled[Any, Any]]:
    """The forward pass and the loss that the mode trains with; ConfigError if it does not compile."""
    mode.check(model.embed_tokens.weight.device, one_call_per_step=one_shape)
    parts: list[Any] = [mode.apply(model), mode.fuse(chunk_loss)]
    compiled = [part for part in parts if isinstance(part, Compiled)]
    if not compiled:
        raise ConfigError("this mode does not compile, so there is nothing to count: choose mode=compile or mode=both.")
    return compiled


def train_and_validate(model: GPT, step: list[Compiled[Any, Any]], length: int) -> None:
    """A training micro-batch of two packed rows, and a last validation batch of one."""
    device = model.embed_tokens.weight.device
    tokens_BT = torch.randint(VOCAB_SIZE, (2, length), device=device)
    positions_BT = torch.arange(length, dtype=torch.int32, device=device).expand(2, length) % max(length // 3, 1)
    documents_BT = (positions_BT == 0).cumsum(1, dtype=torch.int32)
    model.train()
    forward, chunk = step
    hidden_BTH = forward(tokens_BT, positions_BT, documents_BT, of_any_length(document_offsets(documents_BT)))
    token_loss_sum(hidden_BTH, model.head, tokens_BT, chunk).backward()
    model.eval()
    with torch.no_grad():
        model(tokens_BT[:1], positions_BT[:1], documents_BT[:1])


def print_counts(counts: list[dict[str, Any]], title: str) -> None:
    """A table with a row for each model and kind of rows."""
    table = Table(title=title)
    for name in counts[0]:
        table.add_column(name)
    for row in counts:
        table.add_row(*map(str, row.values()))
    Console().print(table)
