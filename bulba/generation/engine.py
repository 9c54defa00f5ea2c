"""Text generation: feed the prompt, pick a token, feed it back, with or without a decode cache.

One loop serves everything: `generate` streams one text, `generate_text` collects it, `generate_many` writes
many texts in batches. It does not know Lightning or chat templates and does no beam search.

Context: a prompt longer than the model's context loses its beginning, and a text that fills the context ends
there with finish_reason "length". Both are logged as warnings and stand in `Generation.note`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Generator, Tensor

from bulba.errors import ConfigError
from bulba.generation.options import SamplingOptions
from bulba.generation.sampling import draw, filter_logits
from bulba.generation.stop import StopFilter
from bulba.model.gpt import GPT

log = logging.getLogger(__name__)

FinishReason = Literal["eos", "stop", "length"]
MAX_ROWS = 64  # texts that `generate_many` decodes at once


@dataclass(frozen=True)
class Generation:
    """One text.

    ids: the new tokens, without the end-of-text token, those of a trimmed stop text included.
    tokens_per_s: new tokens over wall time, reading the prompt included.
    note: what the model's context did not allow, if anything.
    """

    text: str
    ids: list[int]
    finish_reason: FinishReason
    tokens_per_s: float
    note: str | None = None


class IncrementalDecoder(Protocol):
    """Turns ids into text that never holds half a character."""

    def push(self, token: int, /) -> str: ...

    def flush(self) -> str: ...


class TextTokenizer(Protocol):
    """What generation needs of a tokenizer."""

    @property
    def eos_id(self) -> int: ...

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str, /) -> list[int]: ...

    def stream(self) -> IncrementalDecoder: ...


@dataclass
class Writer:
    """One text in the making: takes ids, gives the text that is certain."""

    decoder: IncrementalDecoder
    stop: StopFilter
    eos_id: int
    ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    def take(self, token: int) -> str:
        """The text that the token makes certain; may finish the text."""
        if token == self.eos_id:
            return self.finish("eos")
        self.ids.append(token)
        piece = self.stop.push(self.decoder.push(token))
        if self.stop.found:
            self.finish_reason = "stop"
        return piece

    def finish(self, reason: FinishReason) -> str:
        """The rest of the text."""
        piece = self.stop.push(self.decoder.flush())
        self.finish_reason = "stop" if self.stop.found else reason
        return piece + self.stop.flush()


@dataclass(frozen=True)
class FittedPrompt:
    """A prompt as the model can take it.

    budget: how many new tokens may follow. note: what the context did not allow, if anything.
    """

    ids: list[int]
    budget: int
    note: str | None


def generate(model: GPT, tokenizer: TextTokenizer, prompt: str, options: SamplingOptions) -> Iterator[str]:
    """Stream the continuation of `prompt`, without the prompt, in pieces as soon as each is certain."""
    yield from _write(model, fit_prompt(model, tokenizer, prompt, options), options, _writer(tokenizer, options))


def generate_text(model: GPT, tokenizer: TextTokenizer, prompt: str, options: SamplingOptions) -> Generation:
    """The continuation of `prompt` as a whole."""
    writer = _writer(tokenizer, options)
    fitted = fit_prompt(model, tokenizer, prompt, options)
    start = time.perf_counter()
    text = "".join(_write(model, fitted, options, writer))
    return _generation(writer, text, len(writer.ids) / (time.perf_counter() - start), fitted.note)


def generate_many(
    model: GPT, tokenizer: TextTokenizer, prompts: list[str], options: SamplingOptions
) -> list[Generation]:
    """The continuations of many prompts, in order; prompts of equal length in tokens are decoded together.

    Text i is what `generate_text` writes with seed + i. tokens_per_s is that of the whole batch of the text.
    """
    fitted = [fit_prompt(model, tokenizer, prompt, options) for prompt in prompts]
    by_length: dict[int, list[int]] = {}
    for index, prompt in enumerate(fitted):
        by_length.setdefault(len(prompt.ids), []).append(index)
    done: dict[int, Generation] = {}
    for indices in by_length.values():
        for first in range(0, len(indices), MAX_ROWS):
            batch = {index: fitted[index] for index in indices[first : first + MAX_ROWS]}
            done |= _write_batch(model, tokenizer, batch, options)
    return [done[index] for index in range(len(prompts))]


def fit_prompt(model: GPT, tokenizer: TextTokenizer, prompt: str, options: SamplingOptions) -> FittedPrompt:
    """Encode a prompt and fit it into the model's context.

    A prompt beyond the context keeps its end: room is left for max_new_tokens, up to half of the context.
    """
    if tokenizer.vocab_size != model.config["vocab_size"]:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} tokens and the model {model.config['vocab_size']} "
            "rows: use the tokenizer that the model was trained with."
        )
    ids, context, notes = tokenizer.encode(prompt), model.max_seq_len, []
    if len(ids) > context:
        dropped = len(ids) - context + min(options.max_new_tokens, context // 2)
        notes.append(
            f"the prompt has {len(ids)} tokens and the model's context {context}: "
            f"its first {dropped} tokens were left out"
        )
        ids = ids[dropped:]
    # The last new token is never fed back, so it needs no place.
    budget = min(options.max_new_tokens, context - len(ids) + 1)
    if budget < options.max_new_tokens:
        notes.append(
            f"the model's context of {context} tokens has room for {budget} new ones after this prompt, "
            f"not for {options.max_new_tokens}"
        )
    for note in notes:
        log.warning("%s", note)
    return FittedPrompt(ids, budget, "; ".join(notes) or None)


def decode_tokens(
    model: GPT, prompts_BT: Tensor, num_new: int, options: SamplingOptions, generators: list[Generator]
) -> Iterator[Tensor]:
    """`num_new` times one new token for each row, [B, T] -> [B] each time; the caller may stop earlier."""
    cache = None
    if options.cache:
        cache = model.new_cache(len(prompts_BT), prompts_BT.shape[1] + num_new - 1)
    tokens_BT = fed_BT = prompts_BT
    for _ in range(num_new):
        # Not inference_mode: what a layer keeps for later must still serve training.
        with torch.no_grad(), _evaluating(model):
            logits_BV = filter_logits(
                model.logits(model(fed_BT, cache=cache)[:, -1]),
                tokens_BT,
                temperature=options.temperature,
                top_k=options.top_k,
                top_p=options.top_p,
                repetition_penalty=options.repetition_penalty,
                repetition_window=options.repetition_window,
            )
            next_B = logits_BV.argmax(-1) if options.temperature == 0 else draw(logits_BV, generators)
        yield next_B
        tokens_BT = torch.cat([tokens_BT, next_B[:, None]], 1)
        fed_BT = tokens_BT if cache is None else next_B[:, None]


def seeded(seed: int) -> Generator:
    """A generator on the CPU, so that a seed means the same draws on every device."""
    return Generator().manual_seed(seed)


def _write(model: GPT, prompt: FittedPrompt, options: SamplingOptions, writer: Writer) -> Iterator[str]:
    prompt_BT = torch.tensor([prompt.ids], device=model.embed_tokens.weight.device)
    for next_B in decode_tokens(model, prompt_BT, prompt.budget, options, [seeded(options.seed)]):
        yield from filter(None, [writer.take(int(next_B))])
        if writer.finish_reason:
            return
    yield from filter(None, [writer.finish("length")])


def _write_batch(
    model: GPT, tokenizer: TextTokenizer, batch: dict[int, FittedPrompt], options: SamplingOptions
) -> dict[int, Generation]:
    """The texts of prompts of one length, by their index among all prompts."""
    start = time.perf_counter()
    prompts = list(batch.values())
    prompts_BT = torch.tensor([prompt.ids for prompt in prompts], device=model.embed_tokens.weight.device)
    generators = [seeded(options.seed + index) for index in batch]
    writers = [_writer(tokenizer, options) for _ in prompts]
    pieces: list[list[str]] = [[] for _ in prompts]
    for next_B in decode_tokens(model, prompts_BT, prompts[0].budget, options, generators):
        for writer, text, token in zip(writers, pieces, next_B.tolist(), strict=True):
            if not writer.finish_reason:
                text.append(writer.take(token))
        if all(writer.finish_reason for writer in writers):
            break
    for writer, text in zip(writers, pieces, strict=True):
        if not writer.finish_reason:
            text.append(writer.finish("length"))
    tokens_per_s = sum(len(writer.ids) for writer in writers) / (time.perf_counter() - start)
    return {
        index: _generation(writer, "".join(text), tokens_per_s, prompt.note)
        for (index, prompt), writer, text in zip(batch.items(), writers, pieces, strict=True)
    }


def _writer(tokenizer: TextTokenizer, options: SamplingOptions) -> Writer:
    return Writer(tokenizer.stream(), StopFilter(options.stop), tokenizer.eos_id)


def _generation(writer: Writer, text: str, tokens_per_s: float, note: str | None) -> Generation:
    assert writer.finish_reason is not None, "a text ends for a reason"
    return Generation(text, writer.ids, writer.finish_reason, tokens_per_s, note)


@contextmanager
def _evaluating(model: GPT) -> Iterator[None]:
    """Evaluation mode for a while; a model in training goes back to it."""
    if not model.training:
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()


__all__ = ["Generation", "SamplingOptions", "generate", "generate_many", "generate_text"]
