"""The tokenizer that the tests of this folder share."""

from __future__ import annotations

import pytest

from bulba.data.tokenizer import Tokenizer
from tests.generation.small_tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(train_tokenizer(tmp_path_factory.mktemp("tokenizer")))
