"""Do sampled sentences consist of words that the training text knows, and do they end?

Per language: `sentences` sentences are sampled from the run's own prompts; a word counts as known when it occurs,
in lower case, anywhere in the training documents.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from bulba.bench.opened import OpenedRun, open_run, texts_of
from bulba.config.snapshot import write_json
from bulba.generation.engine import SamplingOptions, generate_many

WORD = re.compile(r"[^\W\d_]+(?:[’'ʼ-][^\W\d_]+)*")
SENTENCE = re.compile(r"[^.!?…]*[.!?…]+[»”\"’)]*", re.DOTALL)


@dataclass(frozen=True)
class WordShare:
    """sentences and words: how many were looked at. known_frac: share of words that the training text has.
    ended_frac: share of sampled texts that end by themselves, with the end-of-text token."""

    sentences: int
    words: int
    known_frac: float
    ended_frac: float
    unknown: list[str]


def measure_words(
    run: str = "last",
    sentences: int = 200,
    temperature: float = 0.7,
    max_new_tokens: int = 250,
    seed: int = 0,
) -> None:
    """Print a table per language and keep it in words.json of the run."""
    opened = open_run(run)
    known = {word for text in texts_of(opened.data, opened.data.train_file) for word in words_of(text)}
    options = SamplingOptions(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    table = Table("language", "sentences", "words", "known words", "texts that end", "unknown, for example")
    result = {}
    for language, prompts in opened.data.prompts().items():
        share = sample_words(opened, prompts, known, sentences, options)
        result[language] = vars(share)
        table.add_row(
            language or "-",
            f"{share.sentences}",
            f"{share.words:,}",
            f"{share.known_frac:.1%}",
            f"{share.ended_frac:.1%}",
            " ".join(share.unknown[:6]),
        )
    write_json(opened.folder / "words.json", result)
    Console().print(table)


def sample_words(
    opened: OpenedRun, prompts: list[str], known: set[str], sentences: int, options: SamplingOptions
) -> WordShare:
    """Sample texts from `prompts` until there are `sentences` whole sentences, and look up their words."""
    found: list[str] = []
    ended: list[bool] = []
    while len(found) < sentences:
        batch = [prompts[(len(ended) + index) % len(prompts)] for index in range(16)]
        seeded = SamplingOptions(**{**vars(options), "seed": options.seed + len(ended)})
        for prompt, generated in zip(
            batch, generate_many(opened.model, opened.data.tokenizer, batch, seeded), strict=True
        ):
            found += SENTENCE.findall(prompt + generated.text)
            ended.append(generated.finish_reason == "eos")
    words = [word for sentence in found[:sentences] for word in words_of(sentence)]
    unknown = [word for word in words if word not in known]
    return WordShare(sentences, len(words), 1 - len(unknown) / len(words), sum(ended) / len(ended), unknown)


def words_of(text: str) -> list[str]:
    """Words in lower case; apostrophes and hyphens inside a word belong to it."""
    return [word.lower() for word in WORD.findall(text)]
