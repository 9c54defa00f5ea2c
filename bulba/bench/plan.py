"""Predicted peak memory beside the measured one: `python -m bulba bench plan`.

Each configuration trains a few steps of the tales in a process of its own. On a CPU its peak is the kernel's own
(VmHWM of /proc/self/status) without file-backed pages, above what the process held before the model was made, with
malloc told to give every freed tensor back at once, so that the peak is that of the tensors; malloc=true leaves malloc
as it is, and compares with what plan then adds. On a CUDA card it is torch.cuda.max_memory_allocated.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from omegaconf import open_dict
from rich.console import Console
from rich.table import Table

from bulba.bench.memory import reset_peak, status_bytes
from bulba.config.build import build
from bulba.config.overrides import check, expand
from bulba.data.datamodule import TextData
from bulba.device import choose_device
from bulba.errors import BulbaError
from bulba.run.predict import predict_memory
from bulba.run.train import train

# glibc maps blocks from this size on one by one, and gives them back when they are freed.
MMAP_THRESHOLD = "MALLOC_MMAP_THRESHOLD_"
BATCH_16 = "data.batch_size=16 data.micro_batch_size=16"
CASES = (
    "mode=eager optimizer=adamw data.micro_batch_size=8",
    "mode=flash optimizer=sgd data.batch_size=32 data.micro_batch_size=32",
    "mode=flash optimizer=adamw data.batch_size=16 data.micro_batch_size=8 model.hidden_size=384 model.num_layers=8",
    "mode=flash optimizer=muon model.hidden_size=512 model.intermediate_size=2048",
    "mode=flash optimizer=adamw trainer.precision=bf16 model.hidden_size=512 model.max_seq_len=512",
    "mode=eager optimizer=muon model.max_seq_len=512 data.batch_size=4 data.micro_batch_size=4",
    f"mode=eager optimizer=sgd trainer.precision=bf16 {BATCH_16}",
    "mode=flash optimizer=adamw model.max_seq_len=1024 data.batch_size=8 data.micro_batch_size=4",
    f"mode=compile optimizer=adamw model.hidden_size=256 {BATCH_16}",
    "mode=compile optimizer=muon model.max_seq_len=512",
    "mode=both optimizer=sgd model.hidden_size=256 data.batch_size=32 data.micro_batch_size=32",
    f"mode=both optimizer=adamw trainer.precision=bf16 model.hidden_size=512 {BATCH_16}",
    "mode=flash optimizer=adamw model=krolik model.num_layers=6 data.seq_len=256 data.batch_size=2 "
    "data.micro_batch_size=2",
    "mode=eager optimizer=sgd model.tie_embeddings=false model.norm_placement=post model.num_layers=8",
    f"mode=flash optimizer=adamw trainer.activation_checkpointing=full model.num_layers=8 {BATCH_16}",
    f"mode=both optimizer=adamw trainer.activation_checkpointing=selective model.num_layers=8 {BATCH_16}",
)
SMALL = (
    "data.size_mb=0.5",
    "tokenizer.vocab_size=4096",
    "data.val_rows=8",
    "trainer.max_steps=4",
    "scheduler.warmup_steps=1",
    "callbacks.samples.every_steps=null",
    "callbacks.checkpoints.every_steps=1000",
    "trainer.val_every_steps=4",
)


def bench_plan(
    cases: list[str] | None = None, settings: str = "", malloc: bool = False, out: str | None = None
) -> None:
    """Print predicted, measured and error of every case. settings: words for all of them; out: a JSON file."""
    table = Table("settings", "predicted MB", "measured MB", "error")
    rows = []
    for case in cases or CASES:
        row = in_its_own_process(f"{case} {settings}".split(), malloc)
        rows.append({"settings": case} | row)
        table.add_row(case, *(f"{row[f'{name}_bytes'] / 1e6:,.0f}" for name in ("predicted", "measured")), percent(row))
        print(f"{case}: {row['predicted_bytes']:,} predicted, {row['measured_bytes']:,} measured, {percent(row)}")
    Console().print(table)
    if out:
        Path(out).write_text(json.dumps(rows, indent=1), encoding="utf-8")


def percent(row: dict[str, int]) -> str:
    return f"{100 * (row['predicted_bytes'] / row['measured_bytes'] - 1):+.1f} %"


def in_its_own_process(words: list[str], malloc: bool) -> dict[str, int]:
    """What `measure` prints, in a new process."""
    environment = os.environ if malloc else os.environ | {MMAP_THRESHOLD: str(2**16)}
    command = [sys.executable, "-m", "bulba.bench.plan", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise BulbaError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(words: list[str]) -> dict[str, Any]:
    """Train in this process and return predicted_bytes, measured_bytes and the parts of the prediction."""
    config = check(expand([*SMALL, *words]))
    with open_dict(config):
        del config["hydra"]
    device = choose_device(config.trainer.device)
    data: TextData = build(config.data, path="data")
    data.prepare(build(config.tokenizer, path="tokenizer"))
    before = start_measuring(device)
    with tempfile.TemporaryDirectory() as folder:
        train(config, Path(folder))
    measured = peak_bytes(device) - before
    memory = predict_memory(config, data.tokenizer.vocab_size)
    predicted = memory.peak_bytes if MMAP_THRESHOLD in os.environ else memory.needed_bytes
    return {"predicted_bytes": predicted, "measured_bytes": measured} | vars(memory)


def start_measuring(device: torch.device) -> int:
    """Set the peak back to what is held now, and return that."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    reset_peak()
    return status_bytes("RssAnon")


def peak_bytes(device: torch.device) -> int:
    """The peak since `start_measuring`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return status_bytes("VmHWM") - status_bytes("RssFile") - status_bytes("RssShmem")


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1:])))
