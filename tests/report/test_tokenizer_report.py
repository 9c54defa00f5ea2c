"""The tokenizer report: figures by hand, the same figures from every program, and what the command writes."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unicodedata import normalize

import gguf
import pytest
from rich.console import Console
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers

from bulba.bench.tokenizers import report as report_module
from bulba.bench.tokenizers.letters import kind_of, visible
from bulba.bench.tokenizers.measure import ALL, VocabularyFigures, lost_strings, measure
from bulba.bench.tokenizers.page import html_page
from bulba.bench.tokenizers.picture import draw
from bulba.bench.tokenizers.report import find_tokenizer, report_command, write_report
from bulba.bench.tokenizers.sizes import Preset, SizeFigures, measure_sizes, presets
from bulba.bench.tokenizers.tables import Report, tables_of
from bulba.bench.tokenizers.text import WORD, LanguageText, SampleText
from bulba.bench.tokenizers.vocabularies import BulbaVocabulary, HuggingFaceVocabulary, name_of, open_vocabulary
from bulba.checkpoint import save_checkpoint
from bulba.data.prepare import Source, TokenizerSpec, prepare
from bulba.data.tales import write_tales
from bulba.data.tokenizer import Tokenizer, byte_alphabet
from bulba.errors import BulbaError, CheckpointError, ConfigError, DataError, ExportError, UnsupportedError
from bulba.export import llama_cpp
from bulba.export.gguf import export_gguf
from bulba.export.hard_strings import HARD_STRINGS
from bulba.report.presets import preset_model
from tests.conftest import run_program
from tests.generation.small_tokenizer import SENTENCES, train_tokenizer
from tests.hard_strings import HARD_STRINGS as OTHER_STRINGS
from tests.model.tiny import tiny_gpt

LLAMA_SIZES: dict[str, Any] = {"hidden_size": 64, "num_heads": 4, "num_kv_heads": 2, "max_seq_len": 128}


def spelt(text: str) -> str:
    """A text in the byte alphabet."""
    alphabet = {byte: character for character, byte in byte_alphabet().items()}
    return "".join(alphabet[byte] for byte in text.encode())


def save_byte_level(path: Path, merged: list[tuple[str, str]]) -> Path:
    """A tokenizer.json with the 256 bytes and the given merges of texts."""
    vocabulary = {character: place for place, character in enumerate(sorted(byte_alphabet()))}
    merges = [*((spelt(letter)[0], spelt(letter)[1]) for letter in "кот"), *((spelt(a), spelt(b)) for a, b in merged)]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    library = Library(models.BPE(vocabulary, merges))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.save(str(path))
    return path


def sample(**languages: list[str]) -> SampleText:
    return SampleText(
        {name: LanguageText([normalize("NFC", text) for text in texts]) for name, texts in languages.items()},
        "the test",
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained tokenizer of 603 entries."""
    return train_tokenizer(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def small_gguf(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file of a tiny model with that tokenizer."""
    folder = tmp_path_factory.mktemp("gguf")
    model = tiny_gpt(vocab_size=Tokenizer.load(trained).vocab_size, intermediate_size=96, **LLAMA_SIZES)
    save_checkpoint(folder / "checkpoint", model.get_model_config(), model.state_dict(), {})
    return export_gguf(folder / "checkpoint", trained / "tokenizer.json", folder / "tiny", "f32", verify=False)


@pytest.fixture(scope="module")
def text() -> SampleText:
    half = len(OTHER_STRINGS) // 2
    return sample(be=[*SENTENCES[:4], *OTHER_STRINGS[:half]], code=[SENTENCES[4], *OTHER_STRINGS[half:]])


@pytest.fixture(scope="module")
def figures(trained: Path, text: SampleText) -> VocabularyFigures:
    with open_vocabulary(trained) as vocabulary:
        return measure(vocabulary, text)


def test_figures_by_hand(tmp_path: Path) -> None:
    path = save_byte_level(tmp_path / "hand.json", [("к", "о"), ("ко", "т"), (" ", "кот")])
    with open_vocabulary(path) as vocabulary:
        result = measure(vocabulary, sample(be=["кот і кот", "мой", ""], en=["a cat"]))
    assert (result.name, result.program, result.vocab_size) == ("hand", "tokenizers", 262)
    be = result.languages["be"]
    # "кот і кот" is [кот][ ][D1][96][ кот]; "мой" is [D0][BC][о][D0][B9].
    assert (be.documents, be.words, be.chars, be.bytes, be.tokens) == (3, 4, 12, 22, 10)
    # In a sentence: twice [ кот], [ ][D1][96], [ ][D0][BC][о][D0][B9].
    assert (be.word_tokens, be.whole_words) == (2 + 3 + 6, 2)
    # й in NFD is и and the breve, two bytes each.
    assert (be.nfc_tokens, be.nfd_tokens, be.nfd_texts, be.nfd_same) == (10, 12, 3, 2)
    assert be.ratios == {
        "chars_per_token": 1.2,
        "bytes_per_token": 2.2,
        "tokens_per_word": 2.75,
        "whole_words_frac": 0.5,
        "fitting_documents_frac": 1.0,
        "unknown_frac": 0.0,
        "nfd_cost": 1.2,
        "nfd_same_frac": 2 / 3,
    }
    everything = result.languages[ALL]
    assert (everything.tokens, everything.chars, everything.words) == (10 + 5, 12 + 5, 4 + 2)
    assert [(word.word, word.count, word.pieces) for word in result.cut_words["be"]] == [
        ("мой", 1, ["␣", r"\xd0", r"\xbc", "о", r"\xd0", r"\xb9"]),
        ("і", 1, ["␣", r"\xd1", r"\x96"]),
    ]
    assert result.kinds["Cyrillic"] == 6
    assert result.kinds["part bytes"] == 128
    assert result.kinds["digits"] == 10
    assert result.kinds["Latin"] == 52
    assert result.longest["Cyrillic"][:3] == ["␣кот", "кот", "ко"]
    # Of к о т ко кот and " кот", three are met.
    assert (result.learnt, result.unused, result.unused_examples) == (6, 3, ["к", "т", "ко"])
    assert result.missing_letters["ru"] == "АБВГДЕЁЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдеёжзийлмнпрсуфхцчшщъыьэюя"
    assert "ў" in result.missing_letters["be"]
    assert (result.hard_strings, result.lost) == (len(HARD_STRINGS), [])


def test_a_text_without_words_or_tokens_has_no_ratio(trained: Path) -> None:
    with open_vocabulary(trained) as vocabulary:
        ratios = measure(vocabulary, sample(other=["", "12 3"])).languages["other"].ratios
    assert ratios["tokens_per_word"] is None
    assert ratios["chars_per_token"] is not None


def test_long_documents_do_not_fit(trained: Path) -> None:
    with open_vocabulary(trained) as vocabulary:
        one = measure(vocabulary, sample(be=["і " * 3000, "кот"])).languages["be"]
    assert one.fitting_documents == 1


def test_our_tokenizer_counts_as_the_tokenizers_library_does(
    trained: Path, figures: VocabularyFigures, text: SampleText
) -> None:
    theirs = measure(HuggingFaceVocabulary(trained / "tokenizer.json"), text)
    assert figures.program == "Bulba"
    assert replace(theirs, program="Bulba") == figures
    assert figures.languages[ALL].nfd_tokens == figures.languages[ALL].nfc_tokens
    assert figures.languages[ALL].nfd_same == figures.languages[ALL].nfd_texts
    assert figures.lost == []


def test_a_gguf_vocabulary_has_the_figures_of_its_tokenizer(
    small_gguf: Path, figures: VocabularyFigures, text: SampleText
) -> None:
    with open_vocabulary(small_gguf) as vocabulary:
        result = measure(vocabulary, text)
    assert (result.name, result.program) == ("tiny-f32-unproved", "llama.cpp")
    for name, one in result.languages.items():
        # llama.cpp does not normalise: there, and only there, text in NFD costs more.
        assert one.nfd_tokens > one.nfc_tokens
        assert one.nfd_same < one.nfd_texts
        ours = figures.languages[name]
        assert replace(one, nfd_tokens=ours.nfd_tokens, nfd_same=ours.nfd_same) == ours
    changed = {"name": figures.name, "program": figures.program, "languages": figures.languages}
    assert replace(result, **changed) == figures


def test_a_gguf_file_with_a_vocabulary_alone(small_gguf: Path, tmp_path: Path) -> None:
    whole = gguf.GGUFReader(small_gguf)
    writer = gguf.GGUFWriter(tmp_path / "vocab.gguf", "llama")
    for name in ("model", "pre"):
        writer.add_string(f"tokenizer.ggml.{name}", whole.fields[f"tokenizer.ggml.{name}"].contents())
    for name in ("tokens", "token_type", "merges"):
        writer.add_array(f"tokenizer.ggml.{name}", whole.fields[f"tokenizer.ggml.{name}"].contents())
    for name in ("context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"):
        writer.add_uint32(f"llama.{name}", whole.fields[f"llama.{name}"].contents())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with open_vocabulary(tmp_path / "vocab.gguf") as alone, open_vocabulary(small_gguf) as in_a_model:
        assert alone.vocab_size == in_a_model.vocab_size
        assert [ids.tolist() for ids in alone.encode(OTHER_STRINGS)] == [
            ids.tolist() for ids in in_a_model.encode(OTHER_STRINGS)
        ]


def save_byte_fallback(path: Path) -> Path:
    """A tokenizer.json in the manner of Llama 2: ▁ for spaces, one before every text, and bytes as <0xD0>."""
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "к", "о", "т", "a", "ко", "кот", "▁кот"]
    merges = [("к", "о"), ("ко", "т"), ("▁", "кот")]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    library = Library(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    library.add_special_tokens(["<unk>", "<s>"])
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    library.save(str(path))
    return path


def test_a_vocabulary_that_is_not_byte_level(tmp_path: Path) -> None:
    with open_vocabulary(save_byte_fallback(tmp_path / "llama2.json")) as vocabulary:
        table = vocabulary.token_bytes()
        result = measure(vocabulary, sample(be=["кот і кот"]))
    assert [table[place] for place in (0, 1, 2 + 0xD0, 258, 259, 265)] == [
        b"",
        b"",
        b"\xd0",
        b" ",
        "к".encode(),
        " кот".encode(),
    ]
    assert len(table) == 266
    be = result.languages["be"]
    # [▁кот][▁][D1][96][▁кот]: the space before a text is put there by the vocabulary.
    assert (be.tokens, be.word_tokens, be.whole_words) == (5, 1 + 1 + 3, 2)
    assert result.lost == []


def test_a_vocabulary_that_loses_text_says_so(tmp_path: Path) -> None:
    library = Library(models.WordPiece({"[UNK]": 0, "кот": 1, "##ы": 2, "a": 3}, unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.decoder = decoders.WordPiece()
    library.save(str(tmp_path / "bert.json"))
    with open_vocabulary(tmp_path / "bert.json") as vocabulary:
        be = measure(vocabulary, sample(be=["коты кот пёс"])).languages["be"]
        assert list(lost_strings(vocabulary, ["коты кот", "кот пёс"])) == [("кот пёс", "кот [UNK]")]
        assert vocabulary.token_bytes() == [b"", " кот".encode(), "ы".encode(), b" a"]
    assert (be.tokens, be.unknown_tokens, be.word_tokens) == (4, 1, 4)


def test_tokens_are_shown_as_text() -> None:
    assert visible(" слова".encode()) == "␣слова"
    assert visible("Ж".encode()[:1]) == r"\xd0"
    assert visible(b"\n\t\r\x07") == "⏎⇥␍" + r"\u0007"
    assert visible(b" " * 16 + b"x") == "␣×16x"
    assert visible("ÃÂ".encode() * 8) == "ÃÂ×8"


def test_kinds_of_tokens() -> None:
    kinds = {
        " слова": "Cyrillic",
        "сям'я": "Cyrillic",
        "ʼя": "Cyrillic",
        "naïve1": "Latin",
        "вiн": "mixed Cyrillic",  # with a Latin i
        "中文": "other scripts",
        "その他": "other scripts",
        " 42": "digits",
        " —\n": "signs and spaces",
        "": "special",
    }
    assert {text: kind_of(text.encode()) for text in kinds} == kinds
    assert kind_of("ў".encode()[:1]) == "part bytes"


def test_words_keep_apostrophes_and_stress() -> None:
    text = "Сям’я з'ела «за\u0301мок» — 12 разоў, кот-воўк і x_1"
    assert WORD.findall(text) == ["Сям’я", "з'ела", "за\u0301мок", "разоў", "кот", "воўк", "і", "x"]


def test_names() -> None:
    assert name_of(Path("/models/runs/krolik/tokenizer/tokenizer.json")) == "krolik"
    assert name_of(Path("/models/gpt2/tokenizer.json")) == "gpt2"
    assert name_of(Path("models/ggml-vocab-qwen2.gguf")) == "qwen2"
    assert name_of(Path("other.json")) == "other"


def test_presets_at_any_size_are_those_that_are_built() -> None:
    found = presets()
    assert [preset.other_weights for preset in found] == sorted(preset.other_weights for preset in found)
    assert {"murashka", "krolik", "aist", "zubr", "nanochat", "expert_tiny"} <= {preset.name for preset in found}
    for preset in found:
        if preset.name not in ("murashka", "krolik", "expert_tiny"):
            continue
        model = preset_model([f"model={preset.name}", "tokenizer.vocab_size=9000"])
        weights = {name: weight.numel() for name, weight in model.named_parameters()}
        rows = sum(size for name, size in weights.items() if "embed_tokens" in name or "lm_head" in name)
        assert preset.embedding_frac(9003) == pytest.approx(rows / sum(weights.values()), rel=1e-12)


@pytest.fixture(scope="module")
def tales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tales")
    write_tales(folder, 200_000, seed=5)
    return folder


def test_sizes_are_learnt_as_a_run_learns_and_measured_on_other_text(tales: Path, tmp_path: Path) -> None:
    text = report_module.read_text([tales], 1 << 30, "tales")
    few, more, impossible = measure_sizes(text, [600, 300, 500_000])
    assert (few.vocab_size, more.vocab_size, impossible.vocab_size) == (300, 600, 500_000)
    assert (few.rows, more.rows, impossible.rows) == (303, 603, 0)
    assert "500000" in (impossible.error or "").replace(",", "")
    learnt, held_out = text.divide(10)
    assert len(learnt) + held_out.num_documents == text.num_documents
    for name in ("be", "ru", "uk", "en"):
        assert few.languages[name].chars == held_out.languages[name].num_chars
        assert few.languages[name].tokens > more.languages[name].tokens
    # The same text, prepared as for a run: one document is held back by both, so the merges are nearly the same.
    source = tmp_path / "texts.json"
    source.write_text(json.dumps(learnt, ensure_ascii=False), encoding="utf-8")
    prepared = prepare([Source(source)], TokenizerSpec(vocab_size=600), tmp_path / "cache", val_frac=1e-9)
    with open_vocabulary(prepared.folder) as vocabulary:
        assert measure(vocabulary, held_out).languages[ALL].tokens == more.languages[ALL].tokens


@pytest.fixture(scope="module")
def full_report(figures: VocabularyFigures, text: SampleText, tales: Path) -> Report:
    """A report with names and strings that a page must escape."""
    sizes = measure_sizes(report_module.read_text([tales], 1 << 30, "tales"), [300, 600])
    sizes = [
        replace(one, languages={"be": one.languages["be"], "code": one.languages["en"], ALL: one.languages[ALL]})
        for one in sizes
    ]
    other = replace(figures, name="<b>[red]Ўсё & нічога</b>", lost=[("<i>", "&amp;")])
    sizes.append(SizeFigures(9000, 0, {}, "the text is too short"))
    return Report(text, [figures, other], sizes, [Preset("murashka", 1000, 2)])


class PageReader(HTMLParser):
    """The headings and tables of a page, and what it would load."""

    VOID = ("meta", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.titles: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "h2":
            self.titles.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        elif self.open and self.open[-1] == "h2":
            self.titles[-1] += data


def test_the_page_holds_every_table_and_loads_nothing(full_report: Report) -> None:
    tables = list(tables_of(full_report))
    page = PageReader()
    page.feed(html_page("Ўсё <&>", tables, draw(full_report), "a remark"))
    assert page.open == []
    assert page.titles == [table.title for table in tables]
    assert page.tables == [[table.header, *table.rows] for table in tables]
    assert all(len(row) == len(table.header) for table in tables for row in table.rows)
    anchors = [link for link in page.links if link.startswith("#")]
    assert len(anchors) == len(tables)
    assert [link[:22] for link in page.links if link not in anchors] == ["data:image/png;base64,"]


def test_the_tables_show_what_was_measured(full_report: Report) -> None:
    tables = {table.title: table for table in tables_of(full_report)}
    figures = full_report.vocabularies[0]
    row = tables["Characters per token"].rows[0]
    one = figures.languages
    assert row[2:] == ["603", *(f"{one[name].chars / one[name].tokens:.2f}" for name in ("be", "code", ALL))]
    sizes = tables["Sizes of our tokenizer on this text"]
    assert [row[0] for row in sizes.rows] == ["300", "600"]
    assert sizes.rows[0][-1] == f"{606 / 1606:.1%}"
    assert sizes.note.endswith(" Not learnt: 9,000, for the text is too short.")
    assert tables["Strings that do not come back"].rows == [["<b>[red]Ўсё & нічога</b>", "'<i>'", "'&amp;'"]]
    words = tables["Frequent words cut most: " + figures.name].rows
    assert all("·" in row[4] for row in words)
    assert not any("Ð" in row[4] or "Ñ" in row[4] for row in words)
    console = Console(width=200, record=True)
    for table in tables.values():
        console.print(table.rich())
    printed = console.export_text()
    assert "[red]Ўсё" in printed
    assert "Characters per token" in printed


def test_without_matplotlib_the_rest_is_written(
    full_report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    write_report(full_report, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.json"}
    printed = capsys.readouterr().out
    assert "Characters per token" in printed
    for output in (printed, (tmp_path / "report.html").read_text(encoding="utf-8")):
        assert "uv pip install" in output
        assert "bulba[report]" in output


@pytest.mark.parametrize("count", [1, 9])
def test_the_picture_of_few_and_of_many(full_report: Report, count: int) -> None:
    many = replace(full_report, vocabularies=[full_report.vocabularies[-1]] * count, sizes=[])
    assert draw(many).startswith(b"\x89PNG")


def test_the_command_end_to_end(trained: Path, small_gguf: Path, tales: Path, tmp_path: Path) -> None:
    words = [f"tokenizer={trained}", f"text={tales}", f"others=[{small_gguf},{small_gguf}]", "sizes=[300,400]"]
    done = run_program("-m", "bulba", "tokenizer", "report", *words, f"out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.html", "report.json", "report.png"}
    assert (tmp_path / "out" / "report.png").read_bytes().startswith(b"\x89PNG")
    for title in ("Characters per token", "Tokens per word", "Sizes of our tokenizer"):
        assert title in done.stdout
    result = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    ours, first, second = result["vocabularies"]
    assert [ours["program"], first["program"], first["name"], second["name"]] == [
        "Bulba",
        "llama.cpp",
        "tiny-f32-unproved",
        "tiny-f32-unproved (2)",
    ]
    assert set(ours["languages"]) == {"be", "ru", "uk", "en", ALL}
    for name, one in ours["languages"].items():
        assert one["chars_per_token"] == one["chars"] / one["tokens"]
        assert one["tokens"] == first["languages"][name]["tokens"]
    assert result["text"]["origin"] == str(tales)
    assert [one["vocab_size"] for one in result["sizes"]] == [300, 400]
    assert [preset["name"] for preset in result["presets"]] == [preset.name for preset in presets()]


def test_a_run_is_measured_on_its_own_text(small_run: Path, tmp_path: Path) -> None:
    assert find_tokenizer(str(small_run)) == (small_run / "tokenizer", small_run)
    report_command(str(small_run), sizes=[], out=str(tmp_path), max_mb=0.2)
    result = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert result["text"]["origin"] == "the texts of the run small"
    assert 100_000 < result["text"]["bytes"] < 400_000
    assert result["vocabularies"][0]["name"] == "small"
    assert result["sizes"] == []


def test_a_lone_tokenizer_is_measured_on_tales(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "TALES_BYTES", 150_000)
    monkeypatch.chdir(tmp_path)
    report_command(str(trained), sizes=[])
    result = json.loads((tmp_path / "tokenizer_report" / "report.json").read_text(encoding="utf-8"))
    assert "because no text was given" in result["text"]["origin"]


def broken_json(folder: Path) -> str:
    (folder / "broken.json").write_text('{"model": 3}', encoding="utf-8")
    return "broken.json"


def broken_gguf(folder: Path) -> str:
    (folder / "broken.gguf").write_bytes(b"GGUF" + bytes(40))
    return "broken.gguf"


def gguf_without_vocabulary(folder: Path) -> str:
    writer = gguf.GGUFWriter(folder / "none.gguf", "llama")
    for name in ("context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"):
        writer.add_uint32(f"llama.{name}", 4)
    writer.add_string("tokenizer.ggml.model", "none")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return "none.gguf"


@pytest.mark.parametrize(
    ("make", "settings", "error", "sentence"),
    [
        (None, {"tokenizer": "absent.json"}, DataError, "there is no tokenizer at absent.json: give a tokenizer.json"),
        (None, {"tokenizer": "nobody"}, CheckpointError, "nobody is not a run folder; the newest runs in runs/ are"),
        (None, {"tokenizer": "last"}, CheckpointError, "there is no run in runs/ yet"),
        (broken_json, {"tokenizer": "broken.json"}, DataError, "broken.json is not a tokenizer.json that"),
        (broken_gguf, {"others": "broken.gguf"}, ExportError, "llama.cpp does not load broken.gguf"),
        (gguf_without_vocabulary, {"others": ["none.gguf"]}, ExportError, "none.gguf holds no vocabulary: give a GGUF"),
        (None, {"others": ["absent.gguf"]}, DataError, "there is no tokenizer at absent.gguf"),
        (None, {"text": "absent"}, DataError, "absent does not exist"),
        (None, {"text": ["empty.txt"]}, DataError, "no document was taken from empty.txt: give more text, or a larger"),
        (None, {"text": "bad.txt"}, DataError, "no document was taken from bad.txt (bad.txt, byte 3: not UTF-8"),
        (None, {"sizes": [100]}, ConfigError, "sizes=[100] must be a list of whole numbers from 256 on"),
        (None, {"sizes": 8000}, ConfigError, "sizes=8000 must be a list"),
        (None, {"max_mb": 0.0}, ConfigError, "max_mb=0.0 must be above 0"),
    ],
)
def test_bad_input_is_one_sentence(
    make: Any,
    settings: dict[str, Any],
    error: type[BulbaError],
    sentence: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "bad.txt").write_bytes(b"abc\xff")
    (tmp_path / "good.txt").write_text("Добры дзень.", encoding="utf-8")
    if make is not None:
        make(tmp_path)
    with pytest.raises(error) as caught:
        report_command(**{"tokenizer": str(trained), "text": "good.txt", "sizes": [], "out": "out"} | settings)
    assert sentence in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_without_llama_cpp_a_gguf_file_says_what_to_install(small_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with (
        pytest.raises(ExportError, match="the vocabulary of a GGUF file needs the Python package xllamacpp"),
        open_vocabulary(small_gguf),
    ):
        pass


def test_another_layout_of_llama_cpp_is_refused(small_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "MODEL_BOOLEANS", llama_cpp.MODEL_BOOLEANS - 8)
    with (
        pytest.raises(UnsupportedError, match="other fields: install one .*, or leave GGUF vocabularies out"),
        open_vocabulary(small_gguf),
    ):
        pass


def test_an_unknown_setting_is_named() -> None:
    done = run_program("-m", "bulba", "tokenizer", "report", "other=x")
    assert done.returncode == 2
    assert done.stderr.startswith("error: other is not an option of report_command; did you mean others?")


def test_our_own_tokenizer_runs_in_bulba(trained: Path, tmp_path: Path) -> None:
    with open_vocabulary(trained) as vocabulary:
        assert isinstance(vocabulary, BulbaVocabulary)
    with open_vocabulary(save_byte_level(tmp_path / "other.json", [])) as vocabulary:
        assert isinstance(vocabulary, HuggingFaceVocabulary)
