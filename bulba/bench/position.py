"""Loss of a run by the place of the token in its context, up to `times` the length that it was trained on.

Rotary positions have no weights, so the same run is measured as it was trained and with its positions scaled to the
longer context (bulba/model/position.py). All columns read the same tokens: the beginnings of validation documents that
are long enough, whole contexts without a boundary inside.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bulba.bench.opened import OpenedRun, open_run
from bulba.config.snapshot import write_json
from bulba.data.tokens import TokenFile
from bulba.device import Device, choose_device
from bulba.errors import ConfigError, DataError, UnsupportedError
from bulba.files import atomic_file
from bulba.model.gpt import GPT
from bulba.model.position import RopeScaling
from bulba.stage.losses import per_token_losses

Scaling = Literal["trained", "linear", "yarn"]
POINTS = 8
"""Of the curve per trained length; the table has two."""


def measure_position(
    run: str = "last",
    times: int = 4,
    scalings: list[str] | None = None,
    documents: int = 64,
    device: Device = "cpu",
) -> None:
    """Print the loss of every half of a trained length, and keep position.json and position.png in the run.

    scalings: any of trained, linear, yarn; None is all for rotary positions, else trained alone. documents: at most.
    """
    opened = open_run(run)
    model, seq_len = opened.model, opened.data.seq_len
    chosen = check_settings(model, times, scalings, documents, seq_len)
    length, where = times * seq_len, choose_device(device)
    rows = beginnings(opened, length + 1, documents)
    model.set_kernel("flash")
    model.choose_backend(False, 1, length, torch.float32, where)
    model.to(where)
    losses: dict[str, NDArray[np.float64]] = {}
    own = model.rope_scaling
    for scaling in chosen:
        model.rope_scaling = own if scaling == "trained" else RopeScaling(scaling, times, seq_len)
        losses[scaling] = losses_by_position(model, rows, where)
    coarse, fine = (
        {name: curve.reshape(pieces * times, -1).mean(1).tolist() for name, curve in losses.items()}
        for pieces in (2, POINTS)
    )
    write_json(
        opened.folder / "position.json",
        {"seq_len": seq_len, "times": times, "documents": len(rows), "nats_per_token": fine},
    )
    with atomic_file(opened.folder / "position.png") as temporary:
        draw(fine, seq_len, temporary)
    Console().print(as_table(coarse, seq_len, len(rows)))
    print(f"written: {opened.folder / 'position.json'}, {opened.folder / 'position.png'}")


def check_settings(model: GPT, times: int, scalings: list[str] | None, documents: int, seq_len: int) -> list[Scaling]:
    """The scalings to measure; refuses what cannot be."""
    for name, value in (("times", times), ("documents", documents)):
        if value < 1:
            raise ConfigError(f"{name}={value} must be at least 1.")
    if seq_len % POINTS:
        raise ConfigError(f"the run was trained on {seq_len} tokens, which {POINTS} points do not divide.")
    if not importlib.util.find_spec("matplotlib"):
        raise ConfigError("the chart needs matplotlib, which is not installed: uv pip install 'bulba[report]'.")
    if model.position == "learned" and times * seq_len > model.max_seq_len:
        raise UnsupportedError(
            f"the run has learned positions for {model.max_seq_len} tokens and none beyond: set "
            f"times={model.max_seq_len // seq_len}."
        )
    known: Sequence[Scaling] = get_args(Scaling) if model.position == "rope" else ("trained",)
    for scaling in scalings or []:
        if scaling not in known:
            raise ConfigError(
                f"scalings: {scaling} is not to be had for a run with model.position={model.position}; choose from "
                f"{', '.join(known)}."
            )
    return [scaling for scaling in known if scalings is None or scaling in scalings]


def beginnings(opened: OpenedRun, num_tokens: int, documents: int) -> NDArray[np.int64]:
    """The first tokens of validation documents that have so many, [documents, num_tokens]."""
    file: TokenFile = opened.data.val_file
    found, longest = [], 0
    for index in range(file.num_documents):
        ids = file.document(index)
        longest = max(longest, len(ids))
        if len(ids) >= num_tokens:
            found.append(np.asarray(ids[:num_tokens], dtype=np.int64))
        if len(found) == documents:
            break
    if not found:
        raise DataError(
            f"no validation document of {opened.folder} has {num_tokens} tokens, the longest has {longest}: set a "
            f"smaller times, or train with more validation text."
        )
    return np.stack(found)


@torch.inference_mode()
def losses_by_position(model: GPT, rows: NDArray[np.int64], device: torch.device) -> NDArray[np.float64]:
    """Mean loss of each place over the rows, nats per token, [num_tokens - 1]."""
    total = np.zeros(rows.shape[1] - 1)
    for row in rows:
        ids = torch.from_numpy(row)[None].to(device)
        losses_1T = per_token_losses(model(ids[:, :-1]), model.head, ids[:, 1:])
        total += losses_1T[0].double().cpu().numpy()
    return np.asarray(total / len(rows))


def as_table(coarse: Mapping[str, list[float]], seq_len: int, documents: int) -> Table:
    """A line for each half of a trained length."""
    table = Table("tokens", "trained lengths", *coarse, title=f"nats per token, means over {documents} documents")
    for place, losses in enumerate(zip(*coarse.values(), strict=True)):
        start, stop = (half * seq_len // 2 for half in (place, place + 1))
        table.add_row(f"{start:,} to {stop:,}", f"{(place + 1) / 2:g}", *(f"{loss:.4f}" for loss in losses))
    return table


def draw(fine: Mapping[str, list[float]], seq_len: int, path: Path) -> None:
    """A line for each scaling, over the tokens of the context; what is right of the dashes was never trained."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, losses in fine.items():
        places = (np.arange(len(losses)) + 0.5) * seq_len / POINTS
        axes.plot(places, losses, marker="o", markersize=3, label=name)
    axes.axvline(seq_len, color="grey", linestyle="--", linewidth=1, label=f"trained on {seq_len:,} tokens")
    axes.set(xlabel="place in the context, tokens", ylabel="loss, nats per token", title="Loss by position")
    axes.legend(frameon=False)
    figure.savefig(path, format="png")
