"""Language identification as Python sees it. Sentences, documents and code of every kind are tested in Rust."""

import random
import sysconfig
from pathlib import Path

import pytest

from bulba import _rust
from bulba.data.tales import LANGUAGES, tale

STDLIB = Path(sysconfig.get_paths()["stdlib"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_tales_are_in_their_language(language: str) -> None:
    rng = random.Random(0)
    assert {_rust.detect_language(tale(language, rng)) for _ in range(50)} == {language}


@pytest.mark.parametrize("module", ["argparse", "ast", "dataclasses", "heapq", "textwrap", "typing", "json/decoder"])
def test_modules_of_python_are_code(module: str) -> None:
    assert _rust.detect_language((STDLIB / f"{module}.py").read_text(encoding="utf-8")) == "code"


@pytest.mark.parametrize("text", ["", " \n", "1 + 1 = 2", "漢字かな交じり文"])
def test_text_in_none_of_the_languages_is_other(text: str) -> None:
    assert _rust.detect_language(text) == "other"
