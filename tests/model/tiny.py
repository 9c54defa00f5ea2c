"""A GPT small enough for exact checks; tests change what they are about."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bulba.model.gpt import GPT

# init_std is large, so that an error anywhere shows in the output.
TINY: dict[str, Any] = {
    "vocab_size": 103,
    "num_layers": 2,
    "hidden_size": 48,
    "num_heads": 6,
    "num_kv_heads": 2,
    "intermediate_size": 80,
    "max_seq_len": 64,
    "rope_base": 1e4,
    "tie_embeddings": True,
    "init_std": 0.2,
    "attention": {"_target_": "bulba.attention.standard.StandardAttention"},
    "mlp": {"_target_": "bulba.model.mlp.SwiGLU"},
    "norm": {"_target_": "bulba.model.norm.RMSNorm", "eps": 1e-5},
}


def tiny_gpt(*, kernel: Any = "reference", seed: Any = 0, **changes: Any) -> Any:
    """A GPT of `TINY` with `changes`, the same weights for the same seed, norm gains and biases not at their start."""
    torch.manual_seed(seed)
    model = GPT(**{**TINY, **changes}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.set_kernel(kernel)
    return model


def tokens(batch_size: int, num_tokens: int, vocab_size: int = TINY["vocab_size"], seed: int = 0) -> Tensor:
    """Random token ids, [B, T]."""
    return torch.randint(vocab_size, (batch_size, num_tokens), generator=torch.Generator().manual_seed(seed))


def packed(*lengths: int) -> tuple[Tensor, Tensor]:
    """positions_BT and documents_BT of one row that holds documents of these lengths."""
    positions = torch.cat([torch.arange(length) for length in lengths])
    documents = torch.cat([torch.full((length,), number) for number, length in enumerate(lengths)])
    return positions[None], documents[None]
