"""Vocabulary sizes side by side: what a larger vocabulary saves in tokens, and what it costs in weights."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bulba.bench.tokenizers.measure import ALL, LanguageFigures, count_tokens, encode_words, total
from bulba.bench.tokenizers.text import SampleText
from bulba.bench.tokenizers.vocabularies import BulbaVocabulary
from bulba.config.overrides import groups
from bulba.data.tokenizer_sizes import train_sizes
from bulba.errors import DataError
from bulba.report.presets import preset_model

HELD_OUT_EVERY = 10  # every tenth document is measured, the others are learnt from


@dataclass(frozen=True)
class Preset:
    """The weights of a model preset: those that do not depend on the vocabulary, and those of one entry."""

    name: str
    other_weights: int
    weights_per_entry: int

    def embedding_frac(self, vocab_size: int) -> float:
        """Share of the weights that embedding and head take."""
        embedding = vocab_size * self.weights_per_entry
        return embedding / (embedding + self.other_weights)


@dataclass(frozen=True)
class SizeFigures:
    """A tokenizer of `vocab_size` entries and its special tokens, `rows` in all; error: why there is none."""

    vocab_size: int
    rows: int
    languages: dict[str, LanguageFigures]
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return vars(self) | {"languages": {name: figures.as_dict() for name, figures in self.languages.items()}}


def presets() -> list[Preset]:
    """Every model preset, smallest first."""
    found = []
    for name in groups()["model"]:
        config = preset_model([f"model={name}"]).get_model_config()
        # Embedding and head have one row an entry each.
        per_entry = config["hidden_size"] * (1 if config["tie_embeddings"] else 2)
        found.append(Preset(name, config["num_params"] - config["vocab_size"] * per_entry, per_entry))
    return sorted(found, key=lambda preset: preset.other_weights)


def measure_sizes(text: SampleText, sizes: Sequence[int]) -> list[SizeFigures]:
    """Learn a tokenizer of every size from most of the text and count the tokens of the rest."""
    learnt, held_out = text.divide(HELD_OUT_EVERY)
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for size, tokenizer in train_sizes(learnt, sorted(sizes), Path(folder)):
            if isinstance(tokenizer, DataError):
                figures.append(SizeFigures(size, 0, {}, str(tokenizer)))
                continue
            vocabulary = BulbaVocabulary(tokenizer)
            uses = np.zeros(vocabulary.vocab_size, np.int64)
            languages = {
                name: count_tokens(vocabulary, one, encode_words(vocabulary, one.words), uses)
                for name, one in held_out.languages.items()
            }
            figures.append(SizeFigures(size, vocabulary.vocab_size, languages | {ALL: total(languages.values())}))
    return figures
