"""Training speed of every mode, of a bare loop and of the Trainer of transformers: one shape, one text, one machine.

The programs are processes that live at the same time and train in turns of a few steps, so that a busy machine
disturbs all of them alike. A ratio is taken between turns of one round; the table shows medians and extremes of the
rounds.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bulba.bench.page import write_section
from bulba.bench.train_programs import compose, prepared_data
from bulba.config.build import build
from bulba.device import choose_device, choose_precision
from bulba.errors import BulbaError, ConfigError
from bulba.peak import Peak, measure_peak, peak_of
from bulba.shapes import shapes_only
from bulba.stage.flops import row_flops

PROGRAMS = {
    "eager": "Bulba, mode eager",
    "flash": "Bulba, mode flash",
    "compile": "Bulba, mode compile",
    "both": "Bulba, mode both",
    "selective": "Bulba, mode both, activation checkpointing selective",
    "full": "Bulba, mode both, activation checkpointing full",
    "bare": "the step of mode both in a bare loop",
    "hf": "Trainer of transformers",
    "hf_compile": "Trainer of transformers, torch_compile",
}
REFERENCES = ("bare", "hf", "hf_compile")
OWN = ("eager", "flash", "compile", "both", "selective", "full", "bare")


@dataclass
class Program:
    """A process that trains in turns."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    seconds: list[float] = field(default_factory=list)
    host_bytes: int = 0
    device_bytes: int = 0

    def wait(self) -> float:
        """Seconds of the turn that ends now, or of the warm-up."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith('{"seconds"'):
                answer = json.loads(line)
                self.host_bytes = max(self.host_bytes, answer["host_bytes"])
                self.device_bytes = max(self.device_bytes, answer["device_bytes"])
                return float(answer["seconds"])
        faults = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"]
        raise BulbaError(f"bench train: {PROGRAMS[self.name]} ended ({faults[-1]}): leave it out by programs=[...].")

    def turn(self, steps: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        self.seconds.append(self.wait())


def bench_train(
    model: str = "krolik",
    words: list[str] | None = None,
    programs: list[str] | None = None,
    seq_len: int = 256,
    rows: int = 8,
    precision: str = "auto",
    rounds: int = 5,
    steps: int = 5,
    warmup: int = 5,
    out: str | None = "docs/benchmarks.md",
) -> None:
    """Measure, print, and write the table to `out`.

    words: more settings of train.py, such as `model.num_layers=8`. rows: of seq_len tokens, a step. programs: which of
    `PROGRAMS`; None is all that are installed. steps: of a turn; warmup: steps before the first turn.
    """
    unknown = set(programs or ()) - PROGRAMS.keys()
    if unknown:
        raise ConfigError(f"programs={sorted(unknown)} are not known: choose from {', '.join(PROGRAMS)}.")
    peers = all(map(importlib.util.find_spec, ("transformers", "accelerate")))
    if not peers and set(programs or ()) - set(OWN):
        raise ConfigError("the Trainer of transformers is not installed: uv pip install transformers accelerate.")
    names = programs or [name for name in PROGRAMS if peers or name in OWN]
    settings = [
        f"model={model}",
        f"model.max_seq_len={seq_len}",
        f"data.micro_batch_size={rows}",
        f"data.batch_size={rows}",
        f"trainer.precision={precision}",
        *(words or []),
    ]
    work = _work(settings)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        running = [stack.enter_context(_start(name, Path(folder), warmup, settings)) for name in names]
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            for program in running:
                program.turn(steps)
            work.measure_again()
    lines = _lines(running, seq_len * rows * steps, work)
    Console().print(_table(lines))
    if not peers:
        print("not measured: the Trainer of transformers (uv pip install transformers accelerate)")
    if out is not None:
        command = f"python -m bulba bench train model={model} seq_len={seq_len} rows={rows} precision={precision}"
        command += f" words=[{','.join(words)}]" if words else ""
        write_section(Path(out), "Training", command, lines, f"{work}; {_versions(peers)}")
        print(f"written: {out}")


@contextmanager
def _start(name: str, folder: Path, warmup: int, settings: Sequence[str]) -> Iterator[Program]:
    """A program behind its warm-up; they warm up one after another."""
    print(f"warming up: {PROGRAMS[name]}", flush=True)
    (folder / name).mkdir()
    log = folder / f"{name}.log"
    command = [sys.executable, "-m", "bulba.bench.train_programs", name, str(folder / name), str(warmup), *settings]
    with (
        log.open("w", encoding="utf-8") as faults,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=faults, text=True) as process,
    ):
        program = Program(name, process, log)
        try:
            seconds = program.wait()
            print(f"  {seconds:.1f} s for {warmup} steps", flush=True)
            yield program
        finally:
            process.kill()


@dataclass
class Work:
    """What a token takes, and the peak that MFU is a share of."""

    num_params: int
    flops_per_token: float
    device: torch.device
    precision: str
    peak: Peak

    def measure_again(self) -> None:
        """Keep the higher peak: a machine that others use too is not always as fast."""
        if self.peak.source == "measured":
            again = measure_peak(self.device, self.precision)
            self.peak = Peak(max(self.peak.flops_per_s, again), "measured")

    def __str__(self) -> str:
        return (
            f"{self.num_params / 1e6:.1f}M parameters, {self.flops_per_token / 1e6:.1f} MFLOPs a token, "
            f"peak {self.peak.flops_per_s / 1e12:.3g} TFLOP/s ({self.peak.source})"
        )


def _work(settings: Sequence[str]) -> Work:
    """Counted on the model of these settings; the peak is measured before anything else runs, and after each round."""
    config = compose(list(settings))
    data = prepared_data(config)
    with shapes_only():
        model = build(config.model, path="model", vocab_size=data.tokenizer.vocab_size)
    device = choose_device(config.trainer.device)
    precision = choose_precision(config.trainer.precision, device)
    return Work(
        num_params=model.get_num_params(),
        flops_per_token=row_flops(model, config.data.seq_len) / config.data.seq_len,
        device=device,
        precision=precision,
        peak=peak_of(device, precision),
    )


def _table(lines: Sequence[list[str]]) -> Table:
    head, *lines = lines
    table = Table(*head, title="training", title_justify="left")
    for line in lines:
        table.add_row(*line)
    return table


def _lines(running: Sequence[Program], tokens: int, work: Work) -> list[list[str]]:
    """The table as text, its head first."""
    reference = {program.name: program.seconds for program in running if program.name in REFERENCES}
    lines = [
        ["program", "tokens/s", "extremes", *(f"beside {name}" for name in reference), "MFU", "host MB", "device MB"]
    ]
    for program in running:
        speeds = [tokens / seconds for seconds in program.seconds]
        lines.append(
            [
                PROGRAMS[program.name],
                f"{statistics.median(speeds):,.0f}",
                f"{min(speeds):,.0f} to {max(speeds):,.0f}",
                *(_ratio(program.seconds, other) for other in reference.values()),
                f"{100 * statistics.median(speeds) * work.flops_per_token / work.peak.flops_per_s:.1f} %",
                f"{program.host_bytes / 1e6:,.0f}",
                f"{program.device_bytes / 1e6:,.0f}",
            ]
        )
    return lines


def _ratio(seconds: Sequence[float], other: Sequence[float]) -> str:
    """How many times as fast, round by round."""
    ratios = [theirs / ours for ours, theirs in zip(seconds, other, strict=True)]
    return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"


def _versions(peers: bool) -> str:
    names = ["torch", "lightning", *(["transformers", "accelerate"] if peers else [])]
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
