"""Token files and samples through numpy: values, buffers, and files that must be refused."""

import pickle
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulba import _rust
from bulba.data.prepare import PreparedData
from bulba.data.tokenizer import Tokenizer
from bulba.data.tokens import IGNORE_TARGET, TokenFile
from bulba.errors import DataError
from tests.hard_strings import HARD_STRINGS


@pytest.fixture(scope="module")
def file(prepared: PreparedData) -> TokenFile:
    return TokenFile(prepared.train_path, prepared.tokenizer_fingerprint)


def buffers(count: int, seq_len: int) -> dict[str, Any]:
    return {
        "inputs": np.full((count, seq_len), 77, np.int64),
        "targets": np.full((count, seq_len), 77, np.int64),
        "positions": np.full((count, seq_len), 77, np.int32),
        "documents": np.full((count, seq_len), 77, np.int32),
    }


def fill(file: TokenFile, first: int, count: int, seq_len: int, seed: int | None) -> tuple[int, dict[str, Any]]:
    arrays = buffers(count, seq_len)
    return file.fill(first, count, seed, **arrays), arrays


def reference(file: TokenFile, row: int, seq_len: int) -> dict[str, list[int]]:
    """One full row from the documents, token by token."""
    stream = [(int(t), d) for d in range(file.num_documents) for t in file.document(d)]
    start = row * seq_len
    out: dict[str, list[int]] = {"inputs": [], "targets": [], "positions": [], "documents": []}
    for at in range(start, start + seq_len):
        (token, document), (following, next_document) = stream[at], stream[at + 1]
        same = at > start and stream[at - 1][1] == document
        out["inputs"].append(token)
        out["targets"].append(following if document == next_document else IGNORE_TARGET)
        out["positions"].append(out["positions"][-1] + 1 if same else 0)
        out["documents"].append(document - stream[start][1])
    return out


@pytest.mark.parametrize("seq_len", [1, 7, 64])
def test_rows_equal_the_documents(file: TokenFile, seq_len: int) -> None:
    for row in {0, 1, 5, file.num_rows(seq_len) - 1}:
        _, arrays = fill(file, row, 1, seq_len, None)
        for name, expected in reference(file, row, seq_len).items():
            assert arrays[name][0].tolist() == expected, name


@settings(deadline=None)
@given(data=st.data())
def test_chunks_of_samples_are_one_sequence(file: TokenFile, data: st.DataObject) -> None:
    seq_len = data.draw(st.integers(1, 300))
    seed = data.draw(st.integers(0, 2**64 - 1))
    first, count = data.draw(st.integers(0, 10**12)), data.draw(st.integers(1, 20))
    cut = data.draw(st.integers(0, count))
    targets, whole = fill(file, first, count, seq_len, seed)
    head_targets, head = fill(file, first, cut, seq_len, seed)
    tail_targets, tail = fill(file, first + cut, count - cut, seq_len, seed)
    for name, array in whole.items():
        np.testing.assert_array_equal(array, np.concatenate([head[name], tail[name]]))
    assert targets == head_targets + tail_targets == (whole["targets"] != IGNORE_TARGET).sum()
    assert targets == file.count_targets(first, count, seq_len, seed)


def test_every_epoch_holds_every_row_once_in_another_order(file: TokenFile) -> None:
    seq_len = 32
    rows = file.num_rows(seq_len)
    _, natural = fill(file, 0, rows, seq_len, None)
    epochs = [fill(file, epoch * rows, rows, seq_len, 9)[1]["inputs"] for epoch in range(3)]
    for epoch in epochs:
        assert Counter(map(bytes, epoch)) == Counter(map(bytes, natural["inputs"]))
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0], fill(file, 0, rows, seq_len, 10)[1]["inputs"])


def test_an_evaluation_sees_every_target_once_and_padding_counts_nothing(file: TokenFile) -> None:
    seq_len = 100
    rows = file.num_rows(seq_len, partial=True)
    assert rows == file.num_rows(seq_len) + 1
    targets, arrays = fill(file, 0, rows + 2, seq_len, None)
    assert targets == file.num_tokens - file.num_documents
    padded = arrays["targets"][rows - 1] == IGNORE_TARGET
    tail = (file.num_tokens - 1) % seq_len
    assert padded[tail:].all()
    assert (arrays["inputs"][rows - 1, tail:] == file.pad_id).all()
    last = arrays["documents"][rows - 1]
    assert (last[tail:] == last[tail - 1] + 1).all()
    assert (arrays["targets"][rows:] == IGNORE_TARGET).all()


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
    writer = _rust.CorpusWriter(tmp_path / "corpus")
    writer.add_documents([f"{number} {text}" for number in range(20) for text in HARD_STRINGS], 0)
    writer.finish()
    results = []
    for threads in (1, 2, 3):
        out = tmp_path / str(threads)
        out.mkdir()
        _rust.encode_corpus(
            tmp_path / "corpus",
            prepared.tokenizer_path,
            out,
            bos_id=500,
            eos_id=501,
            val_frac=0.1,
            seed=1,
            weights=[1.0],
            num_threads=threads,
        )
        results.append([(out / name).read_bytes() for name in ("train.bin", "val.bin")])
    assert results[0] == results[1] == results[2]


def test_a_file_pickles_as_its_path(file: TokenFile) -> None:
    again = pickle.loads(pickle.dumps(file))
    np.testing.assert_array_equal(again.read(0, 50), file.read(0, 50))


def test_threads_read_the_same(file: TokenFile) -> None:
    _, expected = fill(file, 0, 64, 64, 1)
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(fill(file, 0, 64, 64, 1)[1])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        np.testing.assert_array_equal(result["inputs"], expected["inputs"])


def test_wrong_buffers_are_refused(file: TokenFile) -> None:
    good = buffers(2, 8)
    read_only = np.zeros((2, 8), np.int64)
    read_only.flags.writeable = False
    whole = np.zeros((2, 16), np.int64)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"inputs": np.zeros((2, 8), np.int32)}, "inputs: expected an array of int64"),
        ({"positions": np.zeros((2, 8), np.int64)}, "positions: expected an array of int32"),
        ({"documents": np.zeros((2, 9), np.int32)}, "documents: expected shape"),
        ({"targets": read_only}, "targets: expected a writable C-contiguous"),
        ({"targets": whole[:, ::2]}, "targets: expected a writable C-contiguous"),
        ({"inputs": np.zeros(16, np.int64)}, "inputs: expected a writable C-contiguous array of 2 dimensions"),
        ({"targets": good["inputs"]}, "expected separate arrays, got overlapping"),
        ({"inputs": "text"}, "inputs: expected an array of int64"),
    ]
    for wrong, message in cases:
        with pytest.raises(DataError, match=message):
            file.fill(0, 2, 1, **(good | wrong))
    with pytest.raises(DataError, match="expected 3 rows, got 2 rows"):
        file.fill(0, 3, 1, **good)
    with pytest.raises(DataError, match="document: expected below"):
        file.document(file.num_documents)
    with pytest.raises(DataError, match="start: expected tokens up to"):
        file.read(file.num_tokens, 1)


def test_a_corpus_smaller_than_a_row_says_what_to_do(file: TokenFile) -> None:
    file.check_rows(file.num_tokens - 1)
    with pytest.raises(
        DataError, match=rf"holds {file.num_tokens} tokens .*needs {file.num_tokens + 1}: set a smaller"
    ):
        file.check_rows(file.num_tokens)
    assert file.num_rows(file.num_tokens, partial=True) == 1
    with pytest.raises(DataError, match=r"data\.seq_len"):
        file.num_rows(0)


def test_damaged_and_foreign_files_are_refused(prepared: PreparedData, tmp_path: Path) -> None:
    content = prepared.train_path.read_bytes()
    path = tmp_path / "train.bin"

    def refused(changed: bytes, message: str, fingerprint: str | None = None) -> None:
        path.write_bytes(changed)
        with pytest.raises(DataError, match=message):
            TokenFile(path, fingerprint).verify()

    refused(content[:-1], rf"size of the file .* should be {len(content)} bytes but is {len(content) - 1} bytes")
    refused(content[:100], "magic of a token file .* a file of 100 bytes")
    refused(b"", "a file of 0 bytes")
    refused(b"GGUF" + content[4:], r'should be "BULBATOK" but is "GGUFATOK"')
    refused(content[:8] + b"\x09" + content[9:], "format version at byte 8 should be 1 but is 9")
    refused(content[:73] + b"\xff" + content[74:], "header checksum at byte 248")
    refused(content[:-1] + bytes([content[-1] ^ 1]), "checksum of the tokens")
    refused(content, "another tokenizer .*prepare the data with the tokenizer of this run", "0" * 64)
    refused(content, "tokenizer_fingerprint: expected 64 hexadecimal digits", "xyz")
    with pytest.raises(DataError, match=r"cannot open .*nowhere\.bin"):
        TokenFile(tmp_path / "nowhere.bin")


def test_an_id_outside_the_vocabulary_never_reaches_the_model(prepared: PreparedData, tmp_path: Path) -> None:
    content = bytearray(prepared.train_path.read_bytes())
    content[-2:] = b"\xff\xff"
    (tmp_path / "train.bin").write_bytes(content)
    damaged = TokenFile(tmp_path / "train.bin")
    last = damaged.num_rows(16, partial=True) - 1
    with pytest.raises(DataError, match="a token id at byte .* below the vocabulary size 503 but is 65535"):
        fill(damaged, last, 1, 16, None)
