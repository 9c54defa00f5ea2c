"""Token files through numpy: what they hold, a second reader, and files that must be refused."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from bulba.data.prepare import PreparedData
from bulba.data.sampler import Sampler
from bulba.data.tokenizer import Tokenizer
from bulba.data.tokens import TokenFile
from bulba.errors import DataError
from tests.data import token_file_reader
from tests.data.golden.make import FOLDER, GOLDEN, Golden, to_bytes
from tests.data.stored import StoredCorpus
from tests.hard_strings import HARD_STRINGS


@pytest.fixture(scope="module")
def file(prepared: PreparedData) -> TokenFile:
    return TokenFile(prepared.train_path, prepared.tokenizer_fingerprint)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files_are_what_both_readers_say(name: str) -> None:
    golden, path = GOLDEN[name], FOLDER / f"{name}.bin"
    assert path.read_bytes() == to_bytes(golden), "run python -m tests.data.golden.make"
    contents, file = token_file_reader.read(path), TokenFile(path, bytes(range(100, 132)).hex())
    file.verify()
    assert file.sources == contents.sources == golden.sources
    assert contents.documents == [document.ids for document in golden.documents]
    assert [file.document(index).tolist() for index in range(file.num_documents)] == contents.documents
    names = [(number, files) for number, (_, files) in enumerate(golden.sources) for files in files]
    for index, document in enumerate(golden.documents):
        described = file.describe(index)
        assert (described.source, described.file) == names[document.origin]
        assert described.source == contents.document_sources[index] == file.document_source(index)
        assert index in file.source_spans[described.source]
        assert described.language == ("other", "be", "ru", "uk", "en", "code")[contents.languages[index]]
        assert contents.origins[index] == document.origin
    special = [None if number == 2**32 - 1 else number for number in golden.special_ids]
    assert [file.bos_id, file.eos_id, file.pad_id] == special
    assert file.text_bytes == golden.text_bytes == contents.header["text_bytes"]
    assert (file.vocab_size, file.num_tokens) == (golden.vocab_size, sum(map(len, contents.documents)))


def test_prepared_files_are_read_by_the_second_reader(file: TokenFile) -> None:
    contents = token_file_reader.read(file.path)
    assert contents.documents == [file.document(index).tolist() for index in range(file.num_documents)]
    assert contents.header["fingerprint"].hex() == file.tokenizer_fingerprint


def test_documents_are_bos_text_eos(file: TokenFile, prepared: PreparedData, tokenizer: Tokenizer) -> None:
    sizes = tokenizer.num_bytes_per_token()
    text_bytes = 0
    for index in range(file.num_documents):
        ids = file.document(index)
        assert (ids[0], ids[-1]) == (tokenizer.bos_id, tokenizer.eos_id)
        text = tokenizer.decode(ids.tolist())
        assert tokenizer.encode(text) == ids[:-1].tolist()
        assert file.document_source(index) == 0
        text_bytes += int(sizes[ids].sum())
    assert text_bytes == file.text_bytes
    assert (file.bos_id, file.eos_id, file.pad_id) == (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)
    assert file.vocab_size == tokenizer.vocab_size
    file.verify()


def test_encoding_is_the_same_with_any_number_of_threads(prepared: PreparedData, tmp_path: Path) -> None:
    corpus = StoredCorpus(tmp_path, [f"{number} {text}" for number in range(20) for text in HARD_STRINGS])
    results = []
    for threads in (1, 2, 3):
        out = tmp_path / str(threads)
        corpus.write(prepared.tokenizer_path, out, 0.1, seed=1, num_threads=threads)
        results.append([(out / name).read_bytes() for name in ("train.bin", "val.bin")])
    assert results[0] == results[1] == results[2]


def test_a_file_pickles_as_its_path(file: TokenFile) -> None:
    again = pickle.loads(pickle.dumps(file))
    np.testing.assert_array_equal(again.read(0, 50), file.read(0, 50))


def test_documents_and_tokens_that_are_not_there(file: TokenFile) -> None:
    with pytest.raises(DataError, match="document: expected below"):
        file.document(file.num_documents)
    with pytest.raises(DataError, match="start: expected tokens up to"):
        file.read(file.num_tokens, 1)


def test_damaged_and_foreign_files_are_refused(prepared: PreparedData, tmp_path: Path) -> None:
    content = prepared.train_path.read_bytes()
    path = tmp_path / "train.bin"

    def refused(changed: bytes, message: str, fingerprint: str | None = None) -> None:
        path.write_bytes(changed)
        with pytest.raises(DataError, match=message) as caught:
            TokenFile(path, fingerprint).verify()
        assert str(path) in str(caught.value) or "tokenizer_fingerprint" in message

    tokens = int.from_bytes(content[152:160], "little")
    damaged = bytearray(content)
    damaged[tokens + 7] ^= 1
    refused(content[:-1], rf"size of the file .* should be {len(content)} bytes but is {len(content) - 1} bytes")
    refused(content[:100], "magic of a token file .* a file of 100 bytes")
    refused(b"", "a file of 0 bytes")
    refused(b"GGUF" + content[4:], r'should be "BULBATOK" but is "GGUFATOK"')
    refused(content[:8] + b"\x01" + content[9:], "format version 1 at byte 8 .* version 2: prepare the data again")
    refused(content[:8] + content[11:7:-1] + content[12:], "big-endian order from byte 0 .* prepare the data again")
    refused(content[:73] + b"\xff" + content[74:], "header checksum at byte 248")
    refused(bytes(damaged), f"checksum of the block at byte {tokens} ")
    refused(content[:-1] + bytes([content[-1] ^ 1]), "checksum of the checksums")
    refused(content, "another tokenizer .*prepare the data with the tokenizer of this run", "0" * 64)
    refused(content, "tokenizer_fingerprint: expected 64 hexadecimal digits", "xyz")
    with pytest.raises(DataError, match=r"cannot open .*nowhere\.bin"):
        TokenFile(tmp_path / "nowhere.bin")


def test_an_id_outside_the_vocabulary_never_reaches_the_model(tmp_path: Path) -> None:
    documents = GOLDEN["u16"].documents
    content = bytearray(to_bytes(Golden(300, (0, 1, 2), [("a", ["b"])], documents, 1)))
    last = int.from_bytes(content[152:160], "little") + 2 * sum(len(document.ids) for document in documents) - 2
    content[last : last + 2] = b"\xff\xff"
    (tmp_path / "train.bin").write_bytes(content)
    rows = Sampler(TokenFile(tmp_path / "train.bin"), 16)
    arrays = np.empty((2, rows.num_units, 16), np.int64)
    with pytest.raises(DataError, match=f"a token id at byte {last} .* below the vocabulary size 300 but is 65535"):
        rows.fill(0, rows.num_units, *arrays)
