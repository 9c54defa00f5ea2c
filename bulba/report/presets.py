"""The exact number of weights of each preset, counted on the model itself, built without memory."""

from __future__ import annotations

from rich.table import Table

from bulba.config.build import build
from bulba.config.overrides import check, groups
from bulba.model.gpt import GPT
from bulba.shapes import shapes_only

SPECIAL_TOKENS = 3  # bos, eos, pad


def preset_model(words: list[str]) -> GPT:
    """The model that the settings describe, on torch's `meta` device."""
    config = check(words)
    with shapes_only():
        return build(config.model, path="model", vocab_size=config.tokenizer.vocab_size + SPECIAL_TOKENS)


def presets_table(words: list[str]) -> Table:
    """All presets at 32003 rows, or the one model of the given settings."""
    if any(word.startswith("model=") for word in words):
        cases = [words]
    else:
        cases = [[f"model={name}", "tokenizer=bpe_32k", *words] for name in groups()["model"]]
    table = Table("model", "vocabulary", "weights", "without embeddings", "fp32 MB", "KV cache bytes/token")
    for case in cases:
        model = preset_model(case)
        config = model.get_model_config()
        kv_bytes = 2 * config["num_layers"] * config["num_kv_heads"] * model.head_dim * 4
        name = next(word.removeprefix("model=") for word in case if word.startswith("model="))
        table.add_row(
            name,
            f"{config['vocab_size']:,}",
            f"{config['num_params']:,}",
            f"{config['num_params_non_embedding']:,}",
            f"{config['num_params'] * 4 / 1e6:,.1f}",
            f"{kv_bytes:,}",
        )
    return table
