"""Training a tokenizer: what is learnt, from how much, and how that is told."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from bulba.data.prepare import TokenizerSpec
from bulba.errors import ConfigError, DataError
from tests.data.stored import StoredCorpus


def train(folder: Path, texts: list[str], **changes: Any) -> tuple[dict[str, Any], Any]:
    """The model of tokenizer.json, and the report."""
    stored = StoredCorpus(folder, texts)
    report = stored.train(folder / "tokenizer.json", **({"val_frac": 1e-9} | changes))
    return json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"], report


def made_text(seed: int, num_words: int = 2000) -> str:
    """Words of several alphabets with frequencies like those of a language, numbers and line breaks between them."""
    draw = random.Random(seed)
    alphabets = ("абвгдеёжзійклмнопрстуўфхцчшыьэюя", "etaoinshrdlu", "їєґщи", "0123456789", "日本語", "👍🥔")
    words = ["".join(draw.choices(alphabet, k=draw.randint(1, 9))) for alphabet in alphabets for _ in range(40)]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    chosen = draw.choices(draw.sample(words, len(words)), weights, k=num_words)
    return "".join(word + draw.choice((" ", " ", " ", ", ", ". ", "\n", "  ")) for word in chosen)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("min_frequency", [1, 3])
def test_the_model_is_that_of_the_library(seed: int, min_frequency: int, tmp_path: Path) -> None:
    # One of the two is held out.
    texts = [made_text(seed), made_text(seed + 100)]
    ours, report = train(tmp_path, texts, vocab_size=700, min_frequency=min_frequency)
    (text,) = (text for text in texts if len(text.encode()) == report["text_bytes"])
    definition = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    definition["model"] = {"type": "BPE", "vocab": {}, "merges": []}
    library = tokenizers.Tokenizer.from_str(json.dumps(definition | {"added_tokens": [], "post_processor": None}))
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=700,
        min_frequency=min_frequency,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator([text], trainer)
    theirs = json.loads(library.to_str())["model"]
    assert ours["vocab"] == theirs["vocab"]
    assert ours["merges"] == theirs["merges"]


def test_the_report_tells_what_was_read(tmp_path: Path) -> None:
    texts = [made_text(seed, 100) for seed in range(50)]
    _, report = train(tmp_path, texts, val_frac=0.1)
    assert report["stopped_by"] == "end"
    assert 30 < report["documents"] < 50
    assert report["text_bytes"] == report["total_text_bytes"] == sum(report["language_bytes"].values())
    assert 0 < report["total_text_bytes"] < sum(len(text.encode()) for text in texts)


def test_a_limit_of_text_ends_the_reading(tmp_path: Path) -> None:
    texts = [made_text(seed, 100) for seed in range(50)]
    _, report = train(tmp_path, texts, max_text_bytes=20_000)
    assert report["stopped_by"] == "max_text_bytes"
    assert 20_000 <= report["text_bytes"] < 25_000 < report["total_text_bytes"]
    assert 1 < report["documents"] < 50


def test_a_full_table_ends_the_reading_and_a_tokenizer_comes_of_it(tmp_path: Path) -> None:
    text = made_text(1, 20_000)
    # The table is looked at every 8 MiB.
    texts = [f"{number} {text}" for number in range(80)]
    first, report = train(tmp_path, texts, max_memory_bytes=1, num_threads=1)
    assert report["stopped_by"] == "max_memory_bytes"
    assert 8 << 20 <= report["text_bytes"] < report["total_text_bytes"]
    assert len(first["vocab"]) == 400
    again, other_report = train(tmp_path, texts, max_memory_bytes=1, num_threads=4)
    assert (again, other_report) == (first, report)


def test_what_progress_raises_ends_the_training(tmp_path: Path) -> None:
    class EnoughError(Exception):
        pass

    def progress(done: int, total: int) -> None:
        assert 0 <= done <= total
        raise EnoughError

    with pytest.raises(EnoughError):
        train(tmp_path, [made_text(0), made_text(1)], progress=progress)
    assert not (tmp_path / "tokenizer.json").exists()
    with pytest.raises(DataError, match=r"tokenizer.vocab_size: expected 256"):
        train(tmp_path, [made_text(0), made_text(1)], vocab_size=255)


UKRAINIAN = "Їжачок приніс додому яблука, бо надворі вже холодно, а в хатці тепло і є пиріг. "
ENGLISH = "The hedgehog carried apples home because it was cold outside and warm in the house. "


def cyrillic_frac(model: dict[str, Any]) -> float:
    """The share of learnt entries that are of Cyrillic letters."""
    learnt = [token for token in model["vocab"] if len(token) > 1]
    return sum("Ð" in token or "Ñ" in token for token in learnt) / len(learnt)


def test_the_balance_decides_which_language_has_a_say(tmp_path: Path) -> None:
    draw = random.Random(0)

    def mixed(sentence: str) -> str:
        words = sentence.split()
        return " ".join("".join(draw.sample(word, len(word))) for word in words * 8) + " " + sentence * 4

    texts = [mixed(ENGLISH) for _ in range(90)] + [mixed(UKRAINIAN) for _ in range(10)]
    shares = {}
    balances: dict[str, Any] = {"natural": "natural", "parity": "parity", "en": {"en": 1.0}, "uk": {"uk": 1, "en": 0.1}}
    for name, balance in balances.items():
        model, report = train(tmp_path / name, texts, balance=balance, vocab_size=600)
        shares[name] = cyrillic_frac(model)
        assert set(report["language_bytes"]) == {"en", "uk"}
    assert shares["en"] == 0
    assert shares["natural"] < shares["parity"]
    assert shares["natural"] < shares["uk"]


@pytest.mark.parametrize(
    ("balance", "sentence"),
    [
        ("fair", "tokenizer.balance=fair must be natural, parity, or weights"),
        ({"pl": 1.0}, "tokenizer.balance: pl: 1.0 is not a weight"),
        ({"be": -1.0}, "tokenizer.balance: be: -1.0 is not a weight"),
        ({"be": 0.0}, "gives no language a weight above 0"),
    ],
)
def test_a_balance_that_cannot_be_is_refused(balance: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TokenizerSpec(balance=balance)
    assert sentence in str(caught.value)
