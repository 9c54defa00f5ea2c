"""Short tales in Belarusian, Russian, Ukrainian and English, made from grammars: the corpus of the quickstart.

A plot casts animals, people and things (`plots`, `world`); a language words its beats (`be`, `ru`, `uk`, `en`) and
inflects every word that depends on the cast (`grammar`, `be_words` and its siblings). Nothing is downloaded.
"""

from __future__ import annotations

from bulba.data.tales import be, en, ru, uk
from bulba.data.tales.corpus import write_tales
from bulba.data.tales.story import LANGUAGES, tale

PROMPTS: dict[str, list[str]] = {"be": be.PROMPTS, "ru": ru.PROMPTS, "uk": uk.PROMPTS, "en": en.PROMPTS}
"""Openings that tales begin with after their title, four for each language."""

__all__ = ["LANGUAGES", "PROMPTS", "tale", "write_tales"]
