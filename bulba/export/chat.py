"""The chat template of a model, in Llama 3's form, if its tokenizer has the tokens for it.

    <|begin_of_text|>{<|start_header_id|>ROLE<|end_header_id|>\\n\\nTEXT<|eot_id|>}

(https://www.llama.com/docs/model-cards-and-prompt-formats/meta-llama-3/). It has two forms that render the same text.
The inference form is read by transformers, llama.cpp and LM Studio. The training form marks what the assistant says by
`{% generation %}`, for the masks of apply_chat_template(return_assistant_tokens_mask=True); other programs do not know
that tag.

Programs take a model with a template for one that chats, and a converter copies it into a GGUF. So the inference form
is written for models that were trained to chat, and a base model has at most the training form, under a name that
nothing reads by itself. Whether a run taught to chat is said by its stage: every one but pretraining does.

Texts of messages cannot close a turn: in the name of every special token a space is put behind its first character.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bulba.checkpoint_folder import find_checkpoint

START, END, END_OF_TURN = "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
ROLES = ("system", "user", "assistant")
INFERENCE_FILE, TRAINING_FILE = "chat_template.jinja", "chat_template_training.jinja"
PRETRAINING = "bulba.stage.pretrain.Pretrain"


@dataclass(frozen=True)
class Chat:
    """inference, training: both forms of the template. eot_id: of the token that ends a turn. is_trained: whether the
    model was trained to chat."""

    inference: str
    training: str
    eot_id: int
    is_trained: bool

    def files(self) -> dict[str, str]:
        """What a Hugging Face folder gets, by file name."""
        return {TRAINING_FILE: self.training} | ({INFERENCE_FILE: self.inference} if self.is_trained else {})


def read_chat(checkpoint: Path, tokenizer_json: Path) -> Chat | None:
    """The chat of a checkpoint's model with this tokenizer; None where the tokenizer has no tokens for one."""
    added = json.loads(tokenizer_json.read_text(encoding="utf-8")).get("added_tokens") or []
    special = {token["content"]: token["id"] for token in added if token["special"]}
    if not {START, END, END_OF_TURN} <= special.keys():
        return None
    return Chat(
        inference=template(special, training=False),
        training=template(special, training=True),
        eot_id=special[END_OF_TURN],
        is_trained=was_trained_to_chat(checkpoint),
    )


def kind_of(chat: Chat | None) -> str:
    """What the card calls the model: base, template (one with tokens for a chat that it has not learnt) or chat."""
    if chat is None:
        return "base"
    return "chat" if chat.is_trained else "template"


def was_trained_to_chat(checkpoint: Path) -> bool:
    """Whether config.yaml of the run says so; a checkpoint without its run does not."""
    run = find_checkpoint(checkpoint).run
    if run is None:
        return False
    config: Any = OmegaConf.load(run / "config.yaml")
    target = OmegaConf.select(config, "stage._target_")
    return target is not None and target != PRETRAINING


def template(special: Iterable[str], training: bool) -> str:
    """One form of the template. special: the texts of all special tokens."""
    roles = ", ".join(f"'{role}'" for role in ROLES)
    plain = "".join(f" | replace({quote(text)}, {quote(broken(text))})" for text in sorted(special))
    text = f"message['content'] | trim{plain}"
    said = f"{{{{- text + '{END_OF_TURN}' -}}}}"
    header = f"{{{{- '{START}' + message['role'] + '{END}\\n\\n' -}}}}"
    lines = [
        "{{- bos_token -}}",
        "{%- for message in messages -%}",
        f"{{%- if message['role'] not in [{roles}] -%}}",
        f"{{{{- raise_exception('a role must be one of {', '.join(ROLES)}') -}}}}",
        "{%- endif -%}",
        header,
        f"{{%- set text = {text} -%}}",
    ]
    if training:
        marked = f"{{%- generation -%}}\n{said}\n{{%- endgeneration -%}}"
        lines += ["{%- if message['role'] == 'assistant' -%}", marked, "{%- else -%}", said, "{%- endif -%}"]
    else:
        lines.append(said)
    return "\n".join(
        [
            *lines,
            "{%- endfor -%}",
            "{%- if add_generation_prompt -%}",
            f"{{{{- '{START}assistant{END}\\n\\n' -}}}}",
            "{%- endif -%}",
        ]
    )


def broken(text: str) -> str:
    """The text of a special token as people still read it and no tokenizer takes it."""
    return f"{text[0]} {text[1:]}"


def quote(text: str) -> str:
    """A string of Jinja."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"
