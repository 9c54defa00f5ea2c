"""Packed rows on CUDA: what is handed to torch's varlen kernel, and on a card what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bulba.attention import softmax
from bulba.attention.softmax import load_varlen, reference_attention, varlen_attention
from bulba.mode import Mode
from bulba.packing import document_mask, document_offsets, of_any_length
from tests.model.tiny import packed, tiny_gpt, tokens

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CALLS: list[int] = []  # of the kernel below
HALVES = [torch.bfloat16, torch.float16]


@given(lengths=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=6), min_size=1, max_size=4))
def test_offsets_cut_the_rows_where_the_documents_end(lengths: list[list[int]]) -> None:
    width = max(map(sum, lengths))
    rows = [[*row, width - sum(row)] if sum(row) < width else row for row in lengths]  # the last one is padding
    # Rows may end and begin with one and the same number.
    documents = torch.cat([packed(*row)[1] for row in rows]) % 2
    offsets = document_offsets(documents)
    assert offsets.dtype == torch.int32
    assert offsets.diff().tolist() == list(chain.from_iterable(rows))
    assert offsets[0] == 0


def test_two_rows_whose_documents_have_one_number_are_two_documents() -> None:
    assert document_offsets(torch.zeros(3, 4, dtype=torch.int32)).tolist() == [0, 4, 8, 12]


def by_document(
    query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int, max_k: int, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """What torch documents for varlen_attn, written out: causal attention on each piece between two offsets."""
    CALLS.append(len(query))
    assert rest[0] is True, "causal"
    assert torch.equal(cu_seq_q, cu_seq_k)
    assert cu_seq_q.diff().max() <= max_q == max_k
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    for _, piece, head, kv_head in pieces(query, key, cu_seq_q):
        out[piece, head] = weights(query[piece, head], key[piece, kv_head]) @ value[piece, kv_head]
    return out, query.new_zeros(query.shape[1], len(query)), torch.zeros(2, dtype=torch.uint64)


def by_document_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, cu_seq_q: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    grads = [torch.zeros_like(x, memory_format=torch.contiguous_format) for x in (query, key, value)]
    for scale, piece, head, kv_head in pieces(query, key, cu_seq_q):
        q, k, v, do = query[piece, head], key[piece, kv_head], value[piece, kv_head], grad[piece, head]
        p = weights(q, k)
        ds = p * (do @ v.T - (do * out[piece, head]).sum(1, keepdim=True)) * scale
        grads[0][piece, head] = ds @ k
        grads[1][piece, kv_head] += ds.T @ q
        grads[2][piece, kv_head] += p.T @ do
    return tuple(grads)  # type: ignore[return-value]


def pieces(query: Tensor, key: Tensor, offsets: Tensor) -> Iterator[tuple[float, slice, int, int]]:
    """1 / sqrt(D), and for every document and query head its tokens and its two heads."""
    for start, end in pairwise(offsets.tolist()):
        for head in range(query.shape[1]):
            yield query.shape[-1] ** -0.5, slice(start, end), head, head * key.shape[1] // query.shape[1]


def weights(q_TD: Tensor, k_TD: Tensor) -> Tensor:
    scores = q_TD @ k_TD.T * q_TD.shape[-1] ** -0.5
    return scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf).softmax(-1)


@pytest.fixture(scope="module")
def _kernel_for_cpus() -> Iterator[None]:
    load_varlen()
    with torch.library._scoped_library("torch_attn", "FRAGMENT") as library:
        torch.library.register_kernel("torch_attn::_varlen_attn", "cpu", by_document, lib=library)
        torch.library.register_kernel("torch_attn::_varlen_attn_backward", "cpu", by_document_backward, lib=library)
        yield


@pytest.mark.usefixtures("_kernel_for_cpus")
@settings(deadline=None, max_examples=20)
@given(kv_heads=st.sampled_from([1, 2, 4]), num_tokens=st.integers(1, 12), seed=st.integers(0, 1000))
def test_with_a_kernel_that_does_what_torch_documents_it_is_the_formula(
    kv_heads: int, num_tokens: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = [
        torch.randn(3, heads, num_tokens, 8, dtype=torch.float64, generator=generator).requires_grad_()
        for heads in (4, kv_heads, kv_heads)
    ]
    documents = torch.randint(3, (3, num_tokens), generator=generator).sort(1).values
    out = varlen_attention(*tensors, document_offsets(documents))
    expected = reference_attention(*tensors, document_mask(documents))
    torch.testing.assert_close(out, expected)
    grad = torch.randn(out.shape, dtype=out.dtype, generator=generator)
    torch.testing.assert_close(*(torch.autograd.grad(one, tensors, grad) for one in (out, expected)))


@pytest.mark.usefixtures("_kernel_for_cpus")
@pytest.mark.parametrize("compiled", [False, True])
def test_a_model_reads_packed_rows_through_it_without_a_mask(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, plain = tiny_gpt(kernel="flash"), tiny_gpt(kernel="reference")
    for mixer in model.mixers():
        mixer.softmax.documents = "offsets"
    monkeypatch.setattr("bulba.model.gpt.document_mask", None)  # a T x T mask would be an error now
    forward = Mode("flash", compile=True).apply(model) if compiled else model
    for lengths in ((6, 10), (16,), (3, 4, 5, 4), (1, 15)):
        positions, documents = packed(*lengths)
        given = of_any_length(document_offsets(documents)) if compiled else None
        hidden = forward(tokens(1, 16), positions, documents, given)
        expected = plain_hidden(plain, positions, documents)
        torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=1e-4)
    if compiled:
        assert (forward.graphs, forward.recompiles) == (1, 0)


@pytest.mark.usefixtures("_kernel_for_cpus")
@pytest.mark.parametrize(("kind", "runs"), [("none", 1), ("selective", 1), ("full", 2)])
def test_activation_checkpointing_keeps_its_output_when_selective(kind: Any, runs: int) -> None:
    model = tiny_gpt(kernel="flash").train()
    model.set_activation_checkpointing(kind)
    for mixer in model.mixers():
        mixer.softmax.documents = "offsets"
    CALLS.clear()
    model(tokens(1, 16), *packed(6, 10)).sum().backward()
    assert len(CALLS) == runs * len(model.mixers())


def plain_hidden(plain: Any, positions: Tensor, documents: Tensor) -> Tensor:
    """The reference, which does need the mask."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bulba.model.gpt.document_mask", document_mask)
        return plain(tokens(1, 16), positions, documents)


def test_cards_that_have_no_flash_attention_take_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "fused_backend", lambda *tensors: "efficient")
    for has_flash, name, reads in ((True, "cuda varlen", "offsets"), (False, "cuda blocked", "documents_BT")):
        monkeypatch.setattr(softmax, "has_flash", lambda *tensors, answer=has_flash: answer)
        mixer = tiny_gpt().mixers()[0]
        with torch._subclasses.FakeTensorMode():
            chosen = mixer.choose_backend("flash", True, 2, 16, torch.bfloat16, torch.device("cuda"))
        assert chosen == name
        assert mixer.reads("flash") == reads
        assert mixer.reads("reference") == "mask_BTS"


@CUDA
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_card_it_is_as_near_to_the_formula_as_the_formula_in_its_dtype(dtype: torch.dtype, compiled: bool) -> None:
    exact = tiny_gpt(hidden_size=192, kernel="reference").double().cuda()
    rough, model = (tiny_gpt(hidden_size=192, kernel=kernel).to("cuda", dtype) for kernel in ("reference", "flash"))
    wanted = "cuda varlen" if dtype in HALVES else "cuda blocked"
    assert model.choose_backend(compiled, 1, 64, dtype, torch.device("cuda")) == wanted
    forward = Mode("flash", compile=True).apply(model) if compiled else model
    for lengths in ((24, 40), (64,), (13, 14, 15, 22), (1, 63)):
        positions, documents = (x.cuda() for x in packed(*lengths))
        offsets = of_any_length(document_offsets(documents))
        row = tokens(1, 64).cuda()
        results = []
        for one in (forward, rough, exact):
            hidden = one(row, positions, documents, offsets)
            parameters = list((model if one is forward else one).parameters())
            gradients = torch.autograd.grad(hidden.square().mean(), parameters)
            results.append(torch.cat([x.double().flatten() for x in (hidden, *gradients)]))
        got, near, truth = results
        assert (got - truth).norm() <= 1.5 * (near - truth).norm() + 1e-6 * truth.norm()
    if compiled:
        assert forward.recompiles == 0
