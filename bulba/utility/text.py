"""Real text: a run of train.py for each attention, murashka's shape, the same texts, tokens and steps for all.

Every run is a process of its own, one after another, so that speed and memory are its own, and stays in the folder of
the suite as any run does. Bits per byte are those of the whole validation text at the last step; the unigram entropy
beside them codes the same text by the frequency of its tokens in the training data (bulba/bench/text.py), and what is
not below it has learned nothing. FLOPs are counted on the model (bulba/stage/flops.py). Peak memory is the process's
own above what it held before the model was made, malloc's spare blocks among it, or on CUDA that of torch's allocator.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import open_dict

import bulba.errors
from bulba.config.build import build
from bulba.config.overrides import check, expand
from bulba.device import choose_device
from bulba.errors import BulbaError, TrainingError, UnsupportedError
from bulba.runs import new_folder
from bulba.utility.learning import Cost
from bulba.utility.task import Lab, Outcome, Task

STEPS, WARMUP_STEPS = 300, 50


class Text(Task):
    name = "text"
    question = "A run of train.py in the shape of murashka on real text: bits per byte of the validation text."
    headline = "bits_per_byte"
    unit = "bits per byte"
    better = "less"
    shown: ClassVar[dict[str, str]] = {
        "bits_per_byte": "bits per byte",
        "unigram": "unigram entropy",
        "tokens_per_s": "tokens/s",
        "mflops_per_token": "MFLOPs a token",
        "peak_mb": "peak memory, MB",
    }
    limits = (0.0, math.inf)

    def is_solved(self, figures: Mapping[str, float]) -> bool | None:
        return figures["bits_per_byte"] < figures["unigram"]

    def measure(self, lab: Lab) -> Outcome:
        assert lab.text is not None
        run = new_folder(lab.text.runs_dir, f"{lab.name}-seed{lab.seed}")
        answer = in_its_own_process(words_of_run(lab), run)
        result, params = answer["result"], answer["num_params"]
        figures = {
            "bits_per_byte": result["val/bpb"],
            "unigram": answer["unigram"],
            "tokens_per_s": result["tokens_per_s"],
            "mflops_per_token": result["train_flops"] / result["train_tokens"] / 1e6,
        }
        if answer["peak_bytes"] is not None:
            figures["peak_mb"] = answer["peak_bytes"] / 1e6
        flops = round(result["train_flops"] / answer["num_rows"])
        return Outcome(figures, Cost(params, flops, result["step"], result["train_tokens"], result["train_seconds"]))


def words_of_run(lab: Lab) -> list[str]:
    """The command line of train.py; the words of the user come last, so they win."""
    assert lab.text is not None
    steps = lab.steps or STEPS
    return [
        f"attention={lab.name}",
        "model=murashka",
        f"data.path='{lab.text.folder}'",
        "data.val_rows=null",
        f"trainer.max_steps={steps}",
        f"trainer.val_every_steps={steps}",
        f"trainer.device={lab.device.type}",
        f"scheduler.warmup_steps={max(1, min(WARMUP_STEPS, steps // 6))}",
        "callbacks.samples.every_steps=null",
        f"callbacks.checkpoints.every_steps={steps}",
        f"seed={lab.seed}",
        *lab.text.words,
    ]


def in_its_own_process(words: list[str], run: Path) -> dict[str, Any]:
    """What `train_and_measure` returns, from a new process; its BulbaError is raised here again."""
    done = subprocess.run([sys.executable, "-m", __name__, str(run), *words], capture_output=True, text=True)
    last = (done.stdout.splitlines() or [""])[-1]
    if done.returncode or not last.startswith("{"):
        raise TrainingError(f"the run in {run} ended with exit code {done.returncode}: {done.stderr.strip()[-600:]}")
    answer: dict[str, Any] = json.loads(last)
    if "error" in answer:
        raise getattr(bulba.errors, answer["error"])(answer["sentence"])
    return answer


def train_and_measure(words: list[str], run: Path) -> dict[str, Any]:
    """Train in this process; the summary's result, and what stands beside it."""
    # Slow to import, and all other tasks do without.
    from bulba.bench.opened import open_run
    from bulba.bench.plan import peak_bytes, start_measuring
    from bulba.bench.text import unigram_bits_per_byte
    from bulba.run.check import check_config
    from bulba.run.train import train

    config = check(expand(words))
    with open_dict(config):
        del config["hydra"]
    check_config(config)  # before the texts are read
    data = build(config.data, path="data")
    data.prepare(build(config.tokenizer, path="tokenizer"))
    device = choose_device(config.trainer.device)
    try:
        before = start_measuring(device)
    except UnsupportedError:  # memory of a process is read on Linux alone
        before = None
    summary = train(config, run)
    peak = None if before is None else peak_bytes(device) - before
    return {
        "result": summary["result"],
        "num_params": summary["model"]["num_params"],
        "num_rows": summary["result"]["step"] * config.data.batch_size,
        "peak_bytes": peak,
        "unigram": unigram_bits_per_byte(open_run(str(run))),
    }


def main() -> None:
    """The last line of standard output is the answer, as JSON."""
    try:
        answer = train_and_measure(sys.argv[2:], Path(sys.argv[1]))
    except BulbaError as error:
        answer = {"error": type(error).__name__, "sentence": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
