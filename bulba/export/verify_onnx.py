"""The check of an ONNX graph in onnxruntime: Bulba's logits, in one pass and through the cache, and its greedy text.

Both sides compute in fp32. Rows are random tokens, so that every part of the vocabulary is met; the lengths go up to
the context (at most LONGEST tokens), because what a trace takes for a constant shows only at another length.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bulba.data.tokenizer import Tokenizer
from bulba.errors import ExportError
from bulba.export.optional import need
from bulba.files import sha256_file
from bulba.generation.engine import decode_tokens, seeded
from bulba.generation.options import SamplingOptions
from bulba.model.gpt import GPT

LIMIT = 1e-3  # largest difference of any logit
LONGEST = 1024
PROMPTS = ("", "Аднойчы", "Жил-был старик", "Жив собі дід та баба", "Once upon a time there lived")
NEW_TOKENS = 24
# Rows, and how many tokens each pass feeds: a prompt alone, token by token, and several at a time.
CASES: list[tuple[int, list[int]]] = [
    (1, [1]),
    (3, [17]),
    (1, [1, *[1] * 12]),
    (2, [9, *[1] * 6, 4, 20]),
    (4, [31, 33]),
]


class Session:
    """A graph in onnxruntime; num_threads: 0 for all cores."""

    def __init__(self, path: Path, num_threads: int = 0) -> None:
        onnxruntime: Any = need("onnxruntime", "running an ONNX file", "onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._past_inputs = self._session.get_inputs()[1:]

    @property
    def decodes(self) -> bool:
        """Whether it takes a past."""
        return bool(self._past_inputs)

    def start(self, batch_size: int) -> list[NDArray[Any]]:
        """The past of no tokens."""
        types = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
        return [np.zeros((batch_size, one.shape[1], 0, one.shape[3]), types[one.type]) for one in self._past_inputs]

    def step(self, ids_BT: NDArray[np.int64], past: list[NDArray[Any]]) -> tuple[NDArray[np.float32], list[Any]]:
        """Logits [B, T, V] of new tokens, and the past with them."""
        names = (one.name for one in self._past_inputs)
        logits_BTV, *present = self._session.run(None, {"input_ids": ids_BT, **dict(zip(names, past, strict=True))})
        return logits_BTV, present


def certify_onnx(path: Path, checkpoint: Path, model: GPT, tokenizer: Tokenizer) -> dict[str, Any]:
    """What was compared and how far it differs; ExportError says where the graph and Bulba part."""
    session = Session(path)
    worst, num_positions = 0.0, 0
    for batch_size, lengths in fitting_cases(model.max_seq_len, session.decodes):
        difference = logit_difference(session, model, batch_size, lengths)
        num_positions += batch_size * sum(lengths)
        # Not `>`: NaN must not pass.
        if not difference <= LIMIT:
            raise ExportError(
                f"the ONNX file is not kept: for {batch_size} row(s) of {sum(lengths)} tokens in passes of "
                f"{', '.join(map(str, lengths))} a logit in onnxruntime is {difference:.3g} from Bulba's, over {LIMIT}."
            )
        worst = max(worst, difference)
    for prompt in PROMPTS:
        check_greedy(session, model, tokenizer, prompt)
    return {
        "max_logit_difference": worst,
        "limit": LIMIT,
        "num_positions": num_positions,
        "num_prompts": len(PROMPTS),
        "decodes_with_past": session.decodes,
        "sha256": {file.name: sha256_file(file) for file in sorted(path.parent.glob(f"{path.name}*"))},
        "checkpoint_sha256": sha256_file(checkpoint / "model.safetensors"),
        "versions": {name: version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime")},
    }


def fitting_cases(max_seq_len: int, decodes: bool) -> list[tuple[int, list[int]]]:
    """CASES cut to the context, and a row as long as it; without a past all tokens in one pass."""
    longest = min(max_seq_len, LONGEST)
    cases = [*CASES, (1, [longest]), (1, [longest - 1, 1])]
    found = []
    for batch_size, lengths in cases:
        ends = np.cumsum(lengths)
        fitting = [length for length, end in zip(lengths, ends, strict=True) if end <= longest] or [longest]
        found.append((batch_size, fitting if decodes else [sum(fitting)]))
    return found


@torch.inference_mode()
def logit_difference(session: Session, model: GPT, batch_size: int, lengths: list[int]) -> float:
    """The largest difference of a logit, of random rows that are fed in passes of `lengths` tokens."""
    draw = torch.Generator().manual_seed(sum(lengths))
    ids_BT = torch.randint(model.config["vocab_size"], (batch_size, sum(lengths)), generator=draw)
    past, worst, start = session.start(batch_size), 0.0, 0
    hidden_BTH = model(ids_BT)
    for length in lengths:
        place = slice(start, start + length)
        logits_BTV, past = session.step(ids_BT[:, place].numpy(), past)
        difference = float((torch.from_numpy(logits_BTV) - model.logits(hidden_BTH[:, place])).abs().max())
        worst = difference if not difference <= worst else worst  # NaN stays
        start += length
    return worst


def check_greedy(session: Session, model: GPT, tokenizer: Tokenizer, prompt: str) -> None:
    """ExportError where onnxruntime writes another token than Bulba, which no difference within LIMIT explains."""
    ids = tokenizer.encode(prompt)[: model.max_seq_len // 2]
    num_new = min(NEW_TOKENS, model.max_seq_len - len(ids))
    options = SamplingOptions(max_new_tokens=num_new, temperature=0.0, cache=session.decodes)
    rows_BT = torch.tensor([ids])
    new = [int(next_B) for next_B in decode_tokens(model, rows_BT, num_new, options, [seeded(0)])]
    fed, past = ids, session.start(1)
    for position, expected in enumerate(new):
        logits_BTV, past = session.step(np.array([fed]), past)
        got = int(logits_BTV[0, -1].argmax())
        if got != expected:
            # Within twice the limit the two tokens are a tie.
            margin = float(logits_BTV[0, -1, got] - logits_BTV[0, -1, expected])
            if not margin <= 2 * LIMIT:
                raise ExportError(
                    f"the ONNX file is not kept: after the prompt {prompt!r} onnxruntime writes token {got} at place "
                    f"{position} and Bulba token {expected}, which are {margin:.3g} apart in their logits."
                )
            return
        fed = [expected] if session.decodes else [*fed, expected]
