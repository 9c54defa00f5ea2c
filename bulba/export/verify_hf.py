"""The check of a Hugging Face folder in transformers itself: equal token ids, equal logits.

The reference is Bulba's model with its weights rounded to the stored dtype; both sides compute in fp32. Hard strings
are compared as they are, NFD included, because tokenizer.json normalises. A folder with code of its own is read by
another process that has no Bulba (bulba/export/hf_reader.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bulba.checkpoint import load_model
from bulba.data.tokenizer import Tokenizer
from bulba.errors import ExportError
from bulba.export.hard_strings import HARD_STRINGS
from bulba.export.optional import need

NUM_TEXTS = 32  # whose logits are compared, the longest hard strings
LIMIT = 1e-4  # largest difference of any logit
READER = Path(__file__).with_name("hf_reader.py")


class Reader(Protocol):
    """The model of a folder: logits [T, V] of the ids of a text."""

    def __call__(self, ids: list[int], /) -> Tensor: ...


@torch.inference_mode()
def verify_hf(folder: Path, checkpoint: Path, tokenizer: Tokenizer, dtype: torch.dtype) -> float:
    """The largest difference of a logit; ExportError says where transformers and Bulba part."""
    transformers: Any = need("transformers", "the check of the Hugging Face folder (export.hf.verify)")
    transformers.utils.logging.disable_progress_bar()
    # Not AutoTokenizer: it asks about code in config.json, which a tokenizer does not need.
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    encoded = [tokenizer.encode(text) for text in HARD_STRINGS]
    for text, ids in zip(HARD_STRINGS, encoded, strict=True):
        # A literal marker of a special token is plain text to Bulba.
        got = theirs(text, split_special_tokens=True)["input_ids"]
        if got != ids:
            raise ExportError(f"the folder is not kept: {text!r} is {ids} in Bulba and {got} in transformers.")
    model = load_model(checkpoint).to(dtype).float()
    has_code = "auto_map" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    worst = 0.0
    with (read_elsewhere if has_code else read_here)(folder) as read:
        for ids in sorted(encoded, key=len)[-NUM_TEXTS:]:
            ids = ids[: model.max_seq_len]
            logits_TV = model.logits(model(torch.tensor([ids])))[0]
            difference = float((logits_TV - read(ids).view_as(logits_TV)).abs().max())
            # Not max(): NaN must not pass.
            if not difference < LIMIT:
                raise ExportError(
                    f"the folder is not kept: a logit in transformers is {difference:.3g} from Bulba's, over {LIMIT}."
                )
            worst = max(worst, difference)
    return worst


@contextmanager
def read_here(folder: Path) -> Iterator[Reader]:
    """A folder that needs no code but that of transformers."""
    transformers: Any = need("transformers", "the check of the Hugging Face folder (export.hf.verify)")
    other = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    yield lambda ids: other(torch.tensor([ids])).logits[0]


@contextmanager
def read_elsewhere(folder: Path) -> Iterator[Reader]:
    """A folder with its own code, in a process without Bulba; ExportError with its last words when it fails."""
    with tempfile.TemporaryDirectory() as scratch, (Path(scratch) / "stderr").open("w+", encoding="utf-8") as said:
        # transformers copies the code to HF_MODULES_CACHE before it runs.
        environment = os.environ | {"HF_MODULES_CACHE": str(Path(scratch) / "modules"), "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(
            [sys.executable, "-P", str(READER), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=environment,
        )
        requests, answers = process.stdin, process.stdout
        assert requests is not None
        assert answers is not None
        vocab_size = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]

        def read(ids: list[int]) -> Tensor:
            num_bytes = len(ids) * vocab_size * 4
            try:
                requests.write(f"{json.dumps(ids)}\n".encode())
                requests.flush()
                data = answers.read(num_bytes)
            except BrokenPipeError:
                data = b""
            if len(data) < num_bytes:
                process.wait()
                said.seek(0)
                last = (said.read().strip().splitlines() or ["it said nothing"])[-1]
                raise ExportError(f"the folder is not kept: transformers cannot open it without Bulba ({last}).")
            return torch.from_numpy(np.frombuffer(data, np.float32).copy())

        try:
            yield read
        finally:
            process.kill()
            process.communicate()
