"""One Transformer block: attention and feed-forward, each with a norm, a residual and perhaps dropout.

`pre` norm: x + f(norm(x)) (Llama; Xiong et al. 2020). `post` norm: norm(x + f(x)) (Vaswani et al. 2017).
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from bulba.attention.base import AttentionContext, Mixer

NormPlacement = Literal["pre", "post"]


class Block(nn.Module):
    """[B, T, H] -> [B, T, H]. The parts carry the names of Hugging Face Llama, so that weights need no renaming."""

    def __init__(
        self,
        attention: Mixer,
        mlp: nn.Module,
        attention_norm: nn.Module,
        mlp_norm: nn.Module,
        norm_placement: NormPlacement,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm_placement = norm_placement
        self.input_layernorm = attention_norm
        self.self_attn = attention
        self.post_attention_layernorm = mlp_norm
        self.mlp = mlp
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTH: Tensor, context: AttentionContext, cache: Any | None) -> Tensor:
        if self.norm_placement == "pre":
            x_BTH = x_BTH + self.attend(x_BTH, context, cache)
            return x_BTH + self.feed(x_BTH)
        x_BTH = self.input_layernorm(x_BTH + self.dropout(self.self_attn(x_BTH, context, cache)))
        return self.post_attention_layernorm(x_BTH + self.dropout(self.mlp(x_BTH)))

    def attend(self, x_BTH: Tensor, context: AttentionContext, cache: Any | None) -> Tensor:
        """What attention adds to the stream with `pre` norm."""
        return self.dropout(self.self_attn(self.input_layernorm(x_BTH), context, cache))

    def feed(self, x_BTH: Tensor) -> Tensor:
        """What the feed-forward adds to the stream with `pre` norm."""
        return self.dropout(self.mlp(self.post_attention_layernorm(x_BTH)))
