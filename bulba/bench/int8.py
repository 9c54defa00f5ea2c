"""fp32, INT8 and ONNX of one run side by side on a CPU: size, speed, bits per byte of validation text, logits.

Documents of the validation text are read one by one, each up to the model's context, and every form reads the same
tokens. The forms are timed in turns within one process, with as many threads each, so that a busy machine disturbs all
of them alike; a ratio is the median of those of single rounds.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bulba.bench.opened import OpenedRun, open_run
from bulba.checkpoint import load_model
from bulba.checkpoint_folder import find_checkpoint
from bulba.config.snapshot import write_json
from bulba.errors import ConfigError, DataError
from bulba.export.int8 import export_int8, load_int8
from bulba.export.onnx import export_onnx
from bulba.export.run import find_tokenizer
from bulba.export.verify_onnx import Session
from bulba.model.gpt import GPT
from bulba.stage.losses import bits_per_byte

FORMS = ("fp32", "int8", "onnx")
Ids = NDArray[np.int64]


class Form(Protocol):
    """A model that reads tokens and decodes."""

    size_bytes: int

    def logits(self, ids_1T: Ids) -> Tensor:
        """Behind every token, [T, V]."""

    def passes(self, ids_1T: Ids, lengths: Sequence[int]) -> Iterator[None]:
        """Feed the tokens through the decode cache, so many at a time; comes back after each pass."""


@dataclass
class TorchForm:
    """A model in torch."""

    model: GPT
    size_bytes: int

    def logits(self, ids_1T: Ids) -> Tensor:
        return self.model.logits(self.model(torch.from_numpy(ids_1T)))[0]

    def passes(self, ids_1T: Ids, lengths: Sequence[int]) -> Iterator[None]:
        cache = self.model.new_cache(1, sum(lengths))
        for part_1T in torch.from_numpy(ids_1T).split(list(lengths), 1):
            self.model.logits(self.model(part_1T, cache=cache))
            yield


@dataclass
class OnnxForm:
    """A graph in onnxruntime."""

    session: Session
    size_bytes: int

    def logits(self, ids_1T: Ids) -> Tensor:
        return torch.from_numpy(self.session.step(ids_1T, self.session.start(1))[0][0])

    def passes(self, ids_1T: Ids, lengths: Sequence[int]) -> Iterator[None]:
        past = self.session.start(1)
        for part_1T in np.split(ids_1T, np.cumsum(lengths)[:-1], axis=1):
            _, past = self.session.step(part_1T, past)
            yield


@dataclass
class Figures:
    """Of one form; tokens per second of each round."""

    size_bytes: int
    bits_per_byte: float
    max_logit_difference: float
    prefill: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)


def bench_int8(
    run: str = "last", forms: list[str] | None = None, documents: int = 64, new_tokens: int = 64, rounds: int = 5
) -> None:
    """Print the table and keep it in int8_bench.json of the run.

    forms: any of fp32, int8, onnx; None is all, and fp32 is always there. documents: of validation, at most.
    new_tokens: decoded one by one, behind a prompt as long as what is left of the context, at most 128 tokens.
    """
    unknown = [form for form in forms or [] if form not in FORMS]
    if unknown:
        raise ConfigError(f"forms: {unknown[0]} does not exist; choose from {', '.join(FORMS)}.")
    for name, value in (("documents", documents), ("new_tokens", new_tokens), ("rounds", rounds)):
        if value < 1:
            raise ConfigError(f"{name}={value} must be at least 1.")
    opened = open_run(run)
    context = opened.model.max_seq_len
    if new_tokens >= context:
        raise ConfigError(f"new_tokens={new_tokens} must be below the run's context of {context} tokens.")
    chosen = [form for form in FORMS if form == "fp32" or forms is None or form in forms]
    with tempfile.TemporaryDirectory() as place, torch.inference_mode():
        made = make_forms(opened, chosen, Path(place))
        figures = measure_text(opened, made, documents)
        lengths = [min(context - new_tokens, 128)] + [1] * new_tokens
        for _ in range(rounds):
            for name, form in made.items():
                time_passes(form, opened.model.config["vocab_size"], lengths, figures[name])
    write_json(opened.folder / "int8_bench.json", {name: vars(found) for name, found in figures.items()})
    Console().print(as_table(figures, lengths))


def make_forms(opened: OpenedRun, chosen: Sequence[str], place: Path) -> dict[str, Form]:
    """Export what is asked for into `place` and open it."""
    checkpoint = find_checkpoint(opened.folder)
    arguments: Any = (checkpoint.folder, find_tokenizer(checkpoint), place / "model")
    made: dict[str, Form] = {}
    for name in chosen:
        if name == "fp32":
            model = load_model(checkpoint.folder).float()
            size = sum(parameter.nbytes for parameter in model.parameters())
            made[name] = TorchForm(model, size)
        elif name == "int8":
            folder = export_int8(*arguments)
            made[name] = TorchForm(load_int8(folder), (folder / "model.safetensors").stat().st_size)
        else:
            folder = export_onnx(*arguments)
            size = sum(file.stat().st_size for file in folder.glob("model.onnx*"))
            made[name] = OnnxForm(Session(folder / "model.onnx", torch.get_num_threads()), size)
    for form in made.values():
        if isinstance(form, TorchForm):
            form.model.set_kernel("flash")
    return made


def measure_text(opened: OpenedRun, made: dict[str, Form], documents: int) -> dict[str, Figures]:
    """Bits per byte of validation documents, and how far logits are from fp32's there."""
    file, context = opened.data.val_file, opened.model.max_seq_len
    token_bytes = torch.from_numpy(opened.data.tokenizer.num_bytes_per_token())
    nats, farthest, text_bytes = dict.fromkeys(made, 0.0), dict.fromkeys(made, 0.0), 0
    for index in range(min(documents, file.num_documents)):
        ids_T = np.asarray(file.document(index)[: context + 1], dtype=np.int64)
        if len(ids_T) < 2:
            continue
        targets_T = torch.from_numpy(ids_T[1:])
        text_bytes += int(token_bytes[targets_T].sum())
        logits = {name: form.logits(ids_T[None, :-1]) for name, form in made.items()}
        for name, logits_TV in logits.items():
            nats[name] += float(F.cross_entropy(logits_TV.float(), targets_T, reduction="sum"))
            farthest[name] = max(farthest[name], float((logits_TV - logits["fp32"]).abs().max()))
    if not text_bytes:
        raise DataError(f"the validation text of {opened.folder} has no document of two tokens: prepare more text.")
    return {
        name: Figures(form.size_bytes, bits_per_byte(nats[name], text_bytes), farthest[name])
        for name, form in made.items()
    }


def time_passes(form: Form, vocab_size: int, lengths: Sequence[int], figures: Figures) -> None:
    """One turn: a prompt and then token by token, behind two passes that are not timed."""
    draw = np.random.default_rng(0)
    ids_1T = draw.integers(vocab_size, size=(1, sum(lengths)))
    for _ in form.passes(ids_1T[:, : sum(lengths[:2])], lengths[:2]):
        pass
    start = time.perf_counter()
    passes = form.passes(ids_1T, lengths)
    next(passes)
    middle = time.perf_counter()
    for _ in passes:
        pass
    figures.prefill.append(lengths[0] / (middle - start))
    figures.decode.append((len(lengths) - 1) / (time.perf_counter() - middle))


def as_table(figures: dict[str, Figures], lengths: Sequence[int]) -> Table:
    """A line for each form; ratios beside fp32."""
    threads = torch.get_num_threads()
    table = Table(
        "", "MB", "prompt, tokens/s", "decoding, tokens/s", "bits per byte", "beside fp32", "largest logit difference",
        title=f"prompts of {lengths[0]} tokens, {len(lengths) - 1} new ones, {threads} thread{'s' * (threads > 1)}",
    )  # fmt: skip
    exact = figures["fp32"]
    for name, found in figures.items():
        table.add_row(
            name,
            f"{found.size_bytes / 1e6:,.2f}",
            *(
                f"{median(own):,.0f} ({median(a / b for a, b in zip(own, base, strict=True)):.2f}x)"
                for own, base in ((found.prefill, exact.prefill), (found.decode, exact.decode))
            ),
            f"{found.bits_per_byte:.4f}",
            f"{found.bits_per_byte - exact.bits_per_byte:+.5f}",
            f"{found.max_logit_difference:.1e}" if found.max_logit_difference else "0",
        )
    return table
