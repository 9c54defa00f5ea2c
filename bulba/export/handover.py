"""The folder to give away: GGUF files with their certificates, and what makes other programs sample as Bulba does.

Modelfile is for ollama (https://docs.ollama.com/modelfile), NAME.preset.json for LM Studio, README.md for people. A
base model continues texts, so both programs are told to pass the prompt on as it is: their own way is to wrap it into
a conversation, and to draw as the run drew its samples (bulba/export/sampling.py). Neither normalises, so prompts have
to be in NFC.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bulba.data.tokenizer import read_tokenizer_file
from bulba.errors import ConfigError, ExportError
from bulba.export.card import card
from bulba.export.chat import END, END_OF_TURN, START, Chat, kind_of, read_chat
from bulba.export.gguf import export_types
from bulba.export.run_facts import Facts, read_facts
from bulba.export.sampling import MIN_P, REPEAT_PENALTY, TOP_K, TOP_P
from bulba.export.types import GGUF_TYPES, GgufType, takes_importance
from bulba.files import atomic_folder

NEUTRAL = {"top_k": TOP_K, "top_p": TOP_P, "min_p": MIN_P, "repeat_penalty": REPEAT_PENALTY}
PLAIN_TEMPLATE = "{{ .Prompt }}"
CHAT_TEMPLATE = (
    "{{- range .Messages }}"
    f"{START}{{{{ .Role }}}}{END}\n\n{{{{ .Content }}}}{END_OF_TURN}"
    f"{{{{ end }}}}{START}assistant{END}\n\n"
)
PLAIN_JINJA = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
USAGE = """```sh
llama-completion -m {file} -p {{prompt}} -n 50
ollama create {name} && ollama run {name} {{prompt}}
```

LM Studio: `lms import {file}`; `{preset}`"""


def export_handover(
    checkpoint: Path,
    tokenizer: Path,
    out: Path,
    types: list[GgufType],
    imatrix: str | None = None,
    license: str | None = None,
    verify: bool = True,
) -> Path:
    """Write the folder `OUT-handover`.

    types: of the GGUF files, the first for ollama. imatrix: a text for those types that use one. license: an SPDX
    name. verify: try every file in llama.cpp. Raises what `export_types` raises; then there is no folder.
    """
    check_types(types, imatrix)
    facts, chat = read_facts(checkpoint), read_chat(checkpoint, tokenizer)
    trained_chat = chat if chat and chat.is_trained else None
    special = read_tokenizer_file(tokenizer)
    folder = out.with_name(f"{out.name}-handover")
    with atomic_folder(folder) as temporary:
        with rejected_kept(temporary, out.parent):
            files = export_types(checkpoint, tokenizer, temporary / out.name, types, license, verify, imatrix)
        preset = f"{out.name}.preset.json"
        (temporary / "Modelfile").write_text(modelfile(files[0].name, facts, trained_chat), encoding="utf-8")
        (temporary / preset).write_text(lm_studio_preset(out.name, facts, trained_chat), encoding="utf-8")
        page = card(
            facts
            | {"weights_bytes": files[0].stat().st_size, "dtype": types[0]}
            | {"bos": special.bos_token, "eos": special.eos_token},
            name=out.name,
            folder=folder.name,
            license=license,
            kind=kind_of(chat),
            library="gguf",
            usage=USAGE.format(file=files[0].name, name=out.name.lower(), preset=preset),
        )
        (temporary / "README.md").write_text(page, encoding="utf-8")
    return folder


@contextmanager
def rejected_kept(temporary: Path, place: Path) -> Iterator[None]:
    """A file that fails its check outlives the temporary folder, with its certificate, in `place`."""
    try:
        yield
    except ExportError as error:
        for rejected in temporary.glob("*.rejected"):
            stem = rejected.name.removesuffix(".gguf.rejected")
            for left in (rejected, *temporary.glob(f"{stem}.certificate.*")):
                left.replace(place / left.name)
        raise ExportError(str(error).replace(str(temporary), str(place))) from error


def check_types(types: list[GgufType], imatrix: str | None) -> None:
    """Refuse what would fail only after the first file."""
    unknown = [type for type in types if type not in GGUF_TYPES]
    if unknown or not types or len(set(types)) < len(types):
        raise ConfigError(
            f"export.handover.types={types} must be one or more of {', '.join(GGUF_TYPES)}, each once; the first is "
            "the one for ollama."
        )
    if imatrix is not None and not any(map(takes_importance, types)):
        raise ConfigError(f"export.handover.imatrix does nothing for types={types}, which round too little: leave it.")


def modelfile(file: str, facts: Facts, chat: Chat | None) -> str:
    """For `ollama create`. chat: of a model that was trained to chat."""
    sampling = facts.get("sampling") or {}
    parameters: dict[str, Any] = {"num_ctx": facts["max_seq_len"], **NEUTRAL}
    if "temperature" in sampling:
        parameters["temperature"] = sampling["temperature"]
    if "max_new_tokens" in sampling:
        parameters["num_predict"] = sampling["max_new_tokens"]
    if chat:
        parameters["stop"] = json.dumps(END_OF_TURN)
    lines = [f"PARAMETER {name} {value}" for name, value in parameters.items()]
    template = CHAT_TEMPLATE if chat else PLAIN_TEMPLATE
    return "\n".join([f"FROM ./{file}", f'TEMPLATE """{template}"""', *lines]) + "\n"


def lm_studio_preset(name: str, facts: Facts, chat: Chat | None) -> str:
    """JSON for LM Studio's import of presets."""
    sampling = facts.get("sampling") or {}
    operation = {
        "llm.prediction.topKSampling": NEUTRAL["top_k"],
        "llm.prediction.topPSampling": {"checked": False, "value": NEUTRAL["top_p"]},
        "llm.prediction.minPSampling": {"checked": False, "value": NEUTRAL["min_p"]},
        "llm.prediction.repeatPenalty": {"checked": False, "value": NEUTRAL["repeat_penalty"]},
    }
    if "temperature" in sampling:
        operation["llm.prediction.temperature"] = sampling["temperature"]
    if "max_new_tokens" in sampling:
        operation["llm.prediction.maxPredictedTokens"] = {"checked": True, "value": sampling["max_new_tokens"]}
    operation["llm.prediction.promptTemplate"] = {
        "type": "jinja",
        "jinjaPromptTemplate": {"template": chat.inference if chat else PLAIN_JINJA},
        "stopStrings": [END_OF_TURN] if chat else [],
    }
    preset = {
        "identifier": f"@local:{name}",
        "name": name,
        "changed": False,
        "operation": {"fields": fields(operation)},
        "load": {"fields": fields({"llm.load.contextLength": facts["max_seq_len"]})},
    }
    return json.dumps(preset, indent=2, ensure_ascii=False) + "\n"


def fields(values: dict[str, Any]) -> list[dict[str, Any]]:
    """LM Studio's form of a mapping."""
    return [{"key": key, "value": value} for key, value in values.items()]
