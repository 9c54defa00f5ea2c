"""What holds for quaternions alone: Hamilton's rules, rotations of space, closure under composition."""

from __future__ import annotations

import torch
from hypothesis import given

from bulba.attention.hypercomplex import HyperLinear, conjugated_by, product
from tests.attention.test_hypercomplex import close, numbers, randomly, seeds, units


def test_the_rules_of_hamilton() -> None:
    one, i, j, k = torch.eye(4)
    assert torch.equal(product(i, j), k)
    assert torch.equal(product(j, k), i)
    assert torch.equal(product(k, i), j)
    assert torch.equal(product(j, i), -k)
    assert torch.equal(product(product(i, j), k), -one)
    for unit in (i, j, k):
        assert torch.equal(product(unit, unit), -one)


@randomly
@given(seed=seeds)
def test_products_associate(seed: int) -> None:
    x, y, z = numbers(seed, 3, 5, 4)
    close(product(product(x, y), z), product(x, product(y, z)))


@randomly
@given(seed=seeds)
def test_a_rotor_turns_space_about_its_axis_by_twice_its_angle(seed: int) -> None:
    axis = units(seed, 3)
    half = numbers(seed + 1, 1)
    rotor = torch.cat([half.cos(), half.sin() * axis])
    v = numbers(seed + 2, 3)
    turned = conjugated_by(rotor, torch.cat([torch.zeros(1, dtype=v.dtype), v])[None])[0]
    # Rodrigues' formula.
    cos, sin = (2 * half).cos(), (2 * half).sin()
    close(turned[1:], cos * v + sin * torch.linalg.cross(axis, v) + (1 - cos) * (axis @ v) * axis)
    assert abs(turned[0]) < 1e-12


@randomly
@given(seed=seeds)
def test_rotors_compose(seed: int) -> None:
    r, s = units(seed, 2, 4)
    v = numbers(seed + 1, 3, 4)
    close(conjugated_by(product(r, s), v), conjugated_by(r, conjugated_by(s, v)))


@randomly
@given(seed=seeds)
def test_two_maps_one_after_the_other_are_one_quaternion_linear_map(seed: int) -> None:
    torch.manual_seed(seed)
    first, second, both = (HyperLinear(*sizes, 4, bias=False).double() for sizes in ((8, 12), (12, 8), (8, 8)))
    dense = second.dense() @ first.dense()
    with torch.no_grad():
        both.weight.copy_(dense.unflatten(1, (-1, 4))[..., 0].unflatten(0, (-1, 4)).flatten(1))
        close(both.dense(), dense)
