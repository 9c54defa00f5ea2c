"""The decoder-only language model: embedding, N blocks, norm, head (Llama 3 shape, arXiv 2407.21783).

`forward` gives hidden states, not logits, so that the loss can fuse the head with the cross-entropy and never hold
B x T x V. Parameters are named as in Hugging Face's LlamaForCausalLM. The model does not know the stage, the
optimizer or the tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from bulba.attention.base import AttentionContext, Kernel, Mixer, MixerShape
from bulba.config.build import build
from bulba.errors import ConfigError, UnsupportedError
from bulba.model.activations import ActivationCheckpointing, call_block
from bulba.model.block import Block, NormPlacement
from bulba.model.head import Head
from bulba.model.init import init_weights
from bulba.model.pattern import mixer_nodes, used_mixers
from bulba.model.position import (
    PositionScheme,
    Rotation,
    alibi_slopes,
    check_positions,
    keep_as_it_is,
    rotary_tables,
    sinusoidal,
)
from bulba.model.reversible import Segment, parts
from bulba.packing import document_mask, document_offsets

MODEL_TARGETS = ("bulba.model.", "bulba.attention.")
Capability = Literal["alibi", "cache", "dropout", "gqa", "packing", "qk_norm", "recompute"]


@dataclass
class ModelCache:
    """Decode state: one cache per layer, and how many tokens they all hold."""

    layers: list[Any]
    max_tokens: int
    length: int = 0


class GPT(nn.Module):
    """A causal language model over `vocab_size` exact rows.

    attention, mlp, norm: the parts as `_target_` plus options, instantiated per layer; attention may also be a pattern
    of several (bulba/model/pattern.py). position, rope_base, rope_scaling: as in bulba/model/position.py.
    attention_bias: of the projections of attention. qk_norm: norms q and k of every head, with the kind of `norm`.
    logit_cap: bounds the logits (bulba/model/head.py). dropout: of
    embeddings and of what attention and feed-forward add; attention_dropout: of attention weights.
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
        rope_base: float | None,
        tie_embeddings: bool,
        init_std: float,
        attention: Mapping[str, Any],
        mlp: Mapping[str, Any],
        norm: Mapping[str, Any],
        norm_placement: NormPlacement = "pre",
        position: PositionScheme = "rope",
        rope_scaling: Mapping[str, Any] | None = None,
        attention_bias: bool = False,
        qk_norm: bool = False,
        logit_cap: float | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
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
            init_std=init_std,
        )
        if logit_cap is not None:
            check_positive(logit_cap=logit_cap)
        for name, share in (("dropout", dropout), ("attention_dropout", attention_dropout)):
            if not 0 <= share < 1:
                raise ConfigError(f"model.{name}={share} must be at least 0 and below 1.")
        check_sizes(hidden_size, num_heads, num_kv_heads, max_seq_len)
        if norm_placement not in get_args(NormPlacement):
            raise ConfigError(f"model.norm_placement={norm_placement} must be pre or post.")
        self.rope_scaling = check_positions(position, rope_base, rope_scaling)
        nodes = mixer_nodes(attention, num_layers)
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
            "attention": used_mixers(attention),
            "mlp": dict(mlp),
            "norm": dict(norm),
            "norm_placement": norm_placement,
            "position": position,
            "rope_scaling": None if rope_scaling is None else dict(rope_scaling),
            "attention_bias": attention_bias,
            "qk_norm": qk_norm,
            "logit_cap": logit_cap,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
        }
        self.kernel: Kernel = "reference"
        self.backend = "unknown"  # until choose_backend
        self.activation_checkpointing: ActivationCheckpointing = "none"
        self.max_seq_len, self.rope_base, self.position = max_seq_len, rope_base, position
        self.logit_cap = logit_cap
        self.head_dim = hidden_size // num_heads
        self.draws_random_numbers = dropout > 0 or attention_dropout > 0
        make = partial(build, allowed=MODEL_TARGETS)
        shape = MixerShape(
            hidden_size,
            num_heads,
            num_kv_heads,
            self.head_dim,
            make_qk_norm=(lambda size: make(norm, size=size)) if qk_norm else None,
            bias=attention_bias,
            dropout=attention_dropout,
        )
        self.embed_tokens = nn.Embedding(vocab_size, hidden_size)
        self.embed_positions = nn.Embedding(max_seq_len, hidden_size) if position == "learned" else None
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            Block(
                attention=make(node, shape=shape),
                mlp=make(mlp, hidden_size=hidden_size, intermediate_size=intermediate_size),
                attention_norm=make(norm, size=hidden_size),
                mlp_norm=make(norm, size=hidden_size),
                norm_placement=norm_placement,
                dropout=dropout,
            )
            for node in nodes
        )
        self.parts = parts(self.layers)  # a plain list: the blocks have one place among the modules
        # Post-norm blocks already end with a norm.
        self.norm = make(norm, size=hidden_size) if norm_placement == "pre" else nn.Identity()
        self.lm_head = None if tie_embeddings else nn.Linear(hidden_size, vocab_size, bias=False)
        if num_kv_heads < num_heads:
            self._require("gqa", f"share key/value heads: set model.num_kv_heads={num_heads}")
        if position == "alibi":
            self._require("alibi", "take the slopes of ALiBi: choose another model.position")
        if qk_norm:
            self._require("qk_norm", "norm its q and k: set model.qk_norm=false")
        if norm_placement == "post" and self.has_reversible:
            raise ConfigError("reversible layers need the norm before them: set model.norm_placement=pre.")
        if attention_dropout:
            self._require("dropout", "drop attention weights: set model.attention_dropout=0")
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
        mask_BTS = None
        if documents_BT is not None:
            forms = {mixer.reads(self.kernel) for mixer in self.mixers()}
            # Compiled code leaves it out where no layer reads it after all.
            mask_BTS = document_mask(documents_BT) if "mask_BTS" in forms else None
            if "offsets" in forms and offsets is None:
                offsets = document_offsets(documents_BT)
        context = AttentionContext(
            rotate=self._rotation(positions_BT),
            documents_BT=documents_BT,
            mask_BTS=mask_BTS,
            offsets=offsets,
            kernel=self.kernel,
            start=start,
            slopes_N=self._slopes(tokens_BT.device),
        )
        keeping = self.activation_checkpointing if cache is None and torch.is_grad_enabled() else "none"
        x_BTH = self._embed(tokens_BT, positions_BT)
        for index, part in self.parts:
            if isinstance(part, Segment):
                caches = None if cache is None else cache.layers[index : index + len(part.layers)]
                x_BTH = part(x_BTH, context, caches)
            else:
                x_BTH = call_block(keeping, part, x_BTH, context, None if cache is None else cache.layers[index])
        if cache is not None:
            cache.length += num_tokens
        return self.norm(x_BTH)

    @property
    def head(self) -> Head:
        """The output layer; its matrix is the embedding itself when tied."""
        return Head(self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight, self.logit_cap)

    def logits(self, hidden_BTH: Tensor) -> Tensor:
        """[..., H] -> [..., V]."""
        return self.head.logits(hidden_BTH)

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
        if kernel == "flash" and self.config["attention_dropout"]:
            raise UnsupportedError(
                "fused attention drops no attention weights: set model.attention_dropout=0, or choose mode=eager or "
                "mode=compile."
            )
        self.kernel = kernel

    def choose_backend(
        self, compiled: bool, num_rows: int, num_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> str:
        """Settle which implementations of the kernel train on rows of this shape; their names.

        Raises UnsupportedError where the device has none.
        """
        if compiled and self.draws_random_numbers and self.has_reversible:
            raise UnsupportedError(
                "reversible layers cannot draw their dropout a second time in compiled code: set model.dropout=0 and "
                "model.attention_dropout=0, or choose mode=eager or mode=flash."
            )
        shape = (self.kernel, compiled, num_rows, num_tokens, dtype, device)
        self.backend = "; ".join(dict.fromkeys(mixer.choose_backend(*shape) for mixer in self.mixers()))
        return self.backend

    def set_activation_checkpointing(self, kind: ActivationCheckpointing) -> None:
        """Choose what the backward pass finds stored (bulba/model/activations.py); UnsupportedError names the layer."""
        if kind != "none":
            for index, mixer in enumerate(self.mixers()):
                if mixer.reversible:
                    raise UnsupportedError(
                        f"layer {index} ({type(mixer).__name__}) rebuilds its activations anyway, so checkpointing "
                        "would do nothing for it: set trainer.activation_checkpointing=none."
                    )
            self._require(
                "recompute", "be computed again in the backward pass: set trainer.activation_checkpointing=none"
            )
        self.activation_checkpointing = kind

    @property
    def has_reversible(self) -> bool:
        """Whether any layer rebuilds its activations in the backward pass (bulba/model/reversible.py)."""
        return any(isinstance(part, Segment) for _, part in self.parts)

    def set_rebuild(self, rebuild: bool) -> None:
        """Choose whether reversible layers rebuild their activations, or store them as others do."""
        for _, part in self.parts:
            if isinstance(part, Segment):
                part.rebuild = rebuild

    def mixers(self) -> list[Mixer]:
        """The attention of every layer, first to last."""
        return [cast("Block", layer).self_attn for layer in self.layers]

    def get_num_params(self, non_embedding: bool = False) -> int:
        """Number of weights, tied ones counted once; `non_embedding` leaves out the embedding of the tokens."""
        total = sum(parameter.numel() for parameter in self.parameters())
        return total - self.embed_tokens.weight.numel() if non_embedding else total

    def get_model_config(self) -> dict[str, Any]:
        """Everything that rebuilds the model, with its totals; plain JSON values. `GPT(**config)` rebuilds it."""
        totals = {
            "num_params": self.get_num_params(),
            "num_params_non_embedding": self.get_num_params(non_embedding=True),
        }
        return self.config | totals

    def _embed(self, tokens_BT: Tensor, positions_BT: Tensor) -> Tensor:
        x_BTH = self.embed_tokens(tokens_BT)
        if self.embed_positions is not None:
            x_BTH = x_BTH + self.embed_positions(positions_BT)
        elif self.position == "sinusoidal":
            assert self.rope_base is not None
            x_BTH = x_BTH + sinusoidal(positions_BT, x_BTH.shape[-1], self.rope_base).to(x_BTH.dtype)
        return self.dropout(x_BTH)

    def _rotation(self, positions_BT: Tensor) -> Callable[[Tensor], Tensor]:
        if self.position != "rope":
            return keep_as_it_is
        assert self.rope_base is not None
        return Rotation(*rotary_tables(positions_BT, self.head_dim, self.rope_base, self.rope_scaling))

    def _slopes(self, device: torch.device) -> Tensor | None:
        if self.position != "alibi":
            return None
        return alibi_slopes(self.config["num_heads"], device)

    def _require(self, capability: Capability, what: str) -> None:
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
