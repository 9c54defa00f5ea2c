"""Cleaning as Python sees it: settings, the call into Rust, and the report. Each rule's traps are tested in Rust."""

import dataclasses
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from bulba import _rust
from bulba.data.cleaning import APOSTROPHES, Cleaning, report_table, report_text
from bulba.errors import ConfigError, DataError
from tests.hard_strings import HARD_STRINGS

NOTHING = Cleaning(
    control=False, zero_width=False, soft_hyphen=False, html=False, homoglyphs=False, repeated_lines=False
)
SWITCHES = [field.name for field in dataclasses.fields(Cleaning) if field.type is bool]
LANGUAGES = ["other", "be", "ru", "uk", "en", "code"]

DIRTY = {
    # rule: (language, before, after)
    "control": ("be", "адзін\r\nдва\u0000\u2028тры", "адзін\nдва\nтры"),
    "zero_width": ("ru", "сло\u200bво\ufeff", "слово"),
    "soft_hyphen": ("uk", "пере\u00ad\nнос і пе\u00adре\u00adнос", "перенос і перенос"),
    "html": ("be", "Жыў&nbsp;<b>быў</b> дзед &mdash; і баба", "Жыў\u00a0быў дзед — і баба"),
    "homoglyphs": ("uk", "Рідна мoва i пiсня", "Рідна мова і пісня"),
    "repeated_lines": ("en", "Read the whole story\n" * 5 + "\n\n\n\nEnd", "Read the whole story\n\n\nEnd"),
}


def clean(text: str, cleaning: Cleaning, language: Any = None) -> str | None:
    return _rust.clean_text(text, cleaning.as_dict(), language)[0]


@pytest.mark.parametrize("rule", SWITCHES)
def test_each_switch_turns_its_own_rule_on(rule: str) -> None:
    language, before, after = DIRTY[rule]
    cleaned, report = _rust.clean_text(before, dataclasses.replace(NOTHING, **{rule: True}).as_dict(), language)
    assert cleaned == after
    assert [name for name, counts in report["rules"].items() if counts["documents"]] == [rule]
    counts = report["rules"][rule]
    assert counts["bytes_before"] == len(before.encode())
    assert counts["bytes_after"] == len(after.encode())
    assert counts["chars_before"] == len(before)
    assert counts["chars_after"] == len(after)
    assert counts["samples"]
    rest = dataclasses.replace(Cleaning(), **{rule: False})
    assert clean(before, rest, language) == before


def test_nfc_has_no_switch() -> None:
    assert clean("мои\u0306", NOTHING) == "мой"


def test_the_apostrophe_is_chosen() -> None:
    text = "п'ять м’яч сімʼя"
    assert clean(text, Cleaning(), "uk") == text
    for name in APOSTROPHES[1:]:
        character = chr(int(name.removeprefix("U+"), 16))
        expected = f"п{character}ять м{character}яч сім{character}я"
        assert clean(text, Cleaning(apostrophes=name), "uk") == expected


def test_short_documents_are_dropped() -> None:
    cleaned, report = _rust.clean_text(" а б\n", Cleaning(min_chars=3).as_dict())
    assert cleaned is None
    assert report["rules"]["short"]["documents"] == 1
    assert report["bytes_after"] == 0
    assert clean(" а б в\n", Cleaning(min_chars=3)) == " а б в\n"


def test_the_language_is_detected_unless_given() -> None:
    text = "мoва = 'cлово'\nif мoва == 'х':\n    print(мoва)\n"
    assert clean(text, Cleaning()) == text
    assert clean("Рідна мoва — це наша спільна пісня.", Cleaning()) == "Рідна мова — це наша спільна пісня."
    assert clean(text, Cleaning(), "uk") != text


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([*HARD_STRINGS, *(before for _, before, _ in DIRTY.values())]), max_size=6),
    st.sampled_from(APOSTROPHES),
    st.sampled_from(LANGUAGES),
    st.sampled_from(["", " ", "\n"]),
)
def test_cleaning_twice_is_cleaning_once(texts: list[str], apostrophes: str, language: Any, between: str) -> None:
    rules = Cleaning(apostrophes=apostrophes).as_dict()
    once, _ = _rust.clean_text(between.join(texts), rules, language)
    assert once is not None
    twice, report = _rust.clean_text(once, rules, language)
    assert twice == once
    assert report["documents_changed"] == 0
    assert not any(counts["occurrences"] for counts in report["rules"].values())


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"html": "yes"}, "data.cleaning.html='yes' must be true or false."),
        (
            {"apostrophes": "'"},
            'data.cleaning.apostrophes="\'" must be keep, U+0027, U+2019 or U+02BC.',
        ),
        ({"min_chars": -1}, "data.cleaning.min_chars=-1 must be a whole number, 0 or more."),
        ({"min_chars": 1.5}, "data.cleaning.min_chars=1.5 must be a whole number, 0 or more."),
        ({"min_chars": True}, "data.cleaning.min_chars=True must be a whole number, 0 or more."),
    ],
)
def test_an_impossible_setting_is_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        Cleaning(**wrong)
    assert str(error.value) == sentence


def test_rust_refuses_unknown_names() -> None:
    with pytest.raises(DataError) as error:
        clean("а", Cleaning(), "by")
    assert str(error.value) == "argument language: expected one of other, be, ru, uk, en, code, got by"
    rules: Any = {**Cleaning().as_dict(), "apostrophes": "x"}
    with pytest.raises(DataError) as error:
        _rust.clean_text("а", rules)
    assert str(error.value) == "argument apostrophes: expected one of keep, U+0027, U+2019, U+02BC, got x"


def test_both_reports_show_what_was_done() -> None:
    _, report = _rust.clean_text("Рідна\r\nмoва &nbsp;[x]\ufffd", Cleaning().as_dict(), "uk")
    text = report_text(report)
    screen = io.StringIO()
    Console(width=200, file=screen).print(report_table(report))
    for shown in (text, screen.getvalue()):
        assert "1 of 1 documents changed" in shown
        assert "1 U+FFFD left in place" in " ".join(shown.split())
        for rule in ("control", "html", "homoglyphs"):
            assert rule in shown
        assert "zero_width" not in shown
        assert "мoва" in shown
        assert r"Рідна\r\nмoва &nbsp;[x]" in shown
