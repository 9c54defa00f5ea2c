"""The gate of the GGUF export: what is in the file is the checkpoint, and llama.cpp computes with it what Bulba does.

1. Contents: every key of the metadata and every number of the tensors (bulba/export/contents.py).
2. Tokenizer: the ids of `HARD_STRINGS` are equal (after NFC, which llama.cpp leaves to the caller), and so are the
   special ids, the bytes of every token, special tokens as text, the tokens that end a text, and the pieces into which
   text is cut (bulba/export/splits.py).
3. Logits: llama.cpp continues `PROMPTS` by the likeliest token for 64 tokens. At each of these positions its logits
   are those of Bulba with weights and activations rounded to the file's type (bulba/export/rounding.py), up to
   `limit_sd`: `FLOOR_SD`, or `NOISE_FACTOR` times what rounding the activations does to this model where that is
   more, because a last bit that differs makes later roundings differ.
4. Text: the continuations are Bulba's own. The two may part only at a tie, where Bulba's logits of both tokens lie
   within 2 (limit_sd + rounding_noise_sd), the latter of weights and activations together: then, and only then, the
   bounds above explain it. Every such place is reported.

All differences are the largest over the vocabulary, in standard deviations (sd) of that position's logits. A missing
q/k permutation moves the logits of even an untrained model by 0.8 sd.
"""

from __future__ import annotations

import unicodedata
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bulba.data.tokenizer import Tokenizer
from bulba.errors import ExportError
from bulba.export.architecture import Architecture, GgufTensor, read_architecture
from bulba.export.certificate import Certificate, Divergence
from bulba.export.chat import Chat, read_chat
from bulba.export.contents import metadata_fault, tensors_fault
from bulba.export.gguf import CHAT_TEMPLATE, file_metadata
from bulba.export.hard_strings import HARD_STRINGS, PROMPTS
from bulba.export.llama_cpp import LlamaCpp, open_llama_cpp
from bulba.export.optional import need
from bulba.export.rounding import reference_model, round_hidden, round_inputs, round_matrices
from bulba.export.splits import splits_fault
from bulba.export.types import GGUF_TYPES, GgufType, Importances
from bulba.export.vocab import Vocab, read_vocab
from bulba.files import sha256_file
from bulba.model.gpt import GPT
from bulba.model.mlp import FeedForward

Logits = NDArray[np.float32]
NEW_TOKENS = 64  # per prompt
FLOOR_SD: dict[GgufType, float] = dict.fromkeys(GGUF_TYPES, 0.02) | {"f32": 1e-3, "f16": 0.01}
GELU_FLOOR_SD = 5e-3  # llama.cpp takes GELU, in its tanh form, from a table of f16
NOISE_FACTOR = 2.0
NFC_HELPER = """python -c 'import sys, unicodedata as u; print(u.normalize("NFC", sys.argv[1]))' "PROMPT\""""
PARAMS_PER_THREAD = 10_000_000  # a smaller model only waits for a second thread


def verify_gguf(
    file: Path, path: Path, checkpoint: Path, tokenizer: Path, type: GgufType, importances: Importances
) -> Certificate:
    """Try `file` and write the certificate beside `path`, the name that the file is to have.

    importances: that the file was made with. Raises ExportError that says where the two part; `file` then becomes
    `PATH.rejected`.
    """
    certificate = certify(file, path.name, checkpoint, tokenizer, type, importances)
    page = certificate.write(path)
    rejected = path.with_name(f"{path.name}.rejected")
    if certificate.fault:
        file.replace(rejected)
        raise ExportError(
            f"{path.name} does not behave as the checkpoint: {certificate.fault}; it stays as {rejected}, "
            f"and {page.name} has the figures."
        )
    rejected.unlink(missing_ok=True)
    tell(certificate, page)
    return certificate


def certify(
    file: Path, name: str, checkpoint: Path, tokenizer: Path, type: GgufType, importances: Importances
) -> Certificate:
    """Hold a file against a checkpoint and its tokenizer.json; the file stays as it is."""
    model = read_architecture(checkpoint, "a GGUF file")
    certificate = Certificate(
        name,
        sha256_file(file),
        sha256_file(checkpoint / "model.safetensors"),
        type,
        model.name,
        bulba=version("bulba"),
        xllamacpp=version("xllamacpp"),
        difference=model.difference,
    )
    vocab = read_vocab(tokenizer)
    chat = read_chat(checkpoint, tokenizer)
    certificate.fault = contents_fault(file, model, checkpoint, vocab, certificate, chat) or behaviour_fault(
        file, reference_model(checkpoint), model.tensors, importances, tokenizer, vocab, certificate, chat
    )
    return certificate


def contents_fault(
    file: Path,
    model: Architecture,
    checkpoint: Path,
    vocab: Vocab,
    certificate: Certificate,
    chat: Chat | None = None,
) -> str | None:
    """Part 1; the first fault as a sentence without its full stop."""
    reader = need("gguf", "the check of a GGUF file").GGUFReader(file)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    expected = {"general.architecture": model.name} | file_metadata(model, vocab, certificate.type, chat)
    if CHAT_TEMPLATE in fields and CHAT_TEMPLATE not in expected:
        return f"the metadata {CHAT_TEMPLATE} is there, and the model was not trained to chat"
    fault = metadata_fault(fields, expected)
    if fault:
        return fault
    certificate.num_metadata = len(expected)
    fault = tensors_fault(reader, checkpoint, model.tensors)
    if not fault:
        certificate.num_tensors = len(model.tensors)
    return fault


def behaviour_fault(
    file: Path,
    model: GPT,
    tensors: list[GgufTensor],
    importances: Importances,
    tokenizer_json: Path,
    vocab: Vocab,
    certificate: Certificate,
    chat: Chat | None = None,
) -> str | None:
    """Parts 2 to 4."""
    tokenizer = Tokenizer.load(tokenizer_json)
    prompts = [tokenizer.encode(text)[: model.max_seq_len] for text in PROMPTS]
    max_tokens = min(max(map(len, prompts)) + NEW_TOKENS, model.max_seq_len)
    # One core stays free: llama.cpp's threads spin, and one that waits for a core holds up all the others.
    num_threads = max(1, min(torch.get_num_threads() - 1, model.get_num_params() // PARAMS_PER_THREAD))
    try:
        with open_llama_cpp(file, len(prompts), max_tokens, num_threads) as llama:
            fault = (
                check_tokenizer(llama, tokenizer, certificate)
                or special_fault(llama, tokenizer, vocab, certificate, chat)
                or splits_fault(tokenizer_json, HARD_STRINGS)
            )
            if fault:
                return fault
            certificate.num_splits = len(HARD_STRINGS)
            # The last new token is not fed back, so it needs no place.
            steps = [min(NEW_TOKENS, model.max_seq_len - len(ids) + 1) for ids in prompts]
            new_ids, theirs = llama.continue_greedily(prompts, steps)
    except ExportError as error:
        return str(error)
    return check_logits(model, tensors, importances, tokenizer, prompts, new_ids, theirs, certificate)


def check_tokenizer(llama: LlamaCpp, tokenizer: Tokenizer, report: Certificate) -> str | None:
    """Part 2, but for the pieces."""
    report.llama_cpp, report.num_tokens = llama.version, llama.num_tokens
    theirs = (llama.num_tokens, llama.bos_id, llama.eos_id)
    ours = (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id)
    if theirs != ours:
        return f"(number of tokens, bos, eos) are {ours} in Bulba and {theirs} in llama.cpp"
    for token in range(llama.num_tokens):
        if llama.piece(token) != tokenizer.token_bytes(token):
            return f"token {token} is {tokenizer.token_bytes(token)!r} in Bulba and {llama.piece(token)!r} in llama.cpp"
    for text in HARD_STRINGS:
        ids = tokenizer.encode(text)
        llama_ids = llama.tokenize(unicodedata.normalize("NFC", text))
        if ids != llama_ids:
            return describe_ids(text, ids, llama_ids, tokenizer)
        report.num_strings += 1
        report.nfd_differences += llama.tokenize(text) != ids
    return None


def special_fault(
    llama: LlamaCpp, tokenizer: Tokenizer, vocab: Vocab, report: Certificate, chat: Chat | None
) -> str | None:
    """Special tokens as text, and the tokens that end a text."""
    for token in sorted(vocab.control):
        text = vocab.tokens[token]
        taken, plain = (llama.tokenize(text, parse_special=parse) for parse in (True, False))
        if taken != [tokenizer.bos_id, token] or plain != tokenizer.encode(text):
            return (
                f"the special token {text} is {taken} taken for itself and {plain} as plain text, where Bulba has "
                f"{[tokenizer.bos_id, token]} and {tokenizer.encode(text)}"
            )
        report.num_special += 1
    ends = {token for token in range(llama.num_tokens) if llama.ends_text(token)}
    ordinary = sorted(ends - vocab.control)
    if tokenizer.eos_id not in ends or ordinary:
        what = f"{show(tokenizer, ordinary[0])} ends a text" if ordinary else "the end-of-text token does not end one"
        return f"in llama.cpp {what}"
    if chat and chat.is_trained and chat.eot_id not in ends:
        return f"in llama.cpp the end-of-turn token {vocab.tokens[chat.eot_id]} does not end a text"
    return None


def check_logits(
    model: GPT,
    tensors: list[GgufTensor],
    importances: Importances,
    tokenizer: Tokenizer,
    prompts: list[list[int]],
    new_ids: list[list[int]],
    theirs: list[Logits],
    report: Certificate,
) -> str | None:
    """Parts 3 and 4: llama.cpp's new ids and their logits against Bulba's. The model stays rounded."""

    def logits_of(type: GgufType) -> list[Logits]:
        return [
            forward(model, prompt + new[:-1], type)[-len(new) :] for prompt, new in zip(prompts, new_ids, strict=True)
        ]

    exact = logits_of("f32")
    round_matrices(model, report.type, tensors, importances)
    exact_inputs = logits_of("f32")
    round_inputs(model, report.type, tensors)
    ours = logits_of(report.type)
    differences = [differences_sd(a, b) for a, b in zip(ours, theirs, strict=True)]
    report.num_prompts, report.num_positions = len(prompts), sum(map(len, differences))
    report.rounding_noise_sd = largest_sd(exact, ours)
    report.limit_sd = max(floor_sd(model, report.type), NOISE_FACTOR * largest_sd(exact_inputs, ours))
    report.max_difference_sd = largest_sd(ours, theirs)
    for prompt, logits, new in zip(PROMPTS, exact, new_ids, strict=True):
        report.divergences += first_divergence(prompt, logits, new, tokenizer)
    return far_logits(differences, report) or wide_divergence(report)


def floor_sd(model: GPT, type: GgufType) -> float:
    """What the arithmetic of llama.cpp explains in every model of this kind."""
    is_gelu = any(isinstance(module, FeedForward) and module.activation == "gelu" for module in model.modules())
    return max(FLOOR_SD[type], GELU_FLOOR_SD if is_gelu else 0.0)


def far_logits(differences: list[NDArray[np.float64]], report: Certificate) -> str | None:
    """The first position whose logits are further away than the limit."""
    for prompt, part in zip(PROMPTS, differences, strict=True):
        # Not `>`: NaN must not pass.
        far = ~(part <= report.limit_sd)
        if far.any():
            position = int(far.argmax())
            parted = [place for place in report.divergences if place.prompt == prompt]
            return (
                f"after the prompt {prompt!r} the logits at new token {position} are {part[position]:.3g} standard "
                f"deviations from Bulba's, and {report.type} explains no more than {report.limit_sd:.3g}"
                + "".join(f"; {describe(place)}" for place in parted)
            )
    return None


def wide_divergence(report: Certificate) -> str | None:
    """The first place where the texts part though Bulba holds the tokens further apart than the bounds explain."""
    tolerance = 2 * (report.limit_sd + report.rounding_noise_sd)
    for place in report.divergences:
        if not place.margin_sd <= tolerance:
            return f"after the prompt {place.prompt!r}, {describe(place)}, and {tolerance:.3g} is the most for a tie"
    return None


@torch.no_grad()
def forward(model: GPT, ids: list[int], type: GgufType) -> Logits:
    """Bulba's logits behind every token of one text, [T, V]."""
    hidden_BTH = model(torch.tensor([ids]))
    return model.logits(round_hidden(hidden_BTH[0], type)).numpy()


def differences_sd(ours: Logits, theirs: Logits) -> NDArray[np.float64]:
    """Largest difference at each position, in standard deviations of `ours`: 2 x [T, V] -> [T]."""
    return np.abs(ours - theirs).max(-1).astype(np.float64) / ours.std(-1)


def largest_sd(ours: list[Logits], theirs: list[Logits]) -> float:
    """The largest of `differences_sd` over all prompts; NaN if there is one."""
    return float(np.concatenate([differences_sd(a, b) for a, b in zip(ours, theirs, strict=True)]).max())


def first_divergence(prompt: str, logits: Logits, ids: list[int], tokenizer: Tokenizer) -> list[Divergence]:
    """The first place where Bulba's likeliest token is not the one of `ids`, if any; before it the texts agree."""
    for position, (row, token) in enumerate(zip(logits, ids, strict=True)):
        best = int(row.argmax())
        if best != token:
            margin = float((row[best] - row[token]) / row.std())
            return [Divergence(prompt, position, show(tokenizer, best), show(tokenizer, token), margin)]
    return []


def describe(place: Divergence) -> str:
    return (
        f"at new token {place.position} Bulba writes {place.bulba_token} and llama.cpp {place.llama_cpp_token}, "
        f"which Bulba holds {place.margin_sd:.3g} standard deviations apart"
    )


def describe_ids(text: str, ours: list[int], theirs: list[int], tokenizer: Tokenizer) -> str:
    """Where two encodings of a text part."""
    shared = min(len(ours), len(theirs))
    at = next((index for index in range(shared) if ours[index] != theirs[index]), shared)
    bulba, llama = (
        f"{show(tokenizer, ids[at])} (id {ids[at]})" if at < len(ids) else "the end" for ids in (ours, theirs)
    )
    return f"token {at} of the text {text!r} is {bulba} in Bulba and {llama} in llama.cpp"


def show(tokenizer: Tokenizer, token: int) -> str:
    """A token as readable text."""
    data = tokenizer.token_bytes(token)
    return repr(data.decode(errors="backslashreplace")) if data else f"special token {token}"


def tell(report: Certificate, page: Path) -> None:
    print(
        f"{report.file} in llama.cpp: {report.num_tokens} tokens and {report.num_strings} texts have equal ids; the "
        f"logits of {report.num_positions} positions differ by at most {report.max_difference_sd:.2g} sd",
        flush=True,
    )
    if report.nfd_differences:
        print(
            f"llama.cpp does not normalise: {report.nfd_differences} of the texts get other tokens unless they are put "
            f"into NFC first, as Bulba does by itself: {NFC_HELPER}",
            flush=True,
        )
    if report.divergences:
        widest = max(place.margin_sd for place in report.divergences)
        print(
            f"{len(report.divergences)} of {report.num_prompts} continuations part from Bulba's at a tie of at most "
            f"{widest:.2g} sd, because {report.type} rounds: see {page.name}",
            flush=True,
        )
