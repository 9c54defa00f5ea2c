"""Every attention of conf/attention beside `standard`: time, operations and memory of one layer of one shape.

A layer is a model of one block whose feed-forward part is next to nothing, in mode both. The layers train in turns
within one process, so that a busy machine disturbs all of them alike, and a ratio is taken between turns of one round.
Operations are those of the products that the formula asks for, as in bulba/stage/flops.py, of the attention alone, and
what a mixer counts beside products. Memory is what a forward and a backward pass hold beside the weights.
"""

from __future__ import annotations

import importlib.metadata
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from bulba.bench.page import write_section
from bulba.config.build import build
from bulba.config.overrides import attention_names, check
from bulba.device import DTYPES, Device, Precision, autocast, choose_device, choose_precision
from bulba.errors import ConfigError, UnsupportedError
from bulba.mode import Compiled, check_compiler, keep_compiled_code
from bulba.model.gpt import GPT
from bulba.packing import document_offsets, of_any_length
from bulba.stage.flops import FORMULAS, shadow_of
from bulba.stage.memory import PASSING, StorageCounter, compiled_like

BASELINE = "standard"
LENGTHS = (1024, 2048, 4096, 8192, 16384)
VOCAB_SIZE = 256


@dataclass
class Layer:
    """A compiled layer that trains in turns. seconds: of a step, for each turn."""

    name: str
    model: GPT
    rows: int
    num_tokens: int
    precision: str
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        device = self.model.embed_tokens.weight.device
        shape = (self.rows, self.num_tokens)
        self.model.set_kernel("flash")
        self.model.choose_backend(True, *shape, DTYPES[self.precision], device)
        self.forward = Compiled(self.model, "default")
        # Rows of training are packed; here each of them is one document.
        tokens_BT = torch.randint(VOCAB_SIZE, shape, device=device)
        positions_BT = torch.arange(self.num_tokens, dtype=torch.int32, device=device).expand(shape)
        documents_BT = torch.zeros(shape, dtype=torch.int32, device=device)
        offsets = of_any_length(document_offsets(documents_BT))
        self.inputs: tuple[Tensor, ...] = (tokens_BT, positions_BT, documents_BT, offsets)

    def turn(self, steps: int) -> None:
        """Take steps and note what one of them took."""
        device = self.inputs[0].device
        start = time.perf_counter()
        for _ in range(steps):
            self.model.zero_grad(set_to_none=True)
            with autocast(device, self.precision):
                hidden_BTH = self.forward(*self.inputs)
            hidden_BTH.sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.seconds.append((time.perf_counter() - start) / steps)


def bench_attention(
    attentions: list[str] | None = None,
    seq_len: int = 1024,
    hidden_size: int = 256,
    num_heads: int = 4,
    rows: int = 1,
    rounds: int = 7,
    steps: int = 3,
    exponents: bool = False,
    lengths: list[int] | None = None,
    precision: Precision = "auto",
    device: Device = "auto",
    out: str | None = "docs/benchmarks.md",
) -> list[list[str]]:
    """Measure, print, and write the table to `out`; returns its lines, the head first.

    attentions: files of conf/attention, `standard` always among them; None is all. rows: of seq_len tokens, a step.
    steps: of a turn. exponents: also fit time ~ T^e over `lengths` (None: 1024 to 16384) for the attentions that are
    asked for, which takes minutes for each.
    """
    if lengths is not None and not exponents:
        raise ConfigError("lengths does nothing without exponents=true: add it, or leave lengths out.")
    lengths = list(lengths or LENGTHS)
    if exponents and len(set(lengths)) < 2:
        raise ConfigError(f"lengths={lengths} must hold at least two lengths to fit an exponent.")
    names = chosen(attentions)
    place = choose_device(device)
    check_compiler(place)
    keep_compiled_code(None)
    number_type = choose_precision(precision, place)
    sizes = {"hidden_size": hidden_size, "num_heads": num_heads}
    torch._dynamo.reset()
    layers: dict[str, Layer] = {}
    refused: list[str] = []
    for name in names:
        print(f"warming up: {name}", flush=True)
        try:
            layers[name] = warm(name, place, rows, seq_len, number_type, sizes)
        except UnsupportedError as error:
            refused.append(f"not measured: {name}: {error}")
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        for layer in layers.values():
            layer.turn(steps)
    slopes = {}
    for name in (attentions or layers) if exponents else ():
        if name not in layers:
            continue
        print(f"lengths {lengths}: {name}", flush=True)
        slopes[name] = time_exponent(name, place, lengths, number_type, sizes)
    table = [line_of(layer, layers[BASELINE], sizes, slopes) for layer in layers.values()]
    head = ["attention", "forward + backward", f"beside {BASELINE}", "MFLOPs a token", "peak MB", "weights"]
    lines = [head + (["time exponent"] if exponents else []), *table]
    show(lines)
    print(*refused, sep="\n", end="\n" if refused else "")
    if out is not None:
        command = f"python -m bulba bench attention seq_len={seq_len} hidden_size={hidden_size} num_heads={num_heads}"
        command += f" rows={rows} precision={precision}" + (" exponents=true" if exponents else "")
        command += f" lengths={lengths}".replace(" [", "[") if exponents and tuple(lengths) != LENGTHS else ""
        command += f" attentions=[{','.join(attentions)}]" if attentions else ""
        shape = f"one layer, {rows} x {seq_len} tokens, {number_type}, mode both"
        rest = f"; {lengths[0]} to {lengths[-1]} tokens for the exponents" if exponents else ""
        write_section(
            Path(out), "Attentions", command, lines, f"{shape}{rest}; torch {importlib.metadata.version('torch')}"
        )
        print(f"written: {out}")
    return lines


def chosen(attentions: Sequence[str] | None) -> list[str]:
    """The files to measure, `standard` first; ConfigError for one that is not there or names several."""
    known = attention_names()
    unknown = sorted(set(attentions or ()) - set(known))
    if unknown:
        raise ConfigError(f"attentions={unknown} are not known: choose from {', '.join(known)}.")
    return [BASELINE, *(name for name in known if name in (attentions or known) and name != BASELINE)]


def layer_model(name: str, num_tokens: int, sizes: dict[str, int]) -> GPT:
    """One block with this attention, as many key heads as heads, and a feed-forward part of next to nothing."""
    words = [f"model.{key}={value}" for key, value in sizes.items()]
    words += [f"model.num_kv_heads={sizes['num_heads']}", "model.num_layers=1", "model.intermediate_size=8"]
    config = check([f"attention={name}", f"model.max_seq_len={num_tokens}", *words])
    model: GPT = build(config.model, path="model", vocab_size=VOCAB_SIZE)
    return model


def warm(name: str, device: torch.device, rows: int, num_tokens: int, precision: str, sizes: dict[str, int]) -> Layer:
    """A layer that is compiled and has taken its first steps."""
    layer = Layer(name, layer_model(name, num_tokens, sizes).to(device), rows, num_tokens, precision)
    layer.turn(3)
    layer.seconds.clear()
    return layer


def time_exponent(
    name: str, device: torch.device, lengths: Sequence[int], precision: str, sizes: dict[str, int]
) -> float:
    """e of time ~ T^e, by least squares over the medians of three turns of single rows."""
    points = []
    for num_tokens in lengths:
        torch._dynamo.reset()  # every length is a graph of its own
        layer = warm(name, device, 1, num_tokens, precision, sizes)
        for _ in range(3):
            layer.turn(1)
        points.append((math.log(num_tokens), math.log(statistics.median(layer.seconds))))
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def attention_flops(model: GPT, num_tokens: int) -> int:
    """Operations of training on a row in the attention alone, its projections too."""
    documents_BT = torch.zeros(1, num_tokens, dtype=torch.int32)
    with FakeTensorMode(allow_non_fake_inputs=True):
        shadow = shadow_of(model)
        with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
            shadow(documents_BT, documents_BT, documents_BT).sum().backward()
    counts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    products = next(count for name, count in counts.items() if name.endswith("layers.0.self_attn"))
    return products + model.mixers()[0].other_flops(num_tokens)


def peak_bytes(name: str, rows: int, num_tokens: int, sizes: dict[str, int]) -> int:
    """The most that a compiled forward and backward pass hold at a time beside the weights, on a CPU in fp32."""
    model = layer_model(name, num_tokens, sizes)
    model.set_kernel("flash")
    model.choose_backend(True, rows, num_tokens, torch.float32, torch.device("cpu"))
    with FakeTensorMode(allow_non_fake_inputs=True):
        tokens_BT = torch.zeros(rows, num_tokens, dtype=torch.int64)
        documents_BT = torch.zeros(rows, num_tokens, dtype=torch.int32)
        inputs = (tokens_BT, documents_BT, documents_BT.clone(), torch.zeros(rows + 1, dtype=torch.int32))
        forward = compiled_like(model)
        forward(*inputs)  # what tracing makes is none of it
        with StorageCounter() as counter:
            for parameter in model.parameters():
                counter.add(parameter, "weights")
            with counter.during("forward"):
                hidden_BTH = forward(*inputs)
            hidden_BTH.sum().backward()
    return max(sum(peak[kind] for kind in PASSING) for peak in counter.peaks.values())


def line_of(layer: Layer, baseline: Layer, sizes: dict[str, int], slopes: dict[str, float]) -> list[str]:
    """A line of the table as text."""
    ratios = [ours / theirs for ours, theirs in zip(layer.seconds, baseline.seconds, strict=True)]
    times = [1e3 * seconds for seconds in layer.seconds]
    mixer = layer.model.mixers()[0]
    line = [
        layer.name,
        f"{statistics.median(times):.2f} ms ({min(times):.2f} to {max(times):.2f})",
        f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})",
        f"{attention_flops(layer.model, layer.num_tokens) / layer.num_tokens / 1e6:.2f}",
        f"{peak_bytes(layer.name, layer.rows, layer.num_tokens, sizes) / 1e6:,.1f}",
        f"{sum(parameter.numel() for parameter in mixer.parameters()):,}",
    ]
    return line + ([f"{slopes[layer.name]:.2f}" if layer.name in slopes else "-"] if slopes else [])


def show(lines: Sequence[Sequence[Any]]) -> None:
    head, *lines = lines
    table = Table(*head, title="attentions", title_justify="left")
    for line in lines:
        table.add_row(*line)
    Console().print(table)
