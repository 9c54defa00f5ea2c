"""A Bulba model in transformers: AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True).

The model itself is Bulba's own source in the files beside this one; here is what transformers asks for. Rows may be
padded on one side each, with an attention mask of zeros there: every row then computes what it would alone. Decoding
with a cache wants rows without padding; use_cache=False takes them. A text ends with the model's context. Needs torch
2.11 or newer.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from bulba.export.hf_code.configuration_bulba import BulbaConfig
from bulba.model.gpt import GPT, ModelCache


class BulbaForCausalLM(PreTrainedModel, GenerationMixin):
    """`GPT` of Bulba with logits, loss and generate()."""

    config_class = BulbaConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _no_split_modules = ["Block"]  # noqa: RUF012
    _is_stateful = True  # the cache cannot go back, as assisted generation wants it

    def __init__(self, config: BulbaConfig) -> None:
        super().__init__(config)
        self.is_built = False
        self.model = GPT(**config.bulba)
        self.post_init()
        self.is_built = True

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        past_key_values: ModelCache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        return_dict: bool | None = None,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Logits of the next token at every place, [B, T, V].

        attention_mask: 0 for padding, [B, T]. labels: the same tokens as input_ids, with -100 where none is to be
        predicted; the loss is the mean over the others. past_key_values: from an earlier pass with use_cache=True.
        logits_to_keep: of so many last places; 0 for all.
        """
        start = 0 if past_key_values is None else past_key_values.length
        self._check_length(start + input_ids.shape[1])
        positions_BT, documents_BT = None, None
        if attention_mask is not None and not bool(attention_mask.all()):
            if use_cache or past_key_values is not None:
                raise ValueError("padded rows cannot be decoded with a cache: set use_cache=False.")
            positions_BT, documents_BT = split_padding(attention_mask)
        if use_cache and past_key_values is None:
            past_key_values = self.model.new_cache(len(input_ids), self.model.max_seq_len)
        hidden_BTH = self.model(input_ids, positions_BT, documents_BT, cache=past_key_values)
        logits_BTV = self.model.logits(hidden_BTH[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            if logits_to_keep:
                raise ValueError("labels need the logits of all places: leave logits_to_keep at 0.")
            loss = F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        cache: Any = past_key_values
        output = CausalLMOutputWithPast(loss=loss, logits=logits_BTV, past_key_values=cache)
        return output.to_tuple() if return_dict is False else output

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: Tensor,
        past_key_values: ModelCache | None = None,
        attention_mask: Tensor | None = None,
        use_cache: bool | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """The arguments of `forward` for the next token: with a cache only the tokens that it does not hold."""
        start = 0 if past_key_values is None else past_key_values.length
        return {
            "input_ids": input_ids[:, start:],
            "attention_mask": attention_mask,
            "past_key_values": past_key_values,
            "use_cache": use_cache,
            "logits_to_keep": 1,
        }

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Module | None:
        """None where the model uses the embedding itself."""
        return self.model.lm_head

    def resize_token_embeddings(self, *sizes: Any, **options: Any) -> nn.Embedding:
        raise ValueError("a Bulba model has one row for each token of its own tokenizer and takes no others.")

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def _reorder_cache(self, *given: Any) -> None:
        raise ValueError("beam search cannot share a cache between beams: set use_cache=False.")

    def _init_weights(self, module: nn.Module) -> None:
        """`GPT` has filled its weights already; transformers asks a second time for those that a file lacks."""
        weights = list(module.named_parameters(recurse=False))
        lacking = [name for name, weight in weights if not getattr(weight, "_is_hf_initialized", False)]
        if self.is_built and lacking:
            raise ValueError(f"model.safetensors lacks the {lacking[0]} of a {type(module).__name__}: get it again.")

    def _check_length(self, num_tokens: int) -> None:
        if num_tokens > self.model.max_seq_len:
            raise ValueError(
                f"the context of this model is {self.model.max_seq_len} tokens, and the text would have {num_tokens}: "
                "shorten the prompt or max_new_tokens."
            )


def split_padding(mask_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Positions and documents of rows that are padded on one side: the padding is a document of its own, number 0."""
    kept_BT = mask_BT.bool()
    changes_B = (kept_BT[:, 1:] != kept_BT[:, :-1]).sum(-1)
    if bool((changes_B > 1).any()):
        raise ValueError("attention_mask has zeros between ones: pad each row on one side only.")
    positions_BT = torch.where(kept_BT, kept_BT.cumsum(-1), (~kept_BT).cumsum(-1)) - 1
    return positions_BT, kept_BT.long()


__all__ = ["BulbaForCausalLM"]
