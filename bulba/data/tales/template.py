"""Templates of sentences: how a wording is written down, compiled and filled.

A wording is a block of lines: ``# plot`` and ``= beat`` open a beat, every other unindented line is one way to tell
it, and an indented line continues the one above: in a new paragraph if it opens with a dialogue or with ``/``.
In a template

- ``[one|other]`` is a choice, and choices nest;
- ``{h}`` is the actor of role h, ``{H}`` the same with its adjective, ``{h.dat}`` in another form;
- ``{word@h}`` is a word that agrees with the actor, ``{word.form}`` a word in a form of its own.

Nothing here knows a language: words are inflected by the `Language` that fills the template.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol


class Phrase(Protocol):
    """An actor in the words of a language."""

    @property
    def agreement(self) -> str: ...  # gender or number, as the words that agree with it need it

    @property
    def animate(self) -> bool: ...

    @property
    def gait(self) -> str: ...  # how it moves, see `world`

    def form(self, features: tuple[str, ...], long: bool) -> str: ...


class Inflector(Protocol):
    """What a language does for a template."""

    def inflect(self, word: str, features: tuple[str, ...], phrase: Phrase | None, after_preposition: bool) -> str: ...


@dataclass(frozen=True, slots=True)
class Slot:
    word: str  # lower-cased, if it is a role
    features: tuple[str, ...]
    role: str | None  # what it agrees with
    is_role: bool
    long: bool
    after_preposition: bool


@dataclass(frozen=True, slots=True)
class Choice:
    options: tuple[tuple[Node, ...], ...]


Node = str | Slot | Choice
Template = tuple[Node, ...]
Wording = dict[str, dict[str, tuple[Template, ...]]]
_TOKEN = re.compile(r"\{([^{}]+)\}|([\[|\]])|([^{}\[\]|]+)")
DIALOGUE = ("— ", "“")  # how a line of dialogue opens
NEW_PARAGRAPH = (*DIALOGUE, "/ ")


def parse_wording(block: str, prepositions: frozenset[str]) -> Wording:
    """The templates of every beat of every plot, ``wording[plot][beat]``; a pronoun may change after a preposition."""
    lines: dict[str, dict[str, list[str]]] = {}
    for line in filter(str.strip, block.splitlines()):
        if line.startswith("# "):
            plot = lines.setdefault(line[2:], {})
        elif line.startswith("= "):
            beat = plot.setdefault(line[2:], [])
        elif line[0] == " ":
            text = line.strip()
            space = "" if beat[-1].endswith("|") else " "
            beat[-1] += ("\n" if text.startswith(NEW_PARAGRAPH) else space) + text.removeprefix("/ ")
        else:
            beat.append(line)
    return {
        plot: {beat: tuple(compile_template(text, prepositions) for text in texts) for beat, texts in beats.items()}
        for plot, beats in lines.items()
    }


def compile_template(text: str, prepositions: frozenset[str] = frozenset()) -> Template:
    """Read a template once, so that filling it is a walk."""
    template, closing = _sequence(_TOKEN.finditer(text), prepositions)
    assert closing == "", f"unbalanced brackets in the template {text!r}"
    assert len(template) == 1, f"a choice without brackets in the template {text!r}"
    return template[0]


def _sequence(tokens: Iterator[re.Match[str]], prepositions: frozenset[str]) -> tuple[list[Template], str]:
    """The options up to the closing bracket (or the end), and which of the two closed them."""
    options: list[list[Node]] = [[]]
    for token in tokens:
        slot, bracket, literal = token.groups()
        if slot:
            before = options[-1][-1] if options[-1] else ""
            words = before.split() if isinstance(before, str) else []
            options[-1].append(_slot(slot, bool(words) and words[-1].lower() in prepositions))
        elif literal:
            options[-1].append(literal)
        elif bracket == "[":
            inner, closing = _sequence(tokens, prepositions)
            assert closing == "]", "a choice is not closed"
            options[-1].append(Choice(tuple(inner)))
        elif bracket == "|":
            options.append([])
        else:
            return [tuple(option) for option in options], "]"
    return [tuple(option) for option in options], ""


def _slot(text: str, after_preposition: bool) -> Slot:
    head, _, role = text.partition("@")
    word, *features = head.split(".")
    is_role = len(word) == 1 and word.isascii()
    long = is_role and word.isupper()
    return Slot(word.lower() if is_role else word, tuple(features), role or None, is_role, long, after_preposition)


def fill(
    template: Template, cast: Mapping[str, Phrase], language: Inflector, rng: random.Random, out: list[str]
) -> None:
    """Append the words of the template to `out`, drawing each choice."""
    for node in template:
        if isinstance(node, str):
            out.append(node)
        elif isinstance(node, Choice):
            fill(rng.choice(node.options), cast, language, rng, out)
        elif node.is_role:
            out.append(cast[node.word].form(node.features, node.long))
        else:
            phrase = cast[node.role] if node.role else None
            out.append(language.inflect(node.word, node.features, phrase, node.after_preposition))
