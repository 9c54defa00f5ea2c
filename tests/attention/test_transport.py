"""Running products of rotations: equal to a loop, causal to the bit, documents apart, and still rotations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bulba.attention.base import Kernel, MixerShape
from bulba.attention.braid import BraidAttention
from bulba.attention.gauge import GaugeAttention
from bulba.attention.transport import CHUNK, TransportMixer, from_start, running_products, to_start
from tests.attention.cases import SEEDS, context, draws

SHAPE = MixerShape(hidden_size=24, num_heads=4, num_kv_heads=2, head_dim=8)
MIXERS: dict[str, Callable[[MixerShape], TransportMixer]] = {
    "braid": partial(BraidAttention, num_strands=5, angle_frac=0.5, none_bias=0.5),
    **{
        f"gauge of {size} x {size}": partial(
            GaugeAttention, block_size=size, transport_values=True, scale=1.0, rope_base=100.0
        )
        for size in (2, 4)
    },
}


def rotations(seed: int, num_tokens: int, size: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    """[2, 2, T, M, M, 2]."""
    return exponential(draws(seed, 2, 2, num_tokens, 2, size, size, dtype=dtype))


def exponential(x: Tensor) -> Tensor:
    """[..., L, M, M] -> [..., M, M, L]."""
    return torch.linalg.matrix_exp(x - x.transpose(-2, -1)).movedim(-3, -1)


def some_documents(seed: int, num_tokens: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(2, num_tokens, generator=generator) < 0.06).cumsum(1)


def by_loop(steps: Tensor, documents: Tensor | None) -> Tensor:
    rows = []
    for row in range(steps.shape[0]):
        frames: list[Tensor] = []
        for token in range(steps.shape[2]):
            step = steps[row, :, token]
            starts = token == 0 or (documents is not None and documents[row, token] != documents[row, token - 1])
            frames.append(step if starts else torch.einsum("gmkl,gkcl->gmcl", step, frames[-1]))
        rows.append(torch.stack(frames, 1))
    return torch.stack(rows)


@settings(deadline=None, max_examples=15)
@given(num_tokens=st.integers(1, 5 * CHUNK), packed=st.booleans(), seed=SEEDS)
def test_products_and_their_gradients_are_those_of_a_loop(num_tokens: int, packed: bool, seed: int) -> None:
    documents = some_documents(seed, num_tokens) if packed else None
    x = draws(seed, 2, 2, num_tokens, 2, 3, 3).requires_grad_()
    frames, expected = running_products(exponential(x), documents), by_loop(exponential(x), documents)
    torch.testing.assert_close(frames, expected, rtol=0, atol=1e-12)
    grad = draws(seed + 1, *frames.shape)
    got, wanted = (torch.autograd.grad(out, x, grad) for out in (frames, expected))
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=10)
@given(cut=st.integers(1, 70), packed=st.booleans(), seed=SEEDS)
def test_neither_later_tokens_nor_their_number_change_a_bit(cut: int, packed: bool, seed: int) -> None:
    documents = some_documents(seed, 71) if packed else None
    steps = rotations(seed, 71, dtype=torch.float32)
    frames = running_products(steps, documents)
    changed = torch.cat([steps[:, :, :cut], rotations(seed + 1, 71 - cut, dtype=torch.float32)], 2)
    assert torch.equal(running_products(changed, documents)[:, :, :cut], frames[:, :, :cut])
    shorter = running_products(steps[:, :, :cut], None if documents is None else documents[:, :cut])
    assert torch.equal(shorter, frames[:, :, :cut])


@settings(deadline=None, max_examples=10)
@given(cut=st.integers(1, 60), seed=SEEDS)
def test_nothing_of_an_earlier_document_is_in_a_frame(cut: int, seed: int) -> None:
    documents = (torch.arange(71) >= cut).long().expand(2, 71)
    steps = rotations(seed, 71)
    changed = torch.cat([rotations(seed + 1, cut), steps[:, :, cut:]], 2)
    one, other = (running_products(x, documents)[:, :, cut:] for x in (steps, changed))
    assert torch.equal(one, other)


def test_what_every_step_lacks_to_a_rotation_does_not_add_up_over_8192_tokens() -> None:
    def lack(matrices: Tensor) -> float:
        squares = torch.einsum("bgtkml,bgtknl->bgtlmn", matrices, matrices)
        return float((squares - torch.eye(3)).abs().max())

    step = rotations(0, 1, dtype=torch.float32) * (1 + 1e-6)
    assert lack(step) > 2e-6
    assert lack(running_products(step.expand(-1, -1, 8192, -1, -1, -1), None)) < 4 * CHUNK * lack(step)


@settings(deadline=None, max_examples=10)
@given(heads_per_key_head=st.integers(1, 3), groups=st.sampled_from([1, 4]), seed=SEEDS)
def test_there_and_back(heads_per_key_head: int, groups: int, seed: int) -> None:
    frames = exponential(draws(seed, 2, 2, 5, groups, 3, 3))
    x = draws(seed + 1, 2, 2 * heads_per_key_head, 5, 12)
    expected = torch.einsum(
        "bgtmkl,bghtml->bghtkl",
        frames.expand(-1, -1, -1, -1, -1, 4),
        x.unflatten(-1, (3, 4)).unflatten(1, (2, heads_per_key_head)),
    )
    torch.testing.assert_close(to_start(frames, x), expected.flatten(-2).flatten(1, 2))
    torch.testing.assert_close(from_start(frames, to_start(frames, x)), x)


@pytest.mark.parametrize("make", MIXERS.values(), ids=MIXERS)
def test_norms_are_kept_over_8192_tokens(make: Callable[[MixerShape], TransportMixer]) -> None:
    torch.manual_seed(0)
    mixer, v = make(SHAPE), draws(1, 1, 2, 8192, 8, dtype=torch.float32)
    with torch.no_grad():
        frames = running_products(mixer.steps(draws(0, 1, 8192, 24, dtype=torch.float32)), None)
        carried = from_start(frames, to_start(frames, v)[:, :, :1].expand_as(v))  # the first value, to every token
    lengths = carried.norm(dim=-1)
    torch.testing.assert_close(lengths, v[:, :, :1].norm(dim=-1).expand_as(lengths), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kernel", ["reference", "flash"])
@pytest.mark.parametrize("make", MIXERS.values(), ids=MIXERS)
def test_decoding_across_chunks_of_the_scan_equals_the_full_pass(
    make: Callable[[MixerShape], TransportMixer], kernel: Kernel
) -> None:
    torch.manual_seed(0)
    mixer, x = make(SHAPE), draws(3, 2, 50, 24, dtype=torch.float32)
    cache, parts, start = mixer.new_cache(2, 50, torch.float32, x.device), [], 0
    with torch.no_grad():
        for piece in x.split([17, 1, 1, 20, 1, 10], 1):
            parts.append(mixer(piece, context(kernel=kernel, start=start), cache))
            start += piece.shape[1]
        torch.testing.assert_close(torch.cat(parts, 1), mixer(x, context(kernel=kernel)), rtol=0, atol=1e-5)
        frames = mixer.steps(x[:, :1])
    assert cache.num_bytes == 4 * (2 * 2 * 2 * 50 * 8) + frames.nbytes
