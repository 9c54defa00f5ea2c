"""The tokenizer against the programs that must agree with it, and against itself."""

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from bulba import _rust
from bulba.data.prepare import PreparedData
from bulba.data.tokenizer import Tokenizer, byte_alphabet
from bulba.data.tokens import TokenFile
from bulba.errors import DataError
from tests.data.conftest import SMALL_SPEC
from tests.data.stored import SPECIAL, StoredCorpus
from tests.hard_strings import HARD_STRINGS

# Unassigned characters may gain a normal form in a later Unicode than Python's.
ASSIGNED = st.text(st.characters(codec="utf-8", exclude_categories=["Cn"]))


def library(path: Path) -> tokenizers.Tokenizer:
    loaded = tokenizers.Tokenizer.from_file(str(path))
    loaded.encode_special_tokens = True
    return loaded


def rust_ids(prepared: PreparedData, texts: list[str]) -> list[list[int]]:
    return _rust.Encoder(prepared.tokenizer_path).encode_batch(texts)


def test_ids_equal_tokenizers_and_transformers(prepared: PreparedData, tokenizer: Tokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    auto = transformers.AutoTokenizer.from_pretrained(str(prepared.folder))
    reference = library(prepared.tokenizer_path)
    assert len(HARD_STRINGS) >= 200
    for text, ids in zip(HARD_STRINGS, rust_ids(prepared, HARD_STRINGS), strict=True):
        assert ids == reference.encode(text, add_special_tokens=False).ids, text
        assert ids == tokenizer.encode(text, bos=False), text
        assert auto(text, add_special_tokens=True, split_special_tokens=True)["input_ids"] == [tokenizer.bos_id, *ids]
    assert len(auto) == tokenizer.vocab_size
    assert (auto.bos_token_id, auto.eos_token_id, auto.pad_token_id) == (500, 501, 502)


@settings(deadline=None, max_examples=300)
@given(texts=st.lists(ASSIGNED, max_size=4))
def test_any_text_gets_the_same_ids_and_comes_back(
    prepared: PreparedData, tokenizer: Tokenizer, texts: list[str]
) -> None:
    reference = library(prepared.tokenizer_path)
    for text, ids in zip(texts, rust_ids(prepared, texts), strict=True):
        assert ids == reference.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


def test_hard_strings_come_back_in_nfc(tokenizer: Tokenizer) -> None:
    for text in HARD_STRINGS:
        assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)
        assert _rust.normalize(text) == unicodedata.normalize("NFC", text)


def test_another_pipeline_is_encoded_as_tokenizers_does(prepared: PreparedData, tmp_path: Path) -> None:
    """A GPT-2 shaped tokenizer takes the path that does not cut the pieces itself."""
    definition = json.loads(prepared.tokenizer_path.read_text(encoding="utf-8"))
    definition["pre_tokenizer"] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    # Such settings cut and pad what they are given; a corpus must not be.
    definition["truncation"] = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(definition), encoding="utf-8")
    reference = library(path)
    reference.no_truncation()
    ours = Tokenizer.load(path, *SPECIAL)
    for text, ids in zip(HARD_STRINGS, _rust.Encoder(path).encode_batch(HARD_STRINGS), strict=True):
        assert ids == reference.encode(text, add_special_tokens=False).ids == ours.encode(text, bos=False), text


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_a_batch_is_each_text_by_itself(num_threads: int, prepared: PreparedData) -> None:
    encoder = _rust.Encoder(prepared.tokenizer_path)
    expected = rust_ids(prepared, HARD_STRINGS)
    assert [encoder.encode(text) for text in HARD_STRINGS] == expected
    assert encoder.encode_batch(HARD_STRINGS, num_threads) == expected
    assert encoder.count_tokens(HARD_STRINGS, num_threads) == [len(ids) for ids in expected]
    assert encoder.encode_batch([], num_threads) == encoder.count_tokens([], num_threads) == []


def test_an_encoder_decodes_and_knows_its_vocabulary(prepared: PreparedData) -> None:
    encoder = _rust.Encoder(prepared.tokenizer_path)
    for text in HARD_STRINGS:
        assert encoder.decode(encoder.encode(text)) == unicodedata.normalize("NFC", text).encode()
    assert encoder.decode([501]) == b""
    assert (encoder.vocab_size, encoder.fingerprint) == (503, prepared.tokenizer_fingerprint)
    with pytest.raises(DataError, match=r"token id: expected an entry of the vocabulary of 503.*got 503"):
        encoder.decode([503])


def test_literal_markers_are_ordinary_text(tokenizer: Tokenizer) -> None:
    text = "a<|end_of_text|>b<|begin_of_text|>"
    ids = tokenizer.encode(text)
    assert ids[0] == tokenizer.bos_id
    assert max(ids[1:]) < SMALL_SPEC.vocab_size
    assert tokenizer.decode(ids) == text


def test_vocabulary_is_bytes_merges_and_then_the_special_tokens(prepared: PreparedData, tokenizer: Tokenizer) -> None:
    definition = json.loads(prepared.tokenizer_path.read_text(encoding="utf-8"))
    model = definition["model"]
    assert tokenizer.vocab_size == len(model["vocab"]) + 3 == 503
    assert set(byte_alphabet()) == {token for token, token_id in model["vocab"].items() if token_id < 256}
    assert model["ignore_merges"] is True
    assert definition["normalizer"] == {"type": "NFC"}
    split, byte_level = definition["pre_tokenizer"]["pretokenizers"]
    assert split["pattern"] == {
        "Regex": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    }
    assert (split["behavior"], byte_level["use_regex"], byte_level["add_prefix_space"]) == ("Isolated", False, False)
    assert [(token["id"], token["content"], token["special"]) for token in definition["added_tokens"]] == [
        (500 + place, name, True) for place, name in enumerate(SPECIAL)
    ]
    assert library(prepared.tokenizer_path).encode("a").ids[0] == tokenizer.bos_id


def test_bytes_of_tokens_are_the_text(tokenizer: Tokenizer) -> None:
    sizes = tokenizer.num_bytes_per_token()
    assert sizes.shape == (503,)
    for text in HARD_STRINGS:
        ids = tokenizer.encode(text)
        raw = unicodedata.normalize("NFC", text).encode()
        assert b"".join(tokenizer.token_bytes(token_id) for token_id in ids) == raw
        assert sizes[ids].sum() == len(raw)
    assert [tokenizer.token_bytes(token_id) for token_id in (500, 501, 502)] == [b"", b"", b""]
    with pytest.raises(DataError, match=r"token id 503 is outside the vocabulary.*0 to 502"):
        tokenizer.decode([503])


def test_a_stream_gives_whole_characters_and_all_of_the_text(tokenizer: Tokenizer) -> None:
    for text in HARD_STRINGS:
        normal = unicodedata.normalize("NFC", text)
        # Byte by byte is the hardest: every id is a part of a character.
        for ids in (tokenizer.encode(text), [tokenizer.encode(character, bos=False) for character in normal]):
            flat = [token_id for part in ids for token_id in (part if isinstance(part, list) else [part])]
            stream = tokenizer.stream()
            pieces = [stream.push(token_id) for token_id in flat]
            assert "".join(pieces) + stream.flush() == normal
            assert "\ufffd" in normal or not any("\ufffd" in piece for piece in pieces)
    stream = tokenizer.stream()
    (first, *_) = tokenizer.encode("🥔", bos=False)
    assert stream.push(first) == ""
    assert stream.flush() == "\ufffd"


def test_save_and_load_keep_everything(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path / "saved", model_max_length=256)
    again = Tokenizer.load(tmp_path / "saved")
    assert (
        again.fingerprint == tokenizer.fingerprint == Tokenizer.load(tmp_path / "saved" / "tokenizer.json").fingerprint
    )
    assert (again.bos_id, again.eos_id, again.pad_id) == (500, 501, 502)
    config = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert (config["model_max_length"], config["tokenizer_class"]) == (256, "PreTrainedTokenizerFast")
    assert json.loads((tmp_path / "saved" / "special_tokens_map.json").read_text())["pad_token"] == "<|pad|>"


CHANGES: dict[str, tuple[Any, str]] = {
    "word level": (lambda d: d["model"].update(type="WordLevel"), "its model is WordLevel, not BPE"),
    "unigram": (lambda d: d.update(model={"type": "Unigram", "vocab": [["a", 0.0]]}), "its model is Unigram"),
    "no byte level": (lambda d: d.update(pre_tokenizer={"type": "Whitespace"}), "does not work on bytes"),
    "other decoder": (lambda d: d.update(decoder={"type": "WordPiece"}), "does not work on bytes"),
    "lowercase": (lambda d: d.update(normalizer={"type": "Lowercase"}), "its normalizer Lowercase changes the text"),
    "prefix space": (
        lambda d: d["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True),
        "a space before every text",
    ),
    "missing byte": (lambda d: d["model"]["vocab"].pop("!"), "lacks some of the 256 bytes"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_tokenizers_that_change_the_text_are_refused(change: str, prepared: PreparedData, tmp_path: Path) -> None:
    edit, reason = CHANGES[change]
    definition = json.loads(prepared.tokenizer_path.read_text(encoding="utf-8"))
    edit(definition)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(definition))
    with pytest.raises(DataError, match=f"cannot be used, .*{reason}.*byte-level BPE"):
        Tokenizer.load(path, *SPECIAL)


def test_unigram_wordpiece_and_sentencepiece_are_refused_in_one_sentence(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Library
    from tokenizers import models, pre_tokenizers

    llama2 = Library(models.BPE({"<unk>": 0, "▁": 1, "а": 2}, [], unk_token="<unk>", byte_fallback=True))
    llama2.pre_tokenizer = pre_tokenizers.Metaspace()
    libraries = {
        "its model is Unigram, not BPE": Library(models.Unigram([("<unk>", 0.0), ("а", -1.0)], 0, False)),
        "its model is WordPiece, not BPE": Library(models.WordPiece({"[UNK]": 0, "а": 1}, unk_token="[UNK]")),
        "it does not work on bytes": llama2,
    }
    path = tmp_path / "tokenizer.json"
    for reason, library in libraries.items():
        library.save(str(path))
        for place in (path, tmp_path):
            with pytest.raises(DataError, match=f"tokenizer.json cannot be used, {reason}.*: give a byte-level BPE"):
                Tokenizer.load(place)
    path.unlink()
    model = tmp_path / "tokenizer.model"
    model.write_bytes(b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02")
    for place in (model, tmp_path):
        with pytest.raises(DataError, match=r"tokenizer\.model cannot be used, it is a SentencePiece model: give the"):
            Tokenizer.load(place)
    with pytest.raises(DataError, match=r"cannot read the tokenizer .*other\.model"):
        Tokenizer.load(tmp_path / "other.model")


def test_missing_and_broken_tokenizer_files_are_named(prepared: PreparedData, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the tokenizer .*nowhere"):
        Tokenizer.load(tmp_path / "nowhere")
    (tmp_path / "tokenizer.json").write_bytes(prepared.tokenizer_path.read_bytes())
    with pytest.raises(DataError, match=r"tokenizer_config\.json does not name bos_token"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(
        '{"bos_token": {"content": "<|begin_of_text|>"}, "eos_token": "<e>"}'
    )
    with pytest.raises(DataError, match="has no token '<e>' for its eos_token"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("[1")
    with pytest.raises(DataError, match=r"tokenizer\.json is not JSON"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("[1]")
    with pytest.raises(DataError, match="not an object"):
        Tokenizer.load(tmp_path)


def train(folder: Path, texts: list[str], **changes: Any) -> bytes:
    StoredCorpus(folder, texts).train(folder / "tokenizer.json", **changes)
    return (folder / "tokenizer.json").read_bytes()


def random_texts(seed: int) -> list[str]:
    """Few letters and many repeats: the case with the most ties between pairs."""
    draw = random.Random(seed)
    return ["".join(draw.choices("абвг --", k=draw.randint(1, 60))) for _ in range(300)]


@pytest.mark.parametrize("seed", range(4))
def test_training_is_the_same_with_any_number_of_threads(seed: int, tmp_path: Path) -> None:
    texts = random_texts(seed)
    first = train(tmp_path, texts, num_threads=1)
    assert all(train(tmp_path, texts, num_threads=threads) == first for threads in (1, 2, 3, 2))


def test_training_learns_what_the_library_learns(tmp_path: Path) -> None:
    texts = random_texts(7)
    ours = json.loads(train(tmp_path, [*texts, "held out"], val_frac=1e-9))["model"]
    definition = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    definition["model"] = {"type": "BPE", "vocab": {}, "merges": []}
    reference = tokenizers.Tokenizer.from_str(json.dumps(definition | {"added_tokens": [], "post_processor": None}))
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        min_frequency=2,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    held_out = set(held_out_texts(tmp_path, [*texts, "held out"], 1e-9))
    reference.train_from_iterator([text for text in [*texts, "held out"] if text not in held_out], trainer)
    theirs = json.loads(reference.to_str())["model"]
    assert ours["vocab"] == theirs["vocab"]
    assert ours["merges"] == theirs["merges"]


def held_out_texts(folder: Path, texts: list[str], val_frac: float) -> list[str]:
    """The texts that training with the same texts and share did not see."""
    StoredCorpus(folder, texts).write(folder / "tokenizer.json", folder, val_frac)
    file = TokenFile(folder / "val.bin")
    loaded = Tokenizer.load(folder / "tokenizer.json", *SPECIAL)
    return [loaded.decode(file.document(index).tolist()) for index in range(file.num_documents)]


def test_training_refuses_what_cannot_be_learnt(tmp_path: Path) -> None:
    texts = ["адзін два тры", "чатыры пяць"]
    with pytest.raises(
        DataError, match=r"supports 2\d\d tokens but tokenizer.vocab_size=5000.*set tokenizer.vocab_size"
    ):
        train(tmp_path, texts, vocab_size=5000)
    with pytest.raises(DataError, match=r"tokenizer.vocab_size: expected 256"):
        train(tmp_path, texts, vocab_size=255)
    with pytest.raises(DataError, match=r"tokenizer.special_tokens: expected distinct"):
        train(tmp_path, texts, special_tokens=["<a>", "<a>"], bos_token="<a>")
    with pytest.raises(DataError, match=r"tokenizer.bos_token: expected one of the special tokens"):
        train(tmp_path, texts, special_tokens=["<a>"], bos_token="<b>")
    with pytest.raises(DataError, match='special token "a" is also an ordinary entry'):
        train(tmp_path, texts, vocab_size=257, special_tokens=["a"], bos_token="a")
    assert not (tmp_path / "tokenizer.json").exists()


def test_training_learns_from_training_documents_only(tmp_path: Path) -> None:
    """Whatever side a text falls on, a tokenizer of the other side cannot know its words."""
    words = [f"{word} " * 50 for word in ("бульба", "цыбуля", "морква", "капуста", "гарох", "жыта")]
    with pytest.raises(DataError) as caught:
        train(tmp_path, words, vocab_size=5000, val_frac=0.5)
    supported = int(str(caught.value).split("supports ")[1].split()[0])
    learnt = train(tmp_path, words, vocab_size=supported, val_frac=0.5)
    vocabulary = set(json.loads(learnt)["model"]["vocab"])
    StoredCorpus(tmp_path, words).write(tmp_path / "tokenizer.json", tmp_path, 0.5)
    loaded = Tokenizer.load(tmp_path / "tokenizer.json", *SPECIAL)
    byte_to_character = {byte: character for character, byte in byte_alphabet().items()}
    whole = {"train": 0, "val": 0}
    for side in whole:
        file = TokenFile(tmp_path / f"{side}.bin")
        for index in range(file.num_documents):
            word = loaded.decode(file.document(index).tolist()).split()[0]
            spelt = "".join(byte_to_character[byte] for byte in word.encode())
            whole[side] += spelt in vocabulary or "Ġ" + spelt in vocabulary
    assert whole["train"] > 0
    assert whole["train"] + whole["val"] < len(words)
    assert whole["val"] == 0
