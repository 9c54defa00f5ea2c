"""The report as tables; the terminal, the page and the tests show the same ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.table import Table as RichTable
from rich.text import Text

from bulba.bench.tokenizers.letters import KINDS
from bulba.bench.tokenizers.measure import ALL, CONTEXT_TOKENS, FREQUENT_WORDS, LanguageFigures, VocabularyFigures
from bulba.bench.tokenizers.sizes import HELD_OUT_EVERY, Preset, SizeFigures
from bulba.bench.tokenizers.text import SampleText

NAMES = {
    "be": "Belarusian",
    "ru": "Russian",
    "uk": "Ukrainian",
    "en": "English",
    "code": "code",
    "other": "other",
    ALL: "all",
}
PIECES = "·"  # between the tokens of a word
MANY_LETTERS = 12


@dataclass(frozen=True)
class Report:
    """Everything that is shown. vocabularies: the tokenizer in question first."""

    text: SampleText
    vocabularies: list[VocabularyFigures]
    sizes: list[SizeFigures]
    presets: list[Preset]


@dataclass(frozen=True)
class Table:
    """header and rows: text. note: how to read it. brief: shown in the terminal too."""

    title: str
    header: list[str]
    rows: list[list[str]] = field(repr=False)
    note: str = ""
    brief: bool = True

    def rich(self) -> RichTable:
        # Text(...): a cell such as [INST] is no markup.
        table = RichTable(title=Text(self.title), title_justify="left")
        for place, name in enumerate(self.header):
            table.add_column(Text(name), justify="right" if self.is_figure(place) else "left")
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table

    def is_figure(self, place: int) -> bool:
        """Whether a column holds figures: most of its cells begin with a digit."""
        return place > 0 and sum(row[place][:1].isdigit() for row in self.rows) * 2 > len(self.rows)


@dataclass(frozen=True)
class RatioTable:
    """A table of one ratio: rows are tokenizers, columns languages."""

    title: str
    ratio: str
    form: str
    note: str
    brief: bool = True


RATIO_TABLES = (
    RatioTable(
        "Characters per token",
        "chars_per_token",
        "{:.2f}",
        "More is better: the same text in fewer tokens, so more of it in a context and in a step of training.",
    ),
    RatioTable(
        "Tokens per word",
        "tokens_per_word",
        "{:.2f}",
        "Less is better; 1 would keep every word whole. Words of letters, each as often as it occurs.",
    ),
    RatioTable("Words kept whole", "whole_words_frac", "{:.1%}", "Share of words that are one token."),
    RatioTable(
        "Cost of decomposed text",
        "nfd_cost",
        "{:.3f}",
        "Tokens of text in NFD (й as и and a breve, as some systems write it) over tokens in NFC; 1 is best.",
    ),
    RatioTable(
        "Decomposed texts with the same ids",
        "nfd_same_frac",
        "{:.1%}",
        "Share of texts whose ids do not depend on the Unicode form.",
        brief=False,
    ),
    RatioTable("Bytes per token", "bytes_per_token", "{:.2f}", "A Cyrillic letter is two bytes.", brief=False),
    RatioTable(
        f"Documents of at most {CONTEXT_TOKENS:,} tokens",
        "fitting_documents_frac",
        "{:.1%}",
        "Share of documents that such a context holds whole.",
        brief=False,
    ),
    RatioTable(
        "Unknown tokens",
        "unknown_frac",
        "{:.2%}",
        "Share of tokens whose text is lost; anything above 0 flatters the other figures.",
        brief=False,
    ),
)


def tables_of(report: Report) -> Iterator[Table]:
    """Every table, in the order of reading."""
    yield _text_table(report.text)
    yield from _language_tables(report)
    yield from _size_tables(report)
    yield _vocabulary_table(report.vocabularies)
    yield _letter_table(report.vocabularies)
    yield from _word_tables(report)
    yield from _token_tables(report.vocabularies)


def _text_table(text: SampleText) -> Table:
    rows = [
        [NAMES[name], f"{len(one.documents):,}", f"{one.words.total():,}", f"{one.num_chars:,}", f"{one.num_bytes:,}"]
        for name, one in text.languages.items()
    ]
    skipped = f" {text.num_skipped:,} places could not be read, the first: {text.skipped[0]}." if text.skipped else ""
    header = ["language", "documents", "words", "characters", "bytes"]
    note = (
        f"Measured on {text.origin}; a tokenizer that learnt from this very text looks a little better on it.{skipped}"
    )
    return Table("The text", header, rows, note)


def _language_tables(report: Report) -> Iterator[Table]:
    names = [*report.text.languages, ALL]
    for kind in RATIO_TABLES:
        rows = [
            [one.name, one.program, f"{one.vocab_size:,}", *_cells(one.languages, names, kind.ratio, kind.form)]
            for one in report.vocabularies
        ]
        yield Table(kind.title, ["tokenizer", "run by", "entries", *names], rows, kind.note, kind.brief)


def _size_tables(report: Report) -> Iterator[Table]:
    if report.sizes:
        names = [*report.text.languages, ALL]
        learnt = [one for one in report.sizes if not one.error]
        rows = [
            [
                f"{one.vocab_size:,}",
                *_cells(one.languages, names, "chars_per_token", "{:.2f}"),
                *(f"{preset.embedding_frac(one.rows):.1%}" for preset in report.presets),
            ]
            for one in learnt
        ]
        failed = [one for one in report.sizes if one.error]
        missing = (
            f" Not learnt: {'; '.join(f'{one.vocab_size:,}' for one in failed)}, for {failed[0].error}."
            if failed
            else ""
        )
        yield Table(
            "Sizes of our tokenizer on this text",
            ["entries", *names, *(preset.name for preset in report.presets)],
            rows,
            f"Characters per token on every {HELD_OUT_EVERY}th document, learnt from the others; and the share of the "
            f"weights of each preset that the embedding takes.{missing}",
        )
    rows = [
        [
            one.name,
            f"{one.vocab_size:,}",
            *(f"{preset.embedding_frac(one.vocab_size):.1%}" for preset in report.presets),
        ]
        for one in report.vocabularies
    ]
    header = ["tokenizer", "entries", *(preset.name for preset in report.presets)]
    note = "Share of the weights that the embedding would take with each tokenizer."
    yield Table("Embedding in the presets", header, rows, note, brief=False)


def _vocabulary_table(vocabularies: list[VocabularyFigures]) -> Table:
    rows = [
        [
            one.name,
            f"{one.vocab_size:,}",
            *(f"{one.kinds[kind]:,}" for kind in KINDS),
            f"{one.unused:,} ({one.unused / max(one.learnt, 1):.1%})",
            f"{one.hard_strings - len(one.lost)} of {one.hard_strings}",
        ]
        for one in vocabularies
    ]
    return Table(
        "What the entries are",
        ["tokenizer", "entries", *KINDS, "unused", "round trips"],
        rows,
        "Part bytes: no whole characters. Unused: longer than a byte and not once in this text. Round trips: hard "
        "strings that come back from their ids.",
    )


def _letter_table(vocabularies: list[VocabularyFigures]) -> Table:
    names = list(vocabularies[0].missing_letters)
    rows = [[one.name, *(_letters(one.missing_letters[name]) for name in names)] for one in vocabularies]
    return Table("Letters without a token of their own", ["tokenizer", *(NAMES[name] for name in names)], rows)


def _word_tables(report: Report) -> Iterator[Table]:
    for place, one in enumerate(report.vocabularies):
        rows = [
            [NAMES[name], word.word, f"{word.count:,}", str(len(word.pieces)), PIECES.join(word.pieces)]
            for name, words in one.cut_words.items()
            for word in words[: None if place == 0 else 3]
        ]
        yield Table(
            f"Frequent words cut most: {one.name}",
            ["language", "word", "occurs", "tokens", "pieces"],
            rows,
            f"Among the {FREQUENT_WORDS:,} commonest words of each language; ␣ is a space, \\xd0 a byte.",
            brief=False,
        )


def _token_tables(vocabularies: list[VocabularyFigures]) -> Iterator[Table]:
    rows = [
        [one.name, kind, "  ".join(tokens)] for one in vocabularies for kind, tokens in one.longest.items() if tokens
    ]
    yield Table("Longest tokens", ["tokenizer", "kind", "tokens"], rows, brief=False)
    rows = [[one.name, "  ".join(one.unused_examples) or "none"] for one in vocabularies]
    yield Table("Unused entries, the first by id", ["tokenizer", "entries"], rows, brief=False)
    rows = [[one.name, repr(text), repr(returned)] for one in vocabularies for text, returned in one.lost[:5]]
    yield Table(
        "Strings that do not come back",
        ["tokenizer", "string", "comes back as"],
        rows or [["none", "", ""]],
        brief=False,
    )


def _cells(languages: dict[str, LanguageFigures], names: list[str], ratio: str, form: str) -> list[str]:
    ratios = [languages[name].ratios[ratio] for name in names]
    return ["-" if value is None else form.format(value) for value in ratios]


def _letters(letters: str) -> str:
    if not letters:
        return "none"
    more = f" and {len(letters) - MANY_LETTERS} more" if len(letters) > MANY_LETTERS else ""
    return " ".join(letters[:MANY_LETTERS]) + more
