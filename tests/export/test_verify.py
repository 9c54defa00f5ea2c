"""The gate catches files that look right and behave wrong, and says where."""

from __future__ import annotations

import ctypes
import json
import math
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import bulba.export.gguf as gguf_module
import bulba.export.llama_cpp as llama_cpp
import bulba.export.rotary as rotary_module
import bulba.export.verify as verify_module
from bulba.data.tokenizer import Tokenizer
from bulba.errors import ExportError, UnsupportedError
from bulba.export.architecture import read_architecture
from bulba.export.certificate import Certificate
from bulba.export.gguf import export_gguf
from bulba.export.hard_strings import HARD_STRINGS as SHIPPED_STRINGS
from bulba.export.hard_strings import PROMPTS
from bulba.export.llama_cpp import Block, LlamaCpp, load_library, open_llama_cpp
from bulba.export.rounding import round_activations, round_weights
from bulba.export.types import K_TYPES, GgufType, dequantize, quantize, stored_type
from bulba.export.verify import check_logits, describe_ids
from bulba.export.vocab import Vocab, read_vocab
from bulba.model.gpt import GPT
from tests.hard_strings import HARD_STRINGS
from tests.model.tiny import tiny_gpt

# llama.cpp takes the long s for the s of a contraction no more than Unicode 16 letters for letters.
KNOWN_DIFFERENCES = {"'\u017fx 'Sx '\u017f"}


def rejected(checkpoint: Path, tokenizer_json: Path, out: Path, kind: GgufType) -> str:
    """The sentence with which an export is refused, after a look at what it leaves behind."""
    path = out / f"tiny-{kind}.gguf"
    with pytest.raises(ExportError, match=rf"^tiny-{kind}\.gguf does not behave as the checkpoint: .*\.$") as caught:
        export_gguf(checkpoint, tokenizer_json, out / "tiny", kind)
    assert {entry.name for entry in out.iterdir()} == {
        f"{path.name}.rejected",
        f"tiny-{kind}.certificate.json",
        f"tiny-{kind}.certificate.md",
    }
    fault = json.loads(path.with_suffix(".certificate.json").read_text(encoding="utf-8"))["fault"]
    assert fault in str(caught.value)
    return str(caught.value)


@pytest.fixture
def _behaviour_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults that the contents would show at once must be seen in what llama.cpp does, too."""
    monkeypatch.setattr(verify_module, "contents_fault", lambda *_: None)


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0"])
def test_a_missing_permutation_is_caught(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, kind: GgufType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotary_module, "interleave_halves", lambda rows, head_dim: rows)
    sentence = rejected(checkpoint, tokenizer_json, tmp_path / "out", kind)
    assert "standard deviations from Bulba's" in sentence
    assert "after the prompt" in sentence


@pytest.mark.usefixtures("_behaviour_alone")
@pytest.mark.parametrize("wrong", [{"rope.freq_base": 10100.0}, {"attention.layer_norm_rms_epsilon": 1e-4}])
def test_slightly_wrong_metadata_is_caught_in_f32(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, wrong: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = read_architecture(checkpoint, "a GGUF file")
    metadata = model.metadata | {f"llama.{key}": value for key, value in wrong.items()}
    assert metadata.keys() == model.metadata.keys()
    monkeypatch.setattr(gguf_module, "read_architecture", lambda *args: replace(model, metadata=metadata))
    assert "explains no more than 0.001" in rejected(checkpoint, tokenizer_json, tmp_path / "out", "f32")


@pytest.mark.usefixtures("_behaviour_alone")
def test_swapped_merges_are_caught(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(path: Path) -> Vocab:
        vocab = read_vocab(path)
        vocab.merges.reverse()
        return vocab

    monkeypatch.setattr(gguf_module, "read_vocab", swapped)
    sentence = rejected(checkpoint, tokenizer_json, tmp_path / "out", "f32")
    assert "of the text" in sentence
    assert "in Bulba and" in sentence


def test_a_wrong_pre_tokenizer_is_caught(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_module, "PRE_TOKENIZER", "gpt-2")
    assert "of the text" in rejected(checkpoint, tokenizer_json, tmp_path / "out", "f32")


@pytest.mark.usefixtures("_behaviour_alone")
def test_wrong_special_ids_and_swapped_tokens_are_caught(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocab = read_vocab(tokenizer_json)
    with monkeypatch.context() as patch:
        patch.setattr(gguf_module, "read_vocab", lambda _: replace(vocab, eos_id=vocab.bos_id))
        assert "(number of tokens, bos, eos)" in rejected(checkpoint, tokenizer_json, tmp_path / "a", "f32")
    tokens = [vocab.tokens[1], vocab.tokens[0], *vocab.tokens[2:]]
    monkeypatch.setattr(gguf_module, "read_vocab", lambda _: replace(vocab, tokens=tokens))
    assert "token 0 is b'!' in Bulba and b'\"' in llama.cpp" in rejected(
        checkpoint, tokenizer_json, tmp_path / "b", "f32"
    )


def test_a_file_that_llama_cpp_does_not_load_is_rejected_with_its_reason(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_module, "PRE_TOKENIZER", "no-such-pre-tokenizer")
    sentence = rejected(checkpoint, tokenizer_json, tmp_path / "out", "f32")
    assert "llama.cpp does not load it" in sentence
    assert "no-such-pre-tokenizer" in sentence


@pytest.fixture(scope="module")
def gguf_file(tokenizer_json: Path, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from bulba.checkpoint import save_checkpoint
    from tests.export.conftest import SIZES

    folder = tmp_path_factory.mktemp("gguf")
    model = tiny_gpt(vocab_size=tokenizer.vocab_size, **SIZES)
    save_checkpoint(folder / "checkpoint", model.get_model_config(), model.state_dict(), {})
    return export_gguf(folder / "checkpoint", tokenizer_json, folder / "tiny", "f32", verify=False)


def test_llama_cpp_splits_every_hard_string_as_bulba_does(gguf_file: Path, tokenizer: Tokenizer) -> None:
    assert len(set(SHIPPED_STRINGS)) == len(SHIPPED_STRINGS) >= 200
    with open_llama_cpp(gguf_file, 1, 64, 1) as llama:
        for text in {*HARD_STRINGS, *SHIPPED_STRINGS} - KNOWN_DIFFERENCES:
            ids = tokenizer.encode(text)
            assert llama.tokenize(unicodedata.normalize("NFC", text)) == ids, text
            assert b"".join(map(llama.piece, ids)).decode() == unicodedata.normalize("NFC", text)
        for special in ("<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"):
            ids = llama.tokenize(special, bos=False, parse_special=True)
            assert len(ids) == 1
            assert llama.piece(ids[0]) == b""


def test_texts_that_grow_side_by_side_are_those_that_grow_alone(gguf_file: Path, tokenizer: Tokenizer) -> None:
    prompts = [tokenizer.encode(text) for text in ("", "Жыў-быў", "Once upon a time")]
    steps = [20, 1, 7]
    with open_llama_cpp(gguf_file, 3, 64, 1) as llama:
        together, logits = llama.continue_greedily(prompts, steps)
    for index, prompt in enumerate(prompts):
        with open_llama_cpp(gguf_file, 1, 64, 1) as llama:
            alone, rows = llama.continue_greedily([prompt], [steps[index]])
        assert together[index] == alone[0]
        assert logits[index].shape == (steps[index], tokenizer.vocab_size)
        np.testing.assert_allclose(logits[index], rows[0], atol=1e-4)


def own_logits(model: GPT, prompts: list[list[int]], steps: int) -> tuple[list[list[int]], list[NDArray[np.float32]]]:
    """What a perfect llama.cpp would answer."""
    ids: list[list[int]] = []
    logits = []
    for prompt in prompts:
        text, rows = list(prompt), []
        for _ in range(steps):
            with torch.no_grad():
                rows.append(model.logits(model(torch.tensor([text]))[0, -1]).numpy())
            text.append(int(rows[-1].argmax()))
        ids.append(text[len(prompt) :])
        logits.append(np.stack(rows))
    return ids, logits


def judge(tokenizer: Tokenizer, spoil: Any) -> tuple[str | None, Certificate]:
    """The verdict on a perfect f32 answer after `spoil(ids, logits)` has changed it."""
    model = tiny_gpt(vocab_size=tokenizer.vocab_size)
    prompts = [tokenizer.encode(text) for text in PROMPTS]
    ids, logits = own_logits(model, prompts, 3)
    spoil(ids, logits)
    report = Certificate("tiny-f32.gguf", "", "", "f32", "llama", "", "")
    return check_logits(model, [], {}, tokenizer, prompts, ids, logits, report), report


def test_a_perfect_answer_passes(tokenizer: Tokenizer) -> None:
    fault, report = judge(tokenizer, lambda ids, logits: None)
    assert (fault, report.divergences) == (None, [])
    assert report.num_positions == 3 * len(PROMPTS)


@pytest.mark.parametrize("value", [5.0, float("nan"), float("inf")])
def test_one_wrong_logit_anywhere_is_a_fault(tokenizer: Tokenizer, value: float) -> None:
    def spoil(ids: Any, logits: Any) -> None:
        logits[4][2, 17] = value

    fault, report = judge(tokenizer, spoil)
    assert fault is not None
    stored = json.loads(report.to_json())["max_difference_sd"]
    assert stored is None if math.isnan(value) or math.isinf(value) else stored > 1
    assert f"after the prompt {PROMPTS[4]!r} the logits at new token 2 are" in fault


def test_another_token_is_a_fault_unless_bulba_holds_both_for_equal(tokenizer: Tokenizer) -> None:
    def take_second(ids: Any, logits: Any) -> None:
        ids[4][2] = int(np.argsort(logits[4][2])[-2])

    fault, report = judge(tokenizer, take_second)
    assert fault is not None
    place = report.divergences[0]
    assert (place.prompt, place.position) == (PROMPTS[4], 2)
    assert f"at new token 2 Bulba writes {place.bulba_token} and llama.cpp {place.llama_cpp_token}" in fault


def test_a_tie_is_reported_and_accepted(tokenizer: Tokenizer) -> None:
    model = tiny_gpt(vocab_size=tokenizer.vocab_size)
    prompts = [tokenizer.encode(text) for text in PROMPTS]
    first = own_logits(model, prompts, 1)[0][0][0]
    twin = (first + 1) % tokenizer.vocab_size
    with torch.no_grad():
        model.embed_tokens.weight[twin] = model.embed_tokens.weight[first]
    ids, logits = own_logits(model, prompts, 1)
    assert ids[0][0] in (first, twin)
    ids[0][0] = first + twin - ids[0][0]
    report = Certificate("tiny-f32.gguf", "", "", "f32", "llama", "", "")
    assert check_logits(model, [], {}, tokenizer, prompts, ids, logits, report) is None
    assert [(place.prompt, place.margin_sd) for place in report.divergences] == [(PROMPTS[0], 0.0)]


def test_where_two_encodings_part_is_said_in_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("баба мыла")
    sentence = describe_ids("баба мыла", ids, [*ids[:2], tokenizer.eos_id], tokenizer)
    shown = tokenizer.token_bytes(ids[2]).decode()
    assert f"token 2 of the text 'баба мыла' is {shown!r} (id {ids[2]}) in Bulba" in sentence
    assert f"special token {tokenizer.eos_id} (id {tokenizer.eos_id}) in llama.cpp" in sentence
    assert "is the end in Bulba" in describe_ids("x", ids, [*ids, 5], tokenizer)


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "q6_k", "q5_k", "q4_k"])
def test_rounding_gives_the_values_that_the_file_holds(kind: Any) -> None:
    x = torch.randn(7, 512, generator=torch.Generator().manual_seed(0))
    x[3, :256] = 0
    expected = torch.from_numpy(dequantize(quantize(x.numpy(), kind), kind))
    assert torch.equal(round_weights(x, kind), expected)
    assert torch.equal(round_weights(x, "f32"), x)
    bits = {"f16": 11, "bf16": 8}.get(kind, int(kind[1]) if kind[0] == "q" else 0)
    assert (expected - x).square().mean().sqrt() < 3 * 2.0**-bits
    if kind in ("f16", "bf16", "q8_0"):
        torch.testing.assert_close(round_activations(x, kind), expected, rtol=0, atol=1e-7)
    elif kind not in K_TYPES:
        assert torch.equal(round_activations(x, kind), round_activations(x, "q8_0"))


def test_how_a_tensor_is_stored_follows_from_its_use_and_width() -> None:
    assert stored_type("matrix", "q4_0", 64) == "q4_0"
    assert stored_type("head", "q4_0", 64) == "q8_0"
    assert stored_type("matrix", "q4_0", 40) == "f16"
    assert [stored_type("wide", kind, 64) for kind in ("f32", "f16", "bf16", "q8_0")] == ["f32", *["bf16"] * 3]
    assert stored_type("f32", "q4_0", 64) == "f32"
    kinds = [stored_type(storage, "q4_k_m", 512) for storage in ("matrix", "precise", "head")]
    assert kinds == ["q4_k", "q6_k", "q6_k"]
    assert [stored_type("matrix", kind, 96) for kind in ("q6_k", "q5_k_m", "q4_k_m")] == ["q8_0", "q5_1", "q5_0"]
    assert stored_type("matrix", "q4_k_m", 40) == "f16"


def test_a_missing_package_is_named_before_anything_is_written(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ExportError, match=r"needs the Python package gguf.*uv pip install 'bulba\[export\]'"):
        export_gguf(checkpoint, tokenizer_json, tmp_path / "out" / "tiny", "f32")
    assert not (tmp_path / "out").exists()


def test_a_library_without_a_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(llama_cpp.FUNCTIONS, "llama_no_such_function", (None, ()))
    with pytest.raises(UnsupportedError, match="it has no llama_no_such_function: install one that is known to work"):
        load_library()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda fields: fields.__setitem__(0, 513), "begins otherwise"),
        (lambda fields: fields.__setitem__(slice(4, 60), 0), "has other fields"),
    ],
)
def test_a_library_with_other_structures_is_refused(change: Any, reason: str) -> None:
    fields = np.frombuffer(bytearray(load_library().llama_context_default_params()), np.int32).copy()
    change(fields)

    class Changed:
        @staticmethod
        def llama_context_default_params() -> Block:
            return Block.from_buffer_copy(fields.tobytes())

    with pytest.raises(UnsupportedError, match=reason):
        llama_cpp.context_settings(Changed(), 1, 64)


def test_a_library_that_ignores_the_settings_is_refused(gguf_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = llama_cpp.context_settings
    monkeypatch.setattr(llama_cpp, "context_settings", lambda library, _, tokens: right(library, 2, tokens))
    with pytest.raises(UnsupportedError, match="does not take the settings"), open_llama_cpp(gguf_file, 3, 64, 1):
        pass


def test_a_library_with_half_precision_keys_is_refused(gguf_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "GGML_TYPE_F32", llama_cpp.GGML_TYPE_F16)
    with open_llama_cpp(gguf_file, 1, 64, 1) as llama, pytest.raises(UnsupportedError, match="in fp32"):
        llama.continue_greedily([[1, 2, 3]], [2])


def test_another_batch_structure_is_refused(gguf_file: Path) -> None:
    class Shifted:
        """The library with a batch whose tokens stand elsewhere."""

        def __init__(self, library: Any) -> None:
            self.library = library

        def __getattr__(self, name: str) -> Any:
            return getattr(self.library, name)

        def llama_batch_get_one(self, tokens: Any, count: int) -> llama_cpp.Batch:
            batch = self.library.llama_batch_get_one(tokens, count)
            batch.embd = ctypes.addressof(tokens)
            return batch

    with open_llama_cpp(gguf_file, 1, 64, 1) as llama, pytest.raises(UnsupportedError, match="llama_batch has other"):
        LlamaCpp(Shifted(llama.library), llama.model, llama.context, 1, 64)


def test_the_prompt_helper_that_is_printed_normalises(
    checkpoint: Path, tokenizer_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_gguf(checkpoint, tokenizer_json, tmp_path / "tiny", "f32")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("llama.cpp does not normalise")]
    command = line[line.index("python -c") :].replace("python", sys.executable, 1)
    text = "мой сям'я"
    decomposed = command.replace("PROMPT", unicodedata.normalize("NFD", text))
    assert text not in decomposed
    done = subprocess.run(decomposed, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout == f"{text}\n"
