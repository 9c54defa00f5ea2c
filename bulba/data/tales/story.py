"""One tale: a plot, its cast in the words of a language, its beats told one after another."""

from __future__ import annotations

import random
import re
import unicodedata
from functools import cache
from importlib import import_module
from typing import Protocol

from bulba.data.tales.plots import PLOTS, Actor, Casting
from bulba.data.tales.template import DIALOGUE, Inflector, Phrase, Template, Wording, fill
from bulba.errors import ConfigError

LANGUAGES: tuple[str, ...] = ("be", "ru", "uk", "en")
SHARED_BEATS = ("open", "formula")
# A sentence begins a paragraph, or follows a full stop; a dash or an opening quotation mark may stand before it, and
# an English full stop may stand inside the closing one. After "— " alone the words of the teller go on.
_SENTENCE_START = re.compile(r"(?:^|[.!?…] |\.” |\. — |^— )[«“]?\w", re.MULTILINE)


class Language(Inflector, Protocol):
    """What a language provides: actors as phrases, inflected words, the wording, and the last touch."""

    wording: Wording

    def phrase(self, actor: Actor) -> Phrase: ...

    def polish(self, text: str) -> str: ...


@cache
def load_language(code: str) -> Language:
    """The language of this code; its lexicon is parsed once."""
    if code not in LANGUAGES:
        raise ConfigError(f"there are no tales in the language {code!r}: choose one of {', '.join(LANGUAGES)}.")
    language: Language = import_module(f"bulba.data.tales.{code}").LANGUAGE
    return language


def tale(language: str, rng: random.Random) -> str:
    """One tale in `language` (a code of `LANGUAGES`): a title, an empty line, paragraphs; NFC.

    Raises:
        ConfigError: the language is not one of `LANGUAGES`.
    """
    teller = load_language(language)
    plot = rng.choice(PLOTS)
    actors = plot.cast(Casting(rng))
    cast = {role: teller.phrase(actor) for role, actor in actors.items()}
    beats = teller.wording[plot.name] | {beat: teller.wording["shared"][beat] for beat in SHARED_BEATS}

    def told(beat: str) -> str:
        out: list[str] = []
        template: Template = rng.choice(beats[beat])
        fill(template, cast, teller, rng, out)
        return "".join(out).strip()

    title = told("title")
    paragraphs = [_paragraph([told(beat) for beat in paragraph]) for paragraph in plot.paragraphs]
    text = teller.polish(f"{title}\n\n" + "\n".join(paragraphs))
    return unicodedata.normalize("NFC", _SENTENCE_START.sub(lambda match: match[0].upper(), text))


def _paragraph(told: list[str]) -> str:
    """Beats one after another; nothing is added to a line of dialogue, nor a dialogue to a line."""
    text = ""
    for beat in filter(None, told):
        new = text.rpartition("\n")[2].startswith(DIALOGUE) or beat.startswith(DIALOGUE)
        text += (("\n" if new else " ") if text else "") + beat
    return text
