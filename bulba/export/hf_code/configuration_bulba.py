"""The config of a Bulba model in transformers."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig


class BulbaConfig(PreTrainedConfig):
    """bulba: everything that rebuilds the model, as in model.json of the checkpoint; other sizes follow from it."""

    model_type = "bulba"

    def __init__(self, bulba: dict[str, Any] | None = None, **options: Any) -> None:
        self.bulba = bulba or {}
        for name, source in (
            ("vocab_size", "vocab_size"),
            ("hidden_size", "hidden_size"),
            ("intermediate_size", "intermediate_size"),
            ("num_hidden_layers", "num_layers"),
            ("num_attention_heads", "num_heads"),
            ("num_key_value_heads", "num_kv_heads"),
            ("max_position_embeddings", "max_seq_len"),
            ("tie_word_embeddings", "tie_embeddings"),
        ):
            if source in self.bulba:
                options[name] = self.bulba[source]
        self.use_cache = options.pop("use_cache", True)
        super().__init__(**options)
