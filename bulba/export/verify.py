"""The gate of the GGUF export: the file is run in llama.cpp and must behave as the checkpoint does in Bulba.

1. Tokenizer: the ids of `HARD_STRINGS` are equal (after NFC, which llama.cpp leaves to the caller), so are the bytes
   of every token and the special ids.
2. Logits: llama.cpp continues `PROMPTS` by the likeliest token for 64 tokens, and at every one of those positions its
   logits differ from Bulba's by no more than a limit, in standard deviations (sd) of the position's logits.
3. Text: both continuations are the same. They may part only where Bulba itself holds the two tokens for equal within
   twice the limit, since each of the two logits may be off by it; every such place is reported.

The limit is `FLOOR_SD`, or `NOISE_FACTOR` times what rounding to the type does to this model where that is more
(bulba/export/rounding.py). A missing q/k permutation moves the logits of even an untrained model by 0.8 sd.
"""

from __future__ import annotations

import json
import logging
import unicodedata
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bulba.checkpoint import load_model
from bulba.data.tokenizer import Tokenizer
from bulba.errors import ExportError
from bulba.export.gguf import GgufType
from bulba.export.hard_strings import HARD_STRINGS, PROMPTS
from bulba.export.llama_cpp import LlamaCpp, open_llama_cpp
from bulba.export.rounding import round_model, rounded_logits
from bulba.files import sha256_file, write_text
from bulba.model.gpt import GPT

log = logging.getLogger(__name__)

NEW_TOKENS = 64  # per prompt
FLOOR_SD: dict[GgufType, float] = {"f32": 1e-3, "f16": 0.02, "bf16": 0.05, "q8_0": 0.05}
NOISE_FACTOR = 3.0


@dataclass
class Divergence:
    """Where the continuations part: Bulba prefers the one token, llama.cpp the other."""

    prompt: str
    position: int
    bulba_token: str
    llama_cpp_token: str
    margin_sd: float


@dataclass
class Verification:
    """What the gate saw; written beside the file as `*.verify.json`. `fault` is None where it passed."""

    file: str
    sha256: str
    type: GgufType
    llama_cpp: str = ""
    xllamacpp: str = ""
    num_strings: int = 0
    nfd_differences: int = 0
    num_tokens: int = 0
    num_prompts: int = 0
    num_positions: int = 0
    max_difference_sd: float = 0.0
    mean_difference_sd: float = 0.0
    rounding_noise_sd: float = 0.0
    limit_sd: float = 0.0
    divergences: list[Divergence] = field(default_factory=list)
    fault: str | None = None


def verify_gguf(file: Path, path: Path, checkpoint: Path, tokenizer: Path, type: GgufType) -> Verification:
    """Try `file` in llama.cpp and write the report beside `path`, the name it is to have.

    Raises ExportError that says where the two part; `file` then becomes `PATH.rejected`.
    """
    report = Verification(path.name, sha256_file(file), type, xllamacpp=_version("xllamacpp"))
    model = load_model(checkpoint).float()
    loaded = Tokenizer.load(tokenizer)
    prompts = [loaded.encode(text) for text in PROMPTS]
    # Room for one new token at least, in the smallest of models.
    prompts = [ids[: model.max_seq_len] for ids in prompts]
    max_tokens = min(max(map(len, prompts)) + NEW_TOKENS, model.max_seq_len)
    try:
        with open_llama_cpp(file, len(prompts), max_tokens, torch.get_num_threads()) as llama:
            report.llama_cpp = llama.version
            report.fault = check_tokenizer(llama, loaded, report) or check_logits(
                llama, model, loaded, prompts, report
            )
    except ExportError as error:
        report.fault = str(error)
    text = json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n"
    write_text(path.with_suffix(".verify.json"), text)
    if report.fault:
        rejected = path.with_name(f"{path.name}.rejected")
        file.replace(rejected)
        raise ExportError(
            f"{path.name} does not behave as the checkpoint: {report.fault}; it stays as {rejected}."
        )
    _tell(report)
    return report


def check_tokenizer(llama: LlamaCpp, tokenizer: Tokenizer, report: Verification) -> str | None:
    """Part 1; the first fault as a sentence without its full stop."""
    special = (llama.num_tokens, llama.bos_id, llama.eos_id)
    expected = (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id)
    if special != expected:
        return f"llama.cpp reads (tokens, bos, eos) = {special} and the tokenizer has {expected}"
    for token in range(llama.num_tokens):
        if llama.piece(token) != tokenizer.token_bytes(token):
            return f"token {token} is {tokenizer.token_bytes(token)!r} in Bulba and {llama.piece(token)!r} in llama.cpp"
    report.num_tokens = llama.num_tokens
    for text in HARD_STRINGS:
        ours, theirs = tokenizer.encode(text), llama.tokenize(unicodedata.normalize("NFC", text))
        if ours != theirs:
            return describe_ids(text, ours, theirs, tokenizer)
        report.num_strings += 1
        report.nfd_differences += llama.tokenize(text) != ours
    return None


def check_logits(
    llama: LlamaCpp, model: GPT, tokenizer: Tokenizer, prompts: list[list[int]], report: Verification
) -> str | None:
    """Parts 2 and 3; the first fault as a sentence without its full stop. The model is rounded in the end."""
    # The last new token is not fed, so it needs no place.
    steps = [min(NEW_TOKENS, model.max_seq_len - len(ids) + 1) for ids in prompts]
    new_ids, theirs = llama.continue_greedily(prompts, steps)
    texts = [prompt + new[:-1] for prompt, new in zip(prompts, new_ids, strict=True)]
    ours = [forward(model, text, "f32")[-count:] for text, count in zip(texts, steps, strict=True)]
    if report.type != "f32":
        round_model(model, report.type)
        rounded = [
            forward(model, text, report.type)[-count:] for text, count in zip(texts, steps, strict=True)
        ]
        report.rounding_noise_sd = float(
            max(differences_sd(a, b).max() for a, b in zip(ours, rounded, strict=True))
        )
    differences = [differences_sd(a, b) for a, b in zip(ours, theirs, strict=True)]
    report.num_prompts, report.num_positions = len(prompts), sum(steps)
    report.max_difference_sd = float(np.max([part.max() for part in differences]))
    report.mean_difference_sd = float(np.mean(np.concatenate(differences)))
    report.limit_sd = max(FLOOR_SD[report.type], NOISE_FACTOR * report.rounding_noise_sd)
    for prompt, logits, ids in zip(PROMPTS, ours, new_ids, strict=True):
        report.divergences += first_divergence(prompt, logits, ids, tokenizer)
    # Written so that NaN does not pass.
    for prompt, part in zip(PROMPTS, differences, strict=True):
        position = int(np.argmax(~(part <= report.limit_sd)))
        if not part[position] <= report.limit_sd:
            return (
                f"after the prompt {prompt!r}, {position} tokens on, its logits are {part[position]:.3g} standard "
                f"deviations away from Bulba's, and {report.limit_sd:.3g} is the most that {report.type} explains"
                + "".join(_describe(part) for part in report.divergences if part.prompt == prompt)
            )
    wide = [part for part in report.divergences if not part.margin_sd <= 2 * report.limit_sd]
    return (
        f"after the prompt {wide[0].prompt!r} the continuations part" + _describe(wide[0]) if wide else None
    )


@torch.no_grad()
def forward(model: GPT, ids: list[int], type: GgufType) -> NDArray[np.float32]:
    """Bulba's logits behind every token of one text, [T, V]."""
    hidden_BTH = model(torch.tensor([ids]))
    return rounded_logits(model, hidden_BTH[0], type).numpy()


def differences_sd(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Largest difference at each position in standard deviations of `ours`: 2 x [T, V] -> [T]."""
    return np.abs(ours.astype(np.float64) - theirs).max(-1) / ours.std(-1, dtype=np.float64)


def first_divergence(
    prompt: str, logits: NDArray[np.float32], ids: list[int], tokenizer: Tokenizer
) -> list[Divergence]:
    """The first place where Bulba's likeliest token is not llama.cpp's; before it the two texts are the same."""
    for position, (row, token) in enumerate(zip(logits, ids, strict=True)):
        best = int(row.argmax())
        if best != token:
            margin = float((row[best] - row[token]) / row.std())
            return [Divergence(prompt, position, show(tokenizer, best), show(tokenizer, token), margin)]
    return []


def describe_ids(text: str, ours: list[int], theirs: list[int], tokenizer: Tokenizer) -> str:
    """Where two encodings of a text part."""
    at = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
    )
    ends = [
        f"{show(tokenizer, ids[at])} (id {ids[at]})" if at < len(ids) else "the end" for ids in (ours, theirs)
    ]
    return f"the text {text!r} parts at token {at}, which is {ends[0]} in Bulba and {ends[1]} in llama.cpp"


def show(tokenizer: Tokenizer, token: int) -> str:
    """A token as readable text."""
    data = tokenizer.token_bytes(token)
    return repr(data.decode(errors="backslashreplace")) if data else f"special token {token}"


def _describe(part: Divergence) -> str:
    return (
        f"; at new token {part.position} Bulba writes {part.bulba_token} and llama.cpp {part.llama_cpp_token}, "
        f"which Bulba holds {part.margin_sd:.3g} standard deviations apart"
    )


def _tell(report: Verification) -> None:
    log.info(
        "%s in llama.cpp: %d texts and %d tokens give equal ids, logits of %d positions differ by at most %.2g sd "
        "(limit %.2g), %d of %d continuations part at a tie",
        report.file, report.num_strings, report.num_tokens, report.num_positions, report.max_difference_sd,
        report.limit_sd, len(report.divergences), report.num_prompts,
    )  # fmt: skip
    for part in report.divergences:
        log.warning("after the prompt %r the continuations part%s", part.prompt, _describe(part))


def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:
        return ""
