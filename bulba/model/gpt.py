"""The decoder-only language model: embedding, N blocks, norm, head (Llama 3 shape, arXiv 2407.21783).

`forward` gives hidden states, not logits, so that the loss can fuse the head with the cross-entropy and never hold
B x T x V. Parameters are named as in Hugging Face's LlamaForCausalLM. The model does not know the stage, the
optimizer or the tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bulba.attention.base import AttentionContext, Kernel, Mixer, MixerShape
from bulba.config.build import build
from bulba.errors import ConfigError, UnsupportedError
from bulba.model.activations import ActivationCheckpointing, call_block
from bulba.model.block import Block, NormPlacement
from bulba.model.init import init_weights
from bulba.model.position import rotary_tables, rotate
from bulba.packing import document_mask, document_offsets

MODEL_TARGETS = ("bulba.model.", "bulba.attention.")


@dataclass
class ModelCache:
    """Decode state: one cache per layer, and how many tokens they all hold."""

    layers: list[Any]
    max_tokens: int
    length: int = 0


class GPT(nn.Module):
    """A causal language model over `vocab_size` exact rows.

    attention, mlp, norm: the parts as `_target_` plus options, instantiated per layer.
    num_params, num_params_non_embedding: checked against the built model when given, so that
    `GPT(**model.get_model_config())` proves that it rebuilt the same model.
    Raises ConfigError for sizes that do not fit each other.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        num_layers: int,
        hidden_size: int,
        num_heads: int,
        num_kv_heads: int,
        intermediate_size: int,
        max_seq_len: int,
        rope_base: float,
        tie_embeddings: bool,
        init_std: float,
        attention: Mapping[str, Any],
        mlp: Mapping[str, Any],
        norm: Mapping[str, Any],
        norm_placement: NormPlacement = "pre",
        num_params: int | None = None,
        num_params_non_embedding: int | None = None,
    ) -> None:
        super().__init__()
        check_positive(
            vocab_size=vocab_size,
            num_layers=num_layers,
            hidden_size=hidden_size,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            intermediate_size=intermediate_size,
            rope_base=rope_base,
            init_std=init_std,
        )
        check_sizes(hidden_size, num_heads, num_kv_heads, max_seq_len)
        if norm_placement not in get_args(NormPlacement):
            raise ConfigError(f"model.norm_placement={norm_placement} must be pre or post.")
        self.config: dict[str, Any] = {
            "vocab_size": vocab_size,
            "num_layers": num_layers,
            "hidden_size": hidden_size,
            "num_heads": num_heads,
            "num_kv_heads": num_kv_heads,
            "intermediate_size": intermediate_size,
            "max_seq_len": max_seq_len,
            "rope_base": rope_base,
            "tie_embeddings": tie_embeddings,
            "init_std": init_std,
            "attention": dict(attention),
            "mlp": dict(mlp),
            "norm": dict(norm),
            "norm_placement": norm_placement,
        }
        self.kernel: Kernel = "reference"
        self.backend = "unknown"  # until choose_backend
        self.activation_checkpointing: ActivationCheckpointing = "none"
        self.max_seq_len, self.rope_base = max_seq_len, rope_base
        self.head_dim = hidden_size // num_heads
        shape = MixerShape(hidden_size, num_heads, num_kv_heads, self.head_dim)
        make = partial(build, allowed=MODEL_TARGETS)
        self.embed_tokens = nn.Embedding(vocab_size, hidden_size)
        self.layers = nn.ModuleList(
            Block(
                attention=make(attention, shape=shape),
                mlp=make(mlp, hidden_size=hidden_size, intermediate_size=intermediate_size),
                attention_norm=make(norm, size=hidden_size),
                mlp_norm=make(norm, size=hidden_size),
                norm_placement=norm_placement,
            )
            for _ in range(num_layers)
        )
        # Post-norm blocks already end with a norm.
        self.norm = make(norm, size=hidden_size) if norm_placement == "pre" else nn.Identity()
        self.lm_head = None if tie_embeddings else nn.Linear(hidden_size, vocab_size, bias=False)
        if num_kv_heads < num_heads:
            self._require("gqa", f"share key/value heads: set model.num_kv_heads={num_heads}")
        init_weights(self, init_std, num_layers)
        self._check_totals(num_params, num_params_non_embedding)

    def forward(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        offsets: Tensor | None = None,
        cache: ModelCache | None = None,
    ) -> Tensor:
        """Hidden states after the last norm, [B, T, H].

        tokens_BT: token ids. positions_BT: position of each token in its document; counted from the cache length
        when absent. documents_BT: document number of each token of a packed row; one document when absent.
        offsets: `document_offsets` of documents_BT, to be given in compiled code; found from it when absent.
        cache: from `new_cache`; the pass reads it, appends to it and moves its length on.
        """
        start = 0 if cache is None else cache.length
        num_tokens = tokens_BT.shape[1]
        # Beyond its end a cache would silently drop the token.
        assert cache is None or start + num_tokens <= cache.max_tokens, "the cache is full"
        if documents_BT is not None:
            assert cache is None, "a cache holds one document per row"
            self._require("packing", "keep the documents of a packed row apart: choose another attention")
        if positions_BT is None:
            positions_BT = torch.arange(start, start + num_tokens, device=tokens_BT.device)[None]
        cos, sin = rotary_tables(positions_BT, self.head_dim, self.rope_base)
        mask_BTS = None
        if documents_BT is not None:
            forms = {mixer.reads(self.kernel) for mixer in self.mixers()}
            # Compiled code leaves it out where no layer reads it after all.
            mask_BTS = document_mask(documents_BT) if "mask_BTS" in forms else None
            if "offsets" in forms and offsets is None:
                offsets = document_offsets(documents_BT)
        context = AttentionContext(
            rotate=partial(rotate, cos_B1TK=cos, sin_B1TK=sin),
            documents_BT=documents_BT,
            mask_BTS=mask_BTS,
            offsets=offsets,
            kernel=self.kernel,
            start=start,
        )
        keeping = self.activation_checkpointing if cache is None and torch.is_grad_enabled() else "none"
        x_BTH = self.embed_tokens(tokens_BT)
        for index, layer in enumerate(self.layers):
            x_BTH = call_block(keeping, layer, x_BTH, context, None if cache is None else cache.layers[index])
        if cache is not None:
            cache.length += num_tokens
        return self.norm(x_BTH)

    @property
    def head_weight(self) -> Tensor:
        """The output matrix, [vocab_size, hidden_size]; the embedding itself when tied."""
        return self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    def logits(self, hidden_BTH: Tensor) -> Tensor:
        """[..., H] -> [..., V]."""
        return F.linear(hidden_BTH, self.head_weight)

    def new_cache(self, batch_size: int, max_tokens: int) -> ModelCache:
        """An empty decode cache for `max_tokens` tokens of `batch_size` sequences."""
        weight = self.embed_tokens.weight
        self._require("cache", "decode with a cache: generate with cache=false")
        layers = [mixer.new_cache(batch_size, max_tokens, weight.dtype, weight.device) for mixer in self.mixers()]
        return ModelCache(layers, max_tokens)

    def set_kernel(self, kernel: Kernel) -> None:
        """Choose the attention kernel; UnsupportedError names the first layer that does not have it."""
        for index, mixer in enumerate(self.mixers()):
            if kernel not in mixer.capabilities.kernels:
                raise UnsupportedError(
                    f"layer {index} ({type(mixer).__name__}) has no {kernel!r} attention kernel, only "
                    f"{', '.join(sorted(mixer.capabilities.kernels))}: choose another mode."
                )
        self.kernel = kernel

    def choose_backend(
        self, compiled: bool, num_rows: int, num_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> str:
        """Settle which implementations of the kernel train on rows of this shape; their names.

        Raises UnsupportedError where the device has none.
        """
        shape = (self.kernel, compiled, num_rows, num_tokens, dtype, device)
        self.backend = "; ".join(dict.fromkeys(mixer.choose_backend(*shape) for mixer in self.mixers()))
        return self.backend

    def set_activation_checkpointing(self, kind: ActivationCheckpointing) -> None:
        """Choose what the backward pass finds stored (bulba/model/activations.py); UnsupportedError names the layer."""
        if kind != "none":
            self._require(
                "recompute", "be computed again in the backward pass: set trainer.activation_checkpointing=none"
            )
        self.activation_checkpointing = kind

    def mixers(self) -> list[Mixer]:
        """The attention of every layer, first to last."""
        return [cast("Block", layer).self_attn for layer in self.layers]

    def get_num_params(self, non_embedding: bool = False) -> int:
        """Number of weights, tied ones counted once; `non_embedding` leaves out embedding and head."""
        total = sum(parameter.numel() for parameter in self.parameters())
        if not non_embedding:
            return total
        head = 0 if self.lm_head is None else self.lm_head.weight.numel()
        return total - self.embed_tokens.weight.numel() - head

    def get_model_config(self) -> dict[str, Any]:
        """Everything that rebuilds the model, with its totals; plain JSON values. `GPT(**config)` rebuilds it."""
        totals = {
            "num_params": self.get_num_params(),
            "num_params_non_embedding": self.get_num_params(non_embedding=True),
        }
        return self.config | totals

    def _require(self, capability: Literal["cache", "gqa", "packing", "recompute"], what: str) -> None:
        for index, mixer in enumerate(self.mixers()):
            if not getattr(mixer.capabilities, capability):
                raise UnsupportedError(f"layer {index} ({type(mixer).__name__}) cannot {what}.")

    def _check_totals(self, num_params: int | None, num_params_non_embedding: int | None) -> None:
        for name, expected, got in (
            ("num_params", num_params, self.get_num_params()),
            ("num_params_non_embedding", num_params_non_embedding, self.get_num_params(non_embedding=True)),
        ):
            if expected is not None and expected != got:
                raise ConfigError(
                    f"model.{name} says {expected:,} but the model built from these sizes has {got:,}: "
                    f"the config was edited; restore it or remove model.{name}."
                )


def check_positive(**sizes: float) -> None:
    """Refuse sizes that are not above 0."""
    for name, size in sizes.items():
        if not size > 0:
            raise ConfigError(f"model.{name}={size} must be above 0.")


def check_sizes(hidden_size: int, num_heads: int, num_kv_heads: int, max_seq_len: int) -> None:
    """Refuse sizes that no attention can be built from."""
    if hidden_size % num_heads:
        raise ConfigError(
            f"model.hidden_size={hidden_size} is not divisible by model.num_heads={num_heads}: "
            f"set num_heads to a divisor of {hidden_size}."
        )
    if num_heads % num_kv_heads:
        raise ConfigError(
            f"model.num_heads={num_heads} is not divisible by model.num_kv_heads={num_kv_heads}: "
            f"set num_kv_heads to a divisor of {num_heads}."
        )
    if hidden_size // num_heads % 2:
        raise ConfigError(
            f"model.hidden_size={hidden_size} over model.num_heads={num_heads} gives an odd head width, which rotary "
            "positions cannot pair: choose sizes whose quotient is even."
        )
    if max_seq_len < 2:
        raise ConfigError(f"model.max_seq_len={max_seq_len} is too short to predict anything: set at least 2.")
