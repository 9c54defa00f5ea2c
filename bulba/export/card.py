"""README.md of a folder for others: a model card in Belarusian, Russian, Ukrainian and English, made from the run.

The figures come from bulba/export/run_facts.py, the words from bulba/export/card_texts.py. The front matter is what the
Hub reads: https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import string
from typing import Any

from omegaconf import OmegaConf

from bulba.export.card_texts import APOSTROPHES, CACHE, DEMANDS, KINDS, LICENSE, TEXTS, TITLES
from bulba.export.run_facts import LANGUAGES, Facts

CODE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}"{trust})
model = AutoModelForCausalLM.from_pretrained("{folder}"{trust})
ids = tokenizer({prompt}, return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, max_new_tokens=50)[0], skip_special_tokens=True))
```"""
PROMPTS = {"be": "Жыў-быў", "ru": "Жил-был", "uk": "Жив собі", "en": "Once upon a time"}
MAX_SAMPLE_CHARS = 300
APOSTROPHE_NAMES = {"U+0027": "' (U+0027)", "U+2019": "’ (U+2019)", "U+02BC": "ʼ (U+02BC)"}


def card(
    facts: Facts,
    *,
    name: str,
    folder: str,
    license: str | None,
    kind: str,
    has_code: bool = False,
    uses_cache: bool = True,
    library: str = "transformers",
    usage: str = CODE,
) -> str:
    """The card as text.

    facts: of `read_facts`, with weights_bytes, dtype, bos and eos. name: of the model. folder: what it is opened by.
    kind: base, template or chat (`KINDS`). has_code, uses_cache: whether it needs trust_remote_code, and has a cache.
    library: what the Hub is told that opens it. usage: how it is used, with places for folder, trust and prompt.
    """
    parts = [front_matter(facts, license, library), f"# {name}\n"]
    for language in LANGUAGES:
        told = told_facts(facts, language, folder, license, kind, has_code, uses_cache, usage)
        parts.append(f"## {TITLES[language]}\n")
        for title, lines in TEXTS[language].values():
            kept = [fill(line, told) for line in lines if places(line) <= told.keys()]
            if kept:
                parts.append(f"### {title}\n\n" + "\n".join(kept) + "\n")
    return "\n".join(parts)


def front_matter(facts: Facts, license: str | None, library: str) -> str:
    """The YAML block at the top."""
    fields: dict[str, Any] = {"language": facts["languages"]} if facts.get("languages") else {}
    if license:
        fields["license"] = license
    fields |= {"library_name": library, "pipeline_tag": "text-generation", "tags": ["bulba"]}
    return f"---\n{OmegaConf.to_yaml(OmegaConf.create(fields))}---\n"


def told_facts(
    facts: Facts,
    language: str,
    folder: str,
    license: str | None,
    kind: str,
    has_code: bool,
    uses_cache: bool,
    usage: str,
) -> dict[str, str]:
    """Every figure as it is written in a language, and the sentences that depend on the model."""
    told = {key: told_value(value, language) for key, value in facts.items() if not isinstance(value, dict | list)}
    if "language_bytes" in facts:
        told["language_bytes"] = ", ".join(
            f"{one} {told_value(size, language)}" for one, size in facts["language_bytes"].items()
        )
    sample = " ".join(facts.get("samples", {}).get(language, "").split())
    if sample:
        told["sample"] = sample if len(sample) <= MAX_SAMPLE_CHARS else f"{sample[:MAX_SAMPLE_CHARS]}…"
    told["kind"] = KINDS[language][kind]
    told[f"license_{language}"] = LICENSE[language][bool(license)].format(license=license)
    prompt = f'"{PROMPTS[language]}"'
    trust = ", trust_remote_code=True" if has_code else ""
    told["code"] = usage.format(folder=folder, trust=trust, prompt=prompt)
    if has_code:
        told[f"demands_{language}"] = DEMANDS[language].format(cache=CACHE[language][uses_cache])
    if "apostrophes" in facts:
        way = "keep" if facts["apostrophes"] == "keep" else "one"
        mark = APOSTROPHE_NAMES.get(facts["apostrophes"], facts["apostrophes"])
        told[f"apostrophes_{language}"] = APOSTROPHES[language][way].format(mark=mark)
    return told


def told_value(value: Any, language: str) -> str:
    """A number by the custom of the language; words as they are."""
    if isinstance(value, int):
        return f"{value:,}" if language == "en" else f"{value:,}".replace(",", "\N{NO-BREAK SPACE}")
    if isinstance(value, float):
        return f"{value:.4f}" if language == "en" else f"{value:.4f}".replace(".", ",")
    return str(value)


def places(line: str) -> set[str]:
    """The names of the figures in a line."""
    return {name for _, name, _, _ in string.Formatter().parse(line) if name}


def fill(line: str, told: dict[str, str]) -> str:
    """A line with its figures."""
    return line.format_map(told)
