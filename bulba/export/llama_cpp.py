"""llama.cpp itself, in this process: the C interface of the library inside the `xllamacpp` package, through ctypes.

Structures are passed as the library's own defaults in opaque blocks, larger than they are now: on every platform they
travel by address or on the stack, where the rest is not read. The few settings that the check needs are found by
their default values and held against the library's answers afterwards, so another layout is an error, not a guess.

It runs on the CPU with fp32 keys and values and without flash attention, so that the arithmetic is as near to
Bulba's as llama.cpp can be. It only picks the likeliest token.
Interface: https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int8, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bulba.errors import ExportError, UnsupportedError
from bulba.export.optional import need

KNOWN_VERSION = "2026.10.11549"
DEFAULT_CONTEXT = [512, 2048, 512, 1]  # n_ctx, n_batch, n_ubatch, n_seq_max, the first fields
GGML_TYPE_F16, GGML_TYPE_F32 = 1, 0
FLASH_ATTENTION_OFF = 0
ATTRIBUTE_UNKNOWN = 1  # of llama_token_attr
MODEL_NUMBERS_END, MODEL_BOOLEANS = 40, 72  # bytes into llama_model_params
WARNING_LEVEL = 3  # of ggml_log_level: debug 1, info 2, warning 3, error 4
CONTEXT_MULTIPLE = 256  # llama.cpp rounds the context of a sequence up to this

last_warnings: deque[str] = deque(maxlen=5)


class Block(ctypes.Structure):
    """A parameter structure whose fields are not named here."""

    _fields_ = (("words", c_uint64 * 64),)


class Batch(ctypes.Structure):
    """llama_batch: tokens to feed, with place, sequence, and whether logits are wanted."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", c_void_p),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    )


_NO_DEVICES = (c_void_p * 1)(None)
LOG_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int, c_char_p, c_void_p)
# name: (result, arguments)
FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_version": (c_char_p, ()),
    "llama_log_set": (None, (LOG_CALLBACK, c_void_p)),
    "llama_backend_init": (None, ()),
    "llama_model_default_params": (Block, ()),
    "llama_context_default_params": (Block, ()),
    "llama_model_load_from_file": (c_void_p, (c_char_p, Block)),
    "llama_model_free": (None, (c_void_p,)),
    "llama_init_from_model": (c_void_p, (c_void_p, Block)),
    "llama_free": (None, (c_void_p,)),
    "llama_set_n_threads": (None, (c_void_p, c_int32, c_int32)),
    "llama_n_ctx": (c_uint32, (c_void_p,)),
    "llama_n_seq_max": (c_uint32, (c_void_p,)),
    "llama_model_n_layer": (c_int32, (c_void_p,)),
    "llama_model_n_head": (c_int32, (c_void_p,)),
    "llama_model_n_head_kv": (c_int32, (c_void_p,)),
    "llama_model_n_embd": (c_int32, (c_void_p,)),
    "llama_model_get_vocab": (c_void_p, (c_void_p,)),
    "llama_vocab_type": (c_int32, (c_void_p,)),
    "llama_vocab_n_tokens": (c_int32, (c_void_p,)),
    "llama_vocab_bos": (c_int32, (c_void_p,)),
    "llama_vocab_eos": (c_int32, (c_void_p,)),
    "llama_tokenize": (c_int32, (c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool)),
    "llama_token_to_piece": (c_int32, (c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool)),
    "llama_vocab_get_attr": (c_int32, (c_void_p, c_int32)),
    "ggml_quantize_chunk": (c_size_t, (ctypes.c_int, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p)),
    "llama_vocab_is_eog": (c_bool, (c_void_p, c_int32)),
    "llama_batch_get_one": (Batch, (POINTER(c_int32), c_int32)),
    "llama_batch_init": (Batch, (c_int32, c_int32, c_int32)),
    "llama_batch_free": (None, (Batch,)),
    "llama_decode": (c_int32, (c_void_p, Batch)),
    "llama_get_logits_ith": (POINTER(c_float), (c_void_p, c_int32)),
    "llama_state_seq_get_size": (c_size_t, (c_void_p, c_int32)),
}


@LOG_CALLBACK
def _keep_warnings(level: int, text: bytes, _: Any) -> None:
    if level >= WARNING_LEVEL and text.strip():
        last_warnings.append(text.decode(errors="replace").strip())


def load_library() -> Any:
    """The shared library of xllamacpp with its functions declared."""
    package = need("xllamacpp", "llama.cpp (for the check of GGUF files, K-quants and IQ types)")
    library = ctypes.CDLL(package.xllamacpp.__file__)
    for name, (result, arguments) in FUNCTIONS.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise _unfit(f"it has no {name}") from error
        function.restype, function.argtypes = result, arguments
    library.llama_log_set(_keep_warnings, None)
    library.llama_backend_init()
    return library


@contextmanager
def open_llama_cpp(file: Path, num_sequences: int, max_tokens: int, num_threads: int) -> Iterator[LlamaCpp]:
    """Load a GGUF file for up to `num_sequences` texts of up to `max_tokens` tokens each."""
    library = load_library()
    last_warnings.clear()
    model = library.llama_model_load_from_file(str(file).encode(), _cpu_only(library))
    if not model:
        raise ExportError(f"llama.cpp does not load it ({' / '.join(last_warnings) or 'without a reason'})")
    context = None
    try:
        settings = context_settings(library, num_sequences, max_tokens)
        context = library.llama_init_from_model(model, settings)
        if not context:
            raise ExportError(f"llama.cpp cannot run it ({' / '.join(last_warnings) or 'without a reason'})")
        library.llama_set_n_threads(context, num_threads, num_threads)
        yield LlamaCpp(library, model, context, num_sequences, max_tokens)
    finally:
        if context:
            library.llama_free(context)
        library.llama_model_free(model)


@contextmanager
def open_llama_vocab(file: Path) -> Iterator[LlamaVocab]:
    """Load the vocabulary alone of a GGUF file, which may hold nothing else."""
    library = load_library()
    last_warnings.clear()
    model = library.llama_model_load_from_file(str(file).encode(), _vocab_only(library))
    if not model:
        raise ExportError(f"llama.cpp does not load {file} ({' / '.join(last_warnings) or 'without a reason'})")
    try:
        vocab = LlamaVocab(library, model)
        if not library.llama_vocab_type(vocab.vocab):
            raise ExportError(f"{file} holds no vocabulary: give a GGUF file with a tokenizer in it.")
        yield vocab
    finally:
        library.llama_model_free(model)


def context_settings(library: Any, num_sequences: int, max_tokens: int) -> Block:
    """The library's default context parameters with ours in them; ExportError where they are not found."""
    fields = np.frombuffer(bytearray(library.llama_context_default_params()), np.int32).copy()
    if fields[:4].tolist() != DEFAULT_CONTEXT:
        raise _unfit("its llama_context_params begins otherwise")
    # type_k and type_v stand behind the two pointers of the evaluation callback, which are null.
    caches = [at for at in range(4, 60, 2) if not fields[at : at + 4].any() and _pair(fields, at + 4)]
    # rope scaling, pooling, attention kind, flash attention: all "as the model says".
    modes = [at for at in range(4, 60) if (fields[at : at + 4] == -1).all()]
    if len(caches) != 1 or len(modes) != 1:
        raise _unfit("its llama_context_params has other fields")
    tokens = -(-max_tokens // CONTEXT_MULTIPLE) * CONTEXT_MULTIPLE
    batch = max(tokens, num_sequences)
    fields[:4] = [tokens * num_sequences, batch, batch, num_sequences]
    fields[caches[0] + 4 : caches[0] + 6] = GGML_TYPE_F32
    fields[modes[0] + 3] = FLASH_ATTENTION_OFF
    return Block.from_buffer_copy(fields.tobytes())


class LlamaVocab:
    """The vocabulary of a loaded GGUF file; made by `open_llama_vocab`."""

    def __init__(self, library: Any, model: int) -> None:
        self.library, self.model = library, model
        self.vocab = library.llama_model_get_vocab(model)
        self.num_tokens: int = library.llama_vocab_n_tokens(self.vocab)
        self.bos_id: int = library.llama_vocab_bos(self.vocab)
        self.eos_id: int = library.llama_vocab_eos(self.vocab)

    def tokenize(self, text: str, bos: bool = True, parse_special: bool = False) -> list[int]:
        """Ids of a text as it stands; llama.cpp does not normalise it."""
        data = text.encode()
        room = len(data) + 2
        ids = (c_int32 * room)()
        count = self.library.llama_tokenize(self.vocab, data, len(data), ids, room, bos, parse_special)
        assert count >= 0, "a token is at least one byte"
        return ids[:count]

    def piece(self, token: int) -> bytes:
        """The bytes of a token, without any special treatment; empty for a special token."""
        for room in (64, 65536):
            buffer = ctypes.create_string_buffer(room)
            length = self.library.llama_token_to_piece(self.vocab, token, buffer, room, 0, False)
            if length >= 0:
                break
        return buffer.raw[:length]

    def is_unknown(self, token: int) -> bool:
        """Whether a token stands for whatever the vocabulary cannot spell."""
        return bool(self.library.llama_vocab_get_attr(self.vocab, token) & ATTRIBUTE_UNKNOWN)

    def ends_text(self, token: int) -> bool:
        """Whether generation stops at a token."""
        return bool(self.library.llama_vocab_is_eog(self.vocab, token))


class LlamaCpp(LlamaVocab):
    """A loaded GGUF file; made by `open_llama_cpp`."""

    def __init__(self, library: Any, model: int, context: int, num_sequences: int, max_tokens: int) -> None:
        super().__init__(library, model)
        self.context = context
        self.version = library.llama_version().decode()
        if library.llama_n_seq_max(context) != num_sequences or library.llama_n_ctx(context) < max_tokens:
            raise _unfit("it does not take the settings of its llama_context_params")
        probe = (c_int32 * 3)(1, 2, 3)
        batch = library.llama_batch_get_one(probe, 3)
        if batch.n_tokens != 3 or batch.token[2] != 3 or batch.embd or batch.logits:
            raise _unfit("its llama_batch has other fields")

    def continue_greedily(
        self, prompts: list[list[int]], steps: list[int]
    ) -> tuple[list[list[int]], list[NDArray[np.float32]]]:
        """The likeliest continuation of every prompt, steps[i] tokens of prompt i, and their logits [steps[i], V].

        All texts grow side by side, one token per pass. End-of-text tokens do not end a text.
        """
        batch = self.library.llama_batch_init(max(len(prompts), *map(len, prompts)), 0, 1)
        logits: list[list[NDArray[np.float32]]] = [[] for _ in prompts]
        new_ids: list[list[int]] = [[] for _ in prompts]
        try:
            for sequence, prompt in enumerate(prompts):
                feeds = [(token, place, sequence) for place, token in enumerate(prompt)]
                logits[sequence] += self._decode(batch, feeds, [len(feeds) - 1])
            self._check_cache(len(prompts[0]))
            for step in range(max(steps)):
                active = [sequence for sequence in range(len(prompts)) if step < steps[sequence]]
                for sequence in active:
                    new_ids[sequence].append(int(logits[sequence][-1].argmax()))
                active = [sequence for sequence in active if step + 1 < steps[sequence]]
                if not active:
                    continue
                feeds = [(new_ids[i][-1], len(prompts[i]) + step, i) for i in active]
                for sequence, row in zip(active, self._decode(batch, feeds, range(len(feeds))), strict=True):
                    logits[sequence].append(row)
        finally:
            self.library.llama_batch_free(batch)
        return new_ids, [np.stack(rows) for rows in logits]

    def _decode(self, batch: Batch, feeds: list[tuple[int, int, int]], wanted: Any) -> list[NDArray[np.float32]]:
        """Feed (token, place, sequence) and return the logits behind the wanted ones."""
        batch.n_tokens = len(feeds)
        for index, (token, place, sequence) in enumerate(feeds):
            batch.token[index], batch.pos[index] = token, place
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
            batch.logits[index] = index in wanted
        status = self.library.llama_decode(self.context, batch)
        if status:
            raise ExportError(f"llama.cpp cannot run it (llama_decode gave {status}: {' / '.join(last_warnings)})")
        rows = (self.library.llama_get_logits_ith(self.context, index) for index in wanted)
        return [np.ctypeslib.as_array(row, (self.num_tokens,)).copy() for row in rows]

    def _check_cache(self, tokens: int) -> None:
        """Keys and values are kept in fp32, as was asked for: 4 bytes each."""
        library, model = self.library, self.model
        head_dim = library.llama_model_n_embd(model) // library.llama_model_n_head(model)
        width = library.llama_model_n_head_kv(model) * head_dim
        expected = 2 * 4 * library.llama_model_n_layer(model) * width * tokens
        if library.llama_state_seq_get_size(self.context, 0) < expected:
            raise _unfit("it does not keep keys and values in fp32")


def _cpu_only(library: Any) -> Block:
    """Model parameters whose list of devices, the first field, is empty."""
    parameters = library.llama_model_default_params()
    parameters.words[0] = ctypes.addressof(_NO_DEVICES)
    return parameters


def _vocab_only(library: Any) -> Block:
    """Model parameters that leave the weights alone: `vocab_only` is the first of the booleans, the last fields.

    The third, `use_extra_bufts`, is the only one that is true, and behind the numbers no other byte is set.
    """
    parameters = _cpu_only(library)
    fields = np.frombuffer(bytearray(parameters), np.uint8).copy()
    if fields[MODEL_NUMBERS_END:MODEL_BOOLEANS].any() or fields[MODEL_BOOLEANS:][:6].tolist() != [0, 0, 1, 0, 0, 0]:
        raise _unfit("its llama_model_params has other fields", "leave GGUF vocabularies out")
    fields[MODEL_BOOLEANS] = True
    return Block.from_buffer_copy(fields.tobytes())


def _pair(fields: NDArray[np.int32], at: int) -> bool:
    return fields[at : at + 2].tolist() == [GGML_TYPE_F16, GGML_TYPE_F16]


def _unfit(reason: str, instead: str = "export with verify=false") -> UnsupportedError:
    return UnsupportedError(
        f"this version of xllamacpp cannot be used here, {reason}: install one that is known to work with "
        f"uv pip install 'xllamacpp=={KNOWN_VERSION}', or {instead}."
    )
