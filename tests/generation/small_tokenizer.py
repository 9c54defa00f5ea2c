"""A real tokenizer of a few hundred tokens, and models that write exactly what a test wants."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from bulba.data.prepare import Source, TokenizerSpec, prepare
from bulba.data.tokenizer import Tokenizer
from bulba.model.gpt import GPT
from tests.data.conftest import UNTOUCHED
from tests.hard_strings import HARD_STRINGS
from tests.model.tiny import TINY

SENTENCES = (
    "Жыў-быў дзед, жыла-была баба, і была ў іх курка рабая.",
    "Жили-были старик со старухою у самого синего моря.",
    "Жив собі дід та баба, і була в них курочка ряба.",
    "Once upon a time there lived an old man and his wife.",
    "def f(x):\n    return x + 1\n",
)


def train_tokenizer(folder: Path) -> Path:
    """The folder of a tokenizer trained on a few sentences and the hard strings."""
    texts = folder / "texts"
    texts.mkdir(parents=True)
    for number, sentence in enumerate(SENTENCES):
        text = " ".join([sentence] * 5 + HARD_STRINGS[number :: len(SENTENCES)])
        (texts / f"{number}.txt").write_text(text, encoding="utf-8")
    spec = TokenizerSpec(vocab_size=600)
    return prepare([Source(texts)], spec, folder / "cache", val_frac=0.2, seed=1, **UNTOUCHED).folder


def chain_model(tokenizer: Tokenizer, chain: list[int], max_seq_len: int = 256) -> GPT:
    """A GPT that writes chain[i + 1] after chain[i], whatever came before; the ids must be distinct.

    The embedding is one-hot, the layer adds nothing, and the head maps each token to its successor.
    """
    assert len(set(chain)) == len(chain)
    vocab_size = tokenizer.vocab_size
    width = vocab_size + vocab_size % 2
    sizes: dict[str, Any] = TINY | {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_heads": 1,
        "num_kv_heads": 1,
        "num_layers": 1,
        "max_seq_len": max_seq_len,
        "tie_embeddings": False,
    }
    model = GPT(**sizes).eval()
    with torch.no_grad():
        model.embed_tokens.weight.copy_(torch.eye(vocab_size, width))
        layer: Any = model.layers[0]
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        assert model.lm_head is not None
        model.lm_head.weight.zero_()
        for token, successor in pairwise(chain):
            model.lm_head.weight[successor, token] = 1.0
    return model
