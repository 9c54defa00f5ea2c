"""Octonions at work: which laws survive in eight dimensions, which one is lost, and where a layer feels the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bulba.attention.base import AttentionContext
from bulba.attention.hypercomplex import LEFT, HypercomplexMixer, HyperLinear, product, product_matrix, unit_signs
from bulba.attention.octonion import associator
from bulba.demo.quaternion import draw_heads, draw_turns

TITLE = "Octonion attention: an eighth of the weights, and brackets that matter"

Law = Callable[[Tensor, Tensor, Tensor], Tensor]
# What each law says is zero.
LAWS: dict[str, Law] = {
    "|xy| = |x||y|": lambda x, y, z: (product(x, y).norm(dim=-1) - x.norm(dim=-1) * y.norm(dim=-1))[:, None],
    "x(xy) = (xx)y": lambda x, y, z: associator(x, x, y),
    "z(x(zy)) = ((zx)z)y": lambda x, y, z: (
        product(z, product(x, product(z, y))) - product(product(product(z, x), z), y)
    ),
    "x(z(yz)) = ((xz)y)z": lambda x, y, z: (
        product(x, product(z, product(y, z))) - product(product(product(x, z), y), z)
    ),
    "(zx)(yz) = (z(xy))z": lambda x, y, z: (
        product(product(z, x), product(y, z)) - product(product(z, product(x, y)), z)
    ),
    "(xy)z = x(yz)": associator,
}


def show(figure: Any) -> list[str]:
    """Draw the table of products, how far each law fails, and the brackets of random numbers; say what came out."""
    torch.manual_seed(0)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1.1, 1])
    draw_table(left)
    errors = draw_laws(middle)
    mean_gap = draw_gaps(right)
    figure.suptitle(TITLE)
    kept = max(error for law, error in errors.items() if law != "(xy)z = x(yz)")
    return [
        "For 1,000 random unit octonions norms multiply, products alternate and Moufang's three identities hold, "
        f"within {kept:.0e}.",
        f"Brackets are what was lost: (xy)z and x(yz) are {mean_gap:.2f} apart in the mean, for numbers of length 1; "
        "with quaternions they are equal.",
        "So two projections one after the other are not one of their kind: the nearest octonion-linear map misses "
        f"their product by {outside(8):.0%} of its size; with quaternions the nearest one by {outside(4):.0%}.",
    ]


def draw_table(axes: Any) -> None:
    """e_a e_b for all units, red for minus."""
    signs = unit_signs(8)
    axes.imshow(torch.tensor(signs), cmap="RdBu", vmin=-2.5, vmax=2.5)
    for a in range(8):
        for b in range(8):
            axes.text(b, a, f"{'-' if signs[a][b] < 0 else ''}e{a ^ b}", ha="center", va="center", fontsize=7)
    axes.set_xticks(range(8), [f"e{b}" for b in range(8)], fontsize=8)
    axes.set_yticks(range(8), [f"e{a}" for a in range(8)], fontsize=8)
    axes.set_title("row times column:\nthe unit and its sign", fontsize=10)


def draw_laws(axes: Any) -> dict[str, float]:
    """By how much each law fails at worst, over random unit octonions."""
    numbers = torch.nn.functional.normalize(torch.randn(3, 1000, 8).double(), dim=-1)
    errors = {name: law(*numbers).norm(dim=-1).max().item() for name, law in LAWS.items()}
    axes.barh(list(errors), [max(error, 1e-17) for error in errors.values()], color=["tab:blue"] * 5 + ["tab:red"])
    axes.set(xscale="log", xlim=(1e-17, 1e2), xlabel="largest error")
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.set_title("five laws hold,\nthe sixth does not", fontsize=10)
    return errors


def draw_gaps(axes: Any) -> float:
    """How far apart the two bracketings of three random unit octonions are, and of quaternions."""
    gaps = associator(*torch.nn.functional.normalize(torch.randn(3, 20_000, 8), dim=-1)).norm(dim=-1)
    axes.hist(gaps, bins=60, color="tab:red", density=True)
    axes.axvline(0, color="tab:blue", linewidth=3)
    axes.annotate("quaternions", (0, axes.get_ylim()[1] * 0.9), xytext=(6, 0), textcoords="offset points", fontsize=8)
    axes.set(xlabel="|(xy)z - x(yz)|", ylabel="density of random triples", xlim=(-0.1, 2.1))
    axes.set_title("how much brackets\nmatter", fontsize=10)
    return gaps.mean().item()


@torch.no_grad()
def outside(num_components: int) -> float:
    """By how much of its size W V, two such maps one after the other, is missed by the nearest single one."""
    first, second, both = (HyperLinear(64, 64, num_components, bias=False).double() for _ in range(3))
    dense = second.dense() @ first.dense()
    # The nearest map: units of the same size make up the dense matrix, so each weight is a mean over its places.
    places = product_matrix(torch.eye(num_components).double(), LEFT)  # a, b, unit
    blocks = dense.unflatten(1, (-1, num_components)).unflatten(0, (-1, num_components))
    both.weight.copy_(torch.einsum("abc,oaib->oci", places, blocks).flatten(1) / num_components)
    return ((both.dense() - dense).norm() / dense.norm()).item()


def look(
    mixer: HypercomplexMixer, x_BTH: Tensor, context: AttentionContext, words: list[str], figure: Any
) -> list[str]:
    """The angles between the queries and keys of a sentence, and how much brackets would matter for each token."""
    found = mixer.figures(x_BTH, context)
    left, right = figure.subplots(1, 2)
    lines = draw_turns(left, found["turn_deg"][0], words, figure)
    gaps_NT = found["associator"][0].float().cpu()
    draw_heads(right, gaps_NT, words, "|(q k) v - q (k v)| / |q k v|")
    head, token = (int(i) for i in torch.unravel_index(gaps_NT.argmax(), gaps_NT.shape))
    figure.suptitle(f"{type(mixer).__name__}: how far a key must turn, and how far the layer is from quaternions")
    return [
        *lines,
        f"The brackets of query, key and value make a difference of {gaps_NT.mean():.2f} of their length in the mean "
        f'(0 for quaternions, at most 2), most at "{words[token]}" ({token}) in head {head}: {gaps_NT.max():.2f}.',
    ]
