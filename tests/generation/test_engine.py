"""Generation as a user sees it: what is printed, where it ends, and that the cache changes nothing."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch

from bulba.data.tokenizer import Tokenizer
from bulba.errors import ConfigError, UnsupportedError
from bulba.generation.engine import SamplingOptions, generate, generate_many, generate_text
from bulba.model.gpt import GPT
from tests.generation.small_tokenizer import chain_model
from tests.model.tiny import tiny_gpt

GREEDY: dict[str, Any] = {"temperature": 0.0}
PROMPTS = ["", "Жыў-быў", "дзед", "баба", "Once upon", "def f(x):", "Жили", "сям'я", "🥔", "Жив"]


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> GPT:
    gpt: GPT = tiny_gpt(vocab_size=tokenizer.vocab_size)
    return gpt


def distinct_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    ids = tokenizer.encode(text, bos=False)
    assert len(set(ids)) == len(ids), "choose a text that repeats no token"
    return ids


def writer_of(tokenizer: Tokenizer, text: str, end: bool = True, **sizes: int) -> GPT:
    """A model that writes `text` and, with `end`, the end-of-text token."""
    chain = [tokenizer.bos_id, *distinct_ids(tokenizer, text)]
    return chain_model(tokenizer, [*chain, tokenizer.eos_id] if end else chain, **sizes)


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_with_and_without_cache_writes_the_same(model: GPT, tokenizer: Tokenizer, penalty: float) -> None:
    for prompt in PROMPTS:
        texts = [
            generate_text(
                model,
                tokenizer,
                prompt,
                SamplingOptions(max_new_tokens=30, repetition_penalty=penalty, cache=cache, **GREEDY),
            )
            for cache in (True, False)
        ]
        assert texts[0].ids == texts[1].ids
        assert len(set(texts[0].ids)) > 5, "a degenerate text would prove nothing"


def test_stream_text_and_ids_agree(model: GPT, tokenizer: Tokenizer) -> None:
    options = SamplingOptions(max_new_tokens=40, seed=3)
    pieces = list(generate(model, tokenizer, "Жыў", options))
    text = generate_text(model, tokenizer, "Жыў", options)
    assert "".join(pieces) == text.text == tokenizer.decode(text.ids)
    assert all(pieces)
    assert text.tokens_per_s > 0


def test_a_letter_is_never_shown_in_halves(tokenizer: Tokenizer) -> None:
    expected = "🥔ќ☃"
    pieces = list(generate(writer_of(tokenizer, expected), tokenizer, "", SamplingOptions(max_new_tokens=50)))
    assert "".join(pieces) == expected
    assert len(distinct_ids(tokenizer, expected)) > len(pieces), "no letter took two tokens"
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_letter_cut_by_the_length_becomes_a_replacement_character(tokenizer: Tokenizer) -> None:
    gpt = writer_of(tokenizer, "ꙮ")
    num_ids = len(distinct_ids(tokenizer, "ꙮ"))
    text = generate_text(gpt, tokenizer, "", SamplingOptions(max_new_tokens=num_ids - 1, **GREEDY))
    assert (text.text, text.finish_reason) == ("\ufffd", "length")


def test_end_of_text_ends_and_is_not_printed(tokenizer: Tokenizer) -> None:
    text = generate_text(writer_of(tokenizer, "баба"), tokenizer, "", SamplingOptions(max_new_tokens=50, **GREEDY))
    assert (text.text, text.finish_reason, text.note) == ("баба", "eos", None)
    assert text.ids == tokenizer.encode("баба", bos=False)


def test_max_new_tokens_is_exact(model: GPT, tokenizer: Tokenizer) -> None:
    for count in (1, 2, 17):
        text = generate_text(model, tokenizer, "Жыў", SamplingOptions(max_new_tokens=count, **GREEDY))
        assert (len(text.ids), text.finish_reason) == (count, "length")


@pytest.mark.parametrize("stop", ["арик", "ик, ку", ("няма", "рка рабая"), "рабая"])
def test_stop_texts_work_across_tokens_and_are_trimmed(tokenizer: Tokenizer, stop: Any) -> None:
    written = "старик, курка рабая"
    options = SamplingOptions(max_new_tokens=50, stop=stop, **GREEDY)
    pieces = list(generate(writer_of(tokenizer, written), tokenizer, "", options))
    text = generate_text(writer_of(tokenizer, written), tokenizer, "", options)
    found = next(s for s in options.stop if s in written)
    assert "".join(pieces) == text.text == written[: written.index(found)]
    assert text.finish_reason == "stop"


def test_the_beginning_of_a_stop_text_is_shown_when_the_text_ends_there(tokenizer: Tokenizer) -> None:
    options = SamplingOptions(max_new_tokens=50, stop=("баба Яга",), **GREEDY)
    text = generate_text(writer_of(tokenizer, "баба"), tokenizer, "", options)
    assert (text.text, text.finish_reason) == ("баба", "eos")


def test_many_prompts_at_once_write_what_each_writes_alone(model: GPT, tokenizer: Tokenizer) -> None:
    options = SamplingOptions(max_new_tokens=25, temperature=0.9, top_k=40, top_p=0.95, seed=7, stop=("а",))
    prompts = PROMPTS * 2
    together = generate_many(model, tokenizer, prompts, options)
    for index, (prompt, text) in enumerate(zip(prompts, together, strict=True)):
        single = SamplingOptions(max_new_tokens=25, temperature=0.9, top_k=40, top_p=0.95, seed=7 + index, stop=("а",))
        alone = generate_text(model, tokenizer, prompt, single)
        assert (text.text, text.ids, text.finish_reason) == (alone.text, alone.ids, alone.finish_reason)
    assert {text.finish_reason for text in together} >= {"stop", "length"}
    assert together[0].ids != together[len(PROMPTS)].ids, "the same prompt got the same draws"


def test_more_prompts_than_a_batch_holds(tokenizer: Tokenizer) -> None:
    gpt = writer_of(tokenizer, "баба")
    texts = generate_many(gpt, tokenizer, [""] * 150, SamplingOptions(max_new_tokens=9, **GREEDY))
    assert [text.text for text in texts] == ["баба"] * 150
    assert generate_many(gpt, tokenizer, [], SamplingOptions(max_new_tokens=9)) == []


def test_a_seed_repeats_and_another_differs(model: GPT, tokenizer: Tokenizer) -> None:
    state = torch.get_rng_state()
    first, again, other = (
        generate_text(model, tokenizer, "Жыў", SamplingOptions(max_new_tokens=20, seed=seed)).ids for seed in (1, 1, 2)
    )
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), state), "generation used the random numbers of training"


def test_a_prompt_beyond_the_context_loses_its_beginning(
    model: GPT, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = "дзед і баба " * 40
    options = SamplingOptions(max_new_tokens=10, **GREEDY)
    with caplog.at_level(logging.WARNING):
        text = generate_text(model, tokenizer, prompt, options)
    num_ids, context = len(tokenizer.encode(prompt)), model.max_seq_len
    note = f"the prompt has {num_ids} tokens and the model's context {context}: its first {num_ids - context + 10}"
    assert text.note is not None
    assert text.note.startswith(note)
    assert note in caplog.text
    kept = tokenizer.encode(prompt)[-(context - 10) :]
    with torch.no_grad():
        first = int(model.logits(model(torch.tensor([kept]))[0, -1]).argmax())
    assert text.ids[0] == first
    assert len(text.ids) == 10


def test_a_text_ends_at_the_context(tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    gpt = tiny_gpt(vocab_size=tokenizer.vocab_size, max_seq_len=12)
    room = 12 - len(tokenizer.encode("Жыў")) + 1
    for cache in (True, False):
        text = generate_text(gpt, tokenizer, "Жыў", SamplingOptions(max_new_tokens=100, cache=cache, **GREEDY))
        assert (len(text.ids), text.finish_reason) == (room, "length")
        assert f"context of 12 tokens has room for {room} new ones" in str(text.note)
    assert "has room for" in caplog.text


def test_a_model_in_training_stays_in_training(tokenizer: Tokenizer) -> None:
    gpt = tiny_gpt(vocab_size=tokenizer.vocab_size).train()
    stream = generate(gpt, tokenizer, "Жыў", SamplingOptions(max_new_tokens=5))
    next(stream)
    assert gpt.training
    del stream
    assert gpt.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in gpt.parameters())


def test_a_bf16_model_writes_too(tokenizer: Tokenizer) -> None:
    gpt = tiny_gpt(vocab_size=tokenizer.vocab_size).bfloat16()
    texts = [
        generate_text(gpt, tokenizer, "Жыў", SamplingOptions(max_new_tokens=8, cache=cache, **GREEDY))
        for cache in (True, False)
    ]
    assert len(texts[0].ids) == len(texts[1].ids) == 8


def test_a_repetition_penalty_breaks_a_loop(tokenizer: Tokenizer) -> None:
    loop = distinct_ids(tokenizer, "баба мыла")
    gpt = chain_model(tokenizer, [tokenizer.bos_id, *loop])
    with torch.no_grad():
        assert gpt.lm_head is not None
        gpt.lm_head.weight[loop[0], loop[-1]] = 1.0
        # The second best successor of every token, a little less likely.
        gpt.lm_head.weight[tokenizer.eos_id] = 0.9
    repeated = generate_text(gpt, tokenizer, "", SamplingOptions(max_new_tokens=40, **GREEDY))
    broken = generate_text(gpt, tokenizer, "", SamplingOptions(max_new_tokens=40, repetition_penalty=1.3, **GREEDY))
    windowed = generate_text(
        gpt,
        tokenizer,
        "",
        SamplingOptions(max_new_tokens=40, repetition_penalty=1.3, repetition_window=1, **GREEDY),
    )
    assert (len(repeated.ids), repeated.finish_reason) == (40, "length")
    assert (broken.ids, broken.finish_reason) == (loop, "eos")
    assert windowed.ids == repeated.ids, "a window of one token does not see the loop"


def test_an_attention_without_a_cache_writes_only_without_one(
    model: GPT, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixer = type(model.mixers()[0])
    monkeypatch.setattr(mixer, "capabilities", replace(mixer.capabilities, cache=False))
    with pytest.raises(UnsupportedError, match="generate with cache=false"):
        generate_text(model, tokenizer, "Жыў", SamplingOptions(max_new_tokens=5))
    text = generate_text(model, tokenizer, "Жыў", SamplingOptions(max_new_tokens=5, cache=False, **GREEDY))
    assert len(text.ids) == 5


def test_a_foreign_tokenizer_is_refused(tokenizer: Tokenizer) -> None:
    gpt = tiny_gpt(vocab_size=tokenizer.vocab_size + 1)
    with pytest.raises(ConfigError, match="use the tokenizer that the model was trained with"):
        generate_text(gpt, tokenizer, "", SamplingOptions(max_new_tokens=1))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", 0),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", float("inf")),
        ("repetition_window", 0),
        ("stop", ("добра", "")),
        ("seed", -1),
    ],
)
def test_impossible_options_are_refused_in_one_sentence(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^generation\.{option}=.* must be .*\.$"):
        SamplingOptions(**{"max_new_tokens": 5, option: value})


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0, "top_k": 5},
        {"temperature": 0.0, "top_p": 0.9},
        {"repetition_window": 10},
    ],
)
def test_options_without_effect_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="does nothing at"):
        SamplingOptions(max_new_tokens=5, **options)


def test_stop_takes_a_list_and_a_single_text() -> None:
    assert SamplingOptions(max_new_tokens=1, stop=["а", "б"]).stop == ("а", "б")  # type: ignore[arg-type]
    assert SamplingOptions(max_new_tokens=1, stop="а").stop == ("а",)  # type: ignore[arg-type]
