"""Braid attention: the relations of the braid group, words that mean the same braid, a loop as reference."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bulba.attention.base import MixerShape
from bulba.attention.braid import BraidAttention, crossing_matrices, squier_columns
from bulba.attention.transport import running_products
from bulba.errors import ConfigError
from tests.attention.cases import KERNELS, SEEDS, context, draws
from tests.model.tiny import tiny_gpt, tokens

STRANDS, FRACTIONS = st.integers(2, 7), st.floats(-0.99, 0.99).filter(lambda frac: abs(frac) > 0.01)
SHAPE = MixerShape(hidden_size=24, num_heads=4, num_kv_heads=2, head_dim=8)


def crossings(
    num_strands: int, fraction: float, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, dict[int, Tensor]]:
    """The table of matrices, and the same by letter: 0 for none, a for s_a, -a for its inverse."""
    table = torch.tensor(crossing_matrices(num_strands, fraction * 2 * math.pi / num_strands), dtype=dtype)
    places = range(1, num_strands)
    return table, {0: table[0]} | {a: table[a] for a in places} | {-a: table[num_strands - 1 + a] for a in places}


def braid(seed: int = 0, **changes: Any) -> BraidAttention:
    torch.manual_seed(seed)
    return BraidAttention(SHAPE, **({"num_strands": 5, "angle_frac": 0.5, "none_bias": 0.5} | changes)).double()


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@settings(deadline=None, max_examples=30)
@given(num_strands=STRANDS, fraction=FRACTIONS)
def test_the_relations_of_the_braid_group(dtype: torch.dtype, atol: float, num_strands: int, fraction: float) -> None:
    table, s = crossings(num_strands, fraction, dtype)

    def same(one: Tensor, other: Tensor) -> None:
        torch.testing.assert_close(one, other, rtol=0, atol=atol)

    for matrix in table:
        same(matrix @ matrix.T, torch.eye(len(matrix), dtype=dtype))
    for a in range(1, num_strands):
        same(s[a] @ s[-a], s[0])
        for b in range(1, num_strands):
            if abs(a - b) == 1:
                same(s[a] @ s[b] @ s[a], s[b] @ s[a] @ s[b])  # Yang-Baxter
            elif a != b:
                same(s[a] @ s[b], s[b] @ s[a])
    assert (s[1] - s[-1]).abs().max() > 1e-3  # over is not under


@settings(deadline=None, max_examples=30)
@given(num_strands=STRANDS, fraction=FRACTIONS)
def test_the_crossings_are_reduced_burau_matrices_in_another_basis(num_strands: int, fraction: float) -> None:
    theta, size = fraction * 2 * math.pi / num_strands, num_strands - 1
    t, s = cmath.exp(1j * theta), cmath.exp(0.5j * theta)
    columns = torch.tensor(squier_columns(num_strands, theta), dtype=torch.complex128).T
    basis = columns @ torch.diag(torch.tensor([s**-a for a in range(size)], dtype=torch.complex128))
    _, letters = crossings(num_strands, fraction)
    for a in range(1, num_strands):
        burau = torch.eye(size, dtype=torch.complex128)
        for column, entry in ((a - 2, t), (a - 1, -t), (a, 1.0)):
            if 0 <= column < size:
                burau[a - 1, column] = entry
        unitary = basis @ burau @ torch.linalg.inv(basis)
        expected = torch.cat([torch.cat([unitary.real, -unitary.imag], 1), torch.cat([unitary.imag, unitary.real], 1)])
        torch.testing.assert_close(letters[a], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("num_strands", [2, 3, 5, 8])
def test_squiers_form_is_definite_up_to_the_stated_angle(num_strands: int) -> None:
    for fraction, definite in ((0.999, True), (1.001, False)):
        diagonal = 2 * math.cos(fraction * math.pi / num_strands)
        size = num_strands - 1
        form = torch.eye(size) * diagonal - torch.ones(size, size).tril(1).triu(-1) + torch.eye(size)
        assert (torch.linalg.eigvalsh(form.double()).min() > 0) == definite


def moves(num_strands: int) -> list[tuple[list[int], list[int]]]:
    """Pairs of words that spell one braid with as many letters: Reidemeister II and III, and far commutativity."""
    places = range(1, num_strands)
    pairs: list[tuple[list[int], list[int]]] = [([e * a, -e * a], [0, 0]) for a in places for e in (1, -1)]
    for a in places:
        for b in places:
            if abs(a - b) == 1:
                pairs += [([a, b, a], [b, a, b]), ([-a, -b, -a], [-b, -a, -b])]
                pairs += [([a, b, -a], [-b, a, b]), ([-a, b, a], [b, a, -b])]
            elif a != b:
                pairs += [([e * a, f * b], [f * b, e * a]) for e in (1, -1) for f in (1, -1)]
    return pairs


@st.composite
def spellings(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Several such pairs, one after another."""
    chosen = draw(st.lists(st.sampled_from(moves(5)), min_size=1, max_size=3))
    return [x for one, _ in chosen for x in one], [x for _, other in chosen for x in other]


@settings(deadline=None, max_examples=20)
@given(
    words=spellings(),
    around=st.tuples(st.lists(st.integers(-4, 4), min_size=1, max_size=20), st.lists(st.integers(-4, 4), min_size=1)),
    kernel=KERNELS,
    seed=SEEDS,
)
def test_another_spelling_of_the_same_braid_is_the_same_transport(
    words: tuple[list[int], list[int]], around: tuple[list[int], list[int]], kernel: str, seed: int
) -> None:
    _, letters = crossings(5, 0.5)
    first, last = len(around[0]), len(around[0]) + len(words[0])
    num_tokens = last + len(around[1])
    outside = [t for t in range(num_tokens) if not first <= t < last]
    # Before, after, and the word's own keys read by nobody.
    mask = torch.ones(num_tokens, num_tokens, dtype=torch.bool).tril()
    mask[last:, first:last] = False
    q, k, v = (draws(seed + n, 1, heads, num_tokens, 8) for n, heads in enumerate((4, 2, 2)))
    transports, outputs = [], []
    for word in words:
        spelled = [*around[0], *word, *around[1]]
        steps = torch.stack([letters[letter] for letter in spelled])[None, None, ..., None].expand(
            -1, 2, -1, -1, -1, -1
        )
        frames = running_products(steps, None)[0, 0, outside, ..., 0]
        transports.append(torch.einsum("imk,jnk->ijmn", frames, frames))
        seen = context(kernel=kernel, mask=mask[None])
        outputs.append(braid().attend(q, k, v, steps, seen)[:, :, outside])
    torch.testing.assert_close(*transports, rtol=0, atol=1e-12)
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)


def by_loop(mixer: BraidAttention, x_BTH: Tensor, documents: Tensor) -> Tensor:
    """One row, as the spec has it; the choice straight through to its shares."""
    q, k, v = (mixer.heads(proj(x_BTH))[0] for proj in (mixer.q_proj, mixer.k_proj, mixer.v_proj))
    scores = mixer.crossing_proj(x_BTH)[0] + mixer.crossing_bias
    shares = scores.unflatten(-1, (2, -1)).softmax(-1)
    hard = torch.nn.functional.one_hot(shares.argmax(-1), 9).double() + shares - shares.detach()
    table, _ = crossings(mixer.num_strands, 0.5)
    rows = []
    for head in range(4):
        frames: list[Tensor] = []
        for t in range(x_BTH.shape[1]):
            step = torch.einsum("c,cmk->mk", hard[t, head // 2], table)
            starts = t == 0 or documents[0, t] != documents[0, t - 1]
            frame = step if starts else step @ frames[-1]
            frames.append(frame @ (1.5 * torch.eye(8) - 0.5 * frame.T @ frame))  # no gradient off the group
        for i in range(x_BTH.shape[1]):
            readable = [j for j in range(i + 1) if documents[0, j] == documents[0, i]]
            at_start = [frames[j].T @ k[head // 2, j] for j in readable]
            weights = torch.stack([(frames[i].T @ q[head, i]) @ key / 8**0.5 for key in at_start]).softmax(0)
            rows.append(
                frames[i] @ sum(w * (frames[j].T @ v[head // 2, j]) for w, j in zip(weights, readable, strict=True))
            )
    return mixer.merge(torch.stack(rows).unflatten(0, (4, -1))[None])


@settings(deadline=None, max_examples=6)
@given(kernel=KERNELS, seed=SEEDS)
def test_equals_a_loop_with_gradients(kernel: str, seed: int) -> None:
    mixer, x = braid(seed), draws(seed, 1, 9, 24).requires_grad_()
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1]])
    results = []
    for out in (mixer(x, context(documents, kernel)), by_loop(mixer, x, documents)):
        results.append((out, *torch.autograd.grad(out.square().sum(), (x, *mixer.parameters()))))
    torch.testing.assert_close(results[0], results[1], rtol=1e-8, atol=1e-9)


@settings(deadline=None, max_examples=10)
@given(seed=SEEDS)
def test_every_step_is_one_crossing_and_no_mixture(seed: int) -> None:
    mixer, x = braid(), draws(seed, 2, 30, 24)
    table, letters = crossings(5, 0.5)
    steps, word = mixer.steps(x), mixer.figures(x, context())["word_BGT"]
    assert torch.equal(steps[..., 0], table[mixer.scores(x).argmax(-1)])
    spelled = torch.stack([letters[letter] for letter in word.flatten().tolist()])
    assert torch.equal(steps[..., 0].flatten(0, 2), spelled)


def test_the_choice_is_made_in_fp32_under_autocast() -> None:
    mixer, x = braid().float(), draws(0, 1, 30, 24, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = mixer.steps(x)
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, mixer.steps(x))


@pytest.mark.parametrize("kernel", ["reference", "flash"])
def test_the_same_braids_in_bf16_give_nearly_the_same_output(kernel: Any) -> None:
    model = tiny_gpt(
        attention={"_target_": "bulba.attention.braid.BraidAttention", "num_strands": 5, "angle_frac": 0.5}
        | {"none_bias": 2.0},
        init_std=0.1,
        kernel=kernel,
    )
    rows = tokens(4, 48)
    seen: list[Tensor] = []
    for mixer in model.mixers():
        mixer.steps = remember(mixer.steps, seen)
    with torch.no_grad():
        exact = model(rows)
        for mixer in model.mixers():
            mixer.steps = lambda x_BTH: seen.pop(0)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(rows)
    assert (rounded.float() - exact).norm() <= 0.03 * exact.norm()


def remember(steps: Callable[[Tensor], Tensor], seen: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """The same function, whose results also go to the end of `seen`."""

    def call(x_BTH: Tensor) -> Tensor:
        seen.append(steps(x_BTH))
        return seen[-1]

    return call


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_strands": 4}, r"num_strands=4 takes groups of 6 coordinates, which must divide the head width, 8"),
        ({"num_strands": 1}, r"num_strands=1"),
        ({"angle_frac": 1.0}, r"angle_frac=1\.0 must be between -1 and 1, where the form is definite, and not 0"),
        ({"angle_frac": 0.0}, r"angle_frac=0\.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        braid(**changes)
