"""Checkpoints of tiny models with random weights, and the tokenizer that belongs to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bulba.checkpoint import save_checkpoint
from bulba.data.tokenizer import Tokenizer
from tests.generation.small_tokenizer import train_tokenizer
from tests.model.tiny import tiny_gpt

MakeCheckpoint = Callable[..., Path]
# Rows that q8_0 can store, and grouped key/value heads.
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_heads": 4,
    "num_kv_heads": 2,
    "intermediate_size": 96,
    "max_seq_len": 128,
}
FEED = {"_target_": "bulba.model.mlp.FeedForward"}
SWIGLU = {"_target_": "bulba.model.mlp.SwiGLU"}
QUATERNION = {"_target_": "bulba.attention.quaternion.QuaternionAttention", "rotor_gate": False}
# What llama.cpp calls gpt2: the shape of the expert presets.
GPT2: dict[str, Any] = {
    "norm": {"_target_": "bulba.model.norm.LayerNorm", "eps": 1e-5},
    "mlp": FEED | {"activation": "gelu", "bias": True},
    "position": "sinusoidal",
    "attention_bias": True,
    "tie_embeddings": False,
    "num_kv_heads": 4,
}


@pytest.fixture(scope="session")
def tokenizer_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tokenizer(tmp_path_factory.mktemp("tokenizer")) / "tokenizer.json"


@pytest.fixture(scope="session")
def tokenizer(tokenizer_json: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_json)


@pytest.fixture
def make_checkpoint(tmp_path: Path, tokenizer: Tokenizer) -> MakeCheckpoint:
    """Save a tiny model and return its checkpoint folder; `edit` changes the weights first."""

    def make(edit: Callable[[dict[str, torch.Tensor]], None] | None = None, **changes: Any) -> Path:
        model = tiny_gpt(**{"vocab_size": tokenizer.vocab_size, **SIZES, **changes})
        weights = model.state_dict()
        if edit:
            edit(weights)
        folder = tmp_path / "checkpoint"
        save_checkpoint(folder, model.get_model_config(), weights, {})
        return folder

    return make


@pytest.fixture
def checkpoint(make_checkpoint: MakeCheckpoint) -> Path:
    return make_checkpoint()
