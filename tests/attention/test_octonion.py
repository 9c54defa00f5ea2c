"""What holds for octonions: alternativity, the identities of Moufang, and that brackets matter all the same."""

from __future__ import annotations

import torch
from hypothesis import given

from bulba.attention.hypercomplex import HyperLinear, components, product
from bulba.attention.octonion import associator
from tests.attention import test_contract as contract
from tests.attention.test_hypercomplex import close, numbers, randomly, seeds, units
from tests.model.tiny import tiny_gpt


@randomly
@given(seed=seeds)
def test_products_alternate(seed: int) -> None:
    x, y = numbers(seed, 2, 5, 8)
    close(product(x, product(x, y)), product(product(x, x), y))
    close(product(product(y, x), x), product(y, product(x, x)))
    close(product(product(x, y), x), product(x, product(y, x)))


@randomly
@given(seed=seeds)
def test_the_identities_of_moufang(seed: int) -> None:
    x, y, z = numbers(seed, 3, 5, 8)
    close(product(z, product(x, product(z, y))), product(product(product(z, x), z), y))
    close(product(x, product(z, product(y, z))), product(product(product(x, z), y), z))
    close(product(product(z, x), product(y, z)), product(product(z, product(x, y)), z))


def test_a_witness_that_brackets_matter() -> None:
    _, e1, e2, _, e4, *_ = torch.eye(8)
    assert torch.equal(product(product(e1, e2), e4), -product(e1, product(e2, e4)))
    assert associator(e1, e2, e4).norm() == 2


@randomly
@given(seed=seeds)
def test_brackets_matter_for_nearly_all_numbers_by_at_most_two(seed: int) -> None:
    gaps = associator(*units(seed, 3, 20, 8)).norm(dim=-1)
    assert 0.3 < gaps.mean() < 1.8
    assert gaps.max() <= 2 + 1e-12


@randomly
@given(seed=seeds)
def test_any_two_octonions_and_their_conjugates_associate(seed: int) -> None:
    x, y = numbers(seed, 2, 8)
    words = [x, y, product(x, y), torch.cat([x[:1], -x[1:]])]
    for a in words:
        for b in words:
            for c in words:
                close(product(product(a, b), c), product(a, product(b, c)))


def test_two_maps_one_after_the_other_are_no_octonion_linear_map() -> None:
    torch.manual_seed(0)
    first, second, both = (HyperLinear(*sizes, 8, bias=False).double() for sizes in ((16, 24), (24, 16), (16, 16)))
    dense = second.dense() @ first.dense()
    with torch.no_grad():
        # The only candidate: what the map does to real inputs.
        both.weight.copy_(dense.unflatten(1, (-1, 8))[..., 0].unflatten(0, (-1, 8)).flatten(1))
        assert (both.dense() - dense).norm() > 0.3 * dense.norm()


def test_the_figure_is_zero_for_values_in_a_copy_of_the_quaternions() -> None:
    model = tiny_gpt(attention=contract.ATTENTIONS["octonion"], position="none", rope_base=None)
    mixer = model.mixers()[0]
    _, context = contract.mixer_and_context("octonion", 5, "reference", position="none", rope_base=None)
    x = torch.randn(1, 5, 48)
    found = mixer.figures(x, context)["associator"]
    assert found.shape == (1, 6, 5)
    assert 0.3 < found.mean() < 1.8
    with torch.no_grad():
        for projection in (mixer.q_proj, mixer.k_proj, mixer.v_proj):
            components(projection.weight, 8)[4:] = 0
    x.unflatten(-1, (-1, 8))[..., 4:] = 0
    assert mixer.figures(x, context)["associator"].max() < 1e-5
