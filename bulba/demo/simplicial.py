"""Simplicial attention at work: the 3-way match, which needs three tokens in one score (Sanford et al. 2023).

A row of numbers matches if x_last + x_j + x_k is divisible by the modulus for two other places j and k.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from bulba.attention.base import AttentionContext, Mixer
from bulba.attention.pair_blocks import times_conj
from bulba.attention.simplicial import SimplicialAttention
from bulba.model.gpt import GPT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Simplicial: three tokens meet in one score"
Kind = Literal["standard", "simplicial"]


def matches(numbers_BT: Tensor, modulus: int) -> Tensor:
    """Whether the last number and two others, in different places, add up to a multiple of the modulus; [B]."""
    others_BT = numbers_BT[:, :-1]
    sums_BTT = others_BT[:, :, None] + others_BT[:, None, :] + numbers_BT[:, -1:, None]
    return (sums_BTT % modulus == 0).triu(1).flatten(1).any(1)


def match_rows(num_rows: int, num_tokens: int, modulus: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random rows, every other one with a match: numbers [B, T] and the truth [B]."""
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    half = num_rows // 2
    while min(sum(map(len, rows)) for rows in found) < half:
        numbers_BT = torch.randint(modulus, (4 * num_rows, num_tokens), generator=generator)
        truth_B = matches(numbers_BT, modulus)
        for kind, rows in enumerate(found):
            rows.append(numbers_BT[truth_B == bool(kind)])
    numbers_BT = torch.stack([torch.cat(rows)[:half] for rows in found], 1).flatten(0, 1)
    return numbers_BT, torch.arange(2 * half) % 2 == 1


def pair_scores(numbers_BT: Tensor, modulus: int) -> Tensor:
    """cos(2 pi (x_last + x_j + x_k) / modulus) of all pairs, as the scores of a head of width 2; [B, T, T].

    Numbers are points on a circle: q is the conjugate of its own, so that the form turns it the same way as k and k'.
    """
    angles_BT = 2 * math.pi / modulus * numbers_BT.double()
    point_BTD = torch.stack([angles_BT.cos(), angles_BT.sin()], -1)
    q_B1D = point_BTD[:, -1:] * torch.tensor([1.0, -1.0])
    return times_conj(q_B1D[:, :, None], point_BTD[:, None]).squeeze(1) @ point_BTD.mT


def one_layer(kind: Kind, modulus: int, num_tokens: int) -> GPT:
    """One layer without positions, of width 32; `standard` has the wider feed-forward part, so that both are equal."""
    windows = {"window1_tokens": num_tokens + 1, "window2_tokens": num_tokens + 1} if kind == "simplicial" else {}
    target = {"simplicial": "SimplicialAttention", "standard": "StandardAttention"}[kind]
    return GPT(
        vocab_size=modulus + 1,
        num_layers=1,
        hidden_size=32,
        num_heads=2,
        num_kv_heads=2,
        intermediate_size={"simplicial": 64, "standard": 86}[kind],
        max_seq_len=num_tokens + 1,
        rope_base=None,
        position="none",
        tie_embeddings=False,
        init_std=0.2,
        attention={"_target_": f"bulba.attention.{kind}.{target}", **windows},
        mlp={"_target_": "bulba.model.mlp.SwiGLU"},
        norm={"_target_": "bulba.model.norm.RMSNorm", "eps": 1e-5},
    )


def answers(model: GPT, numbers_BT: Tensor, modulus: int) -> Tensor:
    """Logits of no and yes after the last number; a blank stands before the row, for queries that find nothing."""
    tokens_BT = F.pad(numbers_BT, (1, 0), value=modulus)
    return model.logits(model(tokens_BT)[:, -1])[:, :2]


def learn(kind: Kind, modulus: int, num_tokens: int, steps: int, rows: int, seed: int = 0) -> list[tuple[int, float]]:
    """Train one layer on fresh rows; the share of right answers on 2000 other rows after every tenth of the steps."""
    torch.manual_seed(seed)
    model = one_layer(kind, modulus, num_tokens)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 50) * (1 - step / steps))
    draw = torch.Generator().manual_seed(seed + 1)
    held_out_BT, truth_B = match_rows(2000, num_tokens, modulus, torch.Generator().manual_seed(seed + 2))
    curve = []
    for step in range(1, steps + 1):
        numbers_BT, wanted_B = match_rows(rows, num_tokens, modulus, draw)
        loss = F.cross_entropy(answers(model, numbers_BT, modulus), wanted_B.long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % (steps // 10) == 0:
            with torch.no_grad():
                right_B = answers(model, held_out_BT, modulus).argmax(-1) == truth_B
            curve.append((step, right_B.double().mean().item()))
    return curve


def show(figure: Figure) -> list[str]:
    """The scores of a head made by hand, and what one layer of each kind learns."""
    modulus, num_tokens, steps = 7, 5, 400
    many_BT, truth_B = match_rows(2000, 12, 101, torch.Generator().manual_seed(0))
    scores_BTT = pair_scores(many_BT, 101)[:, :-1, :-1]
    found_B = (scores_BTT > 1 - 1e-9).triu(1).flatten(1).any(1)
    exact = (found_B == truth_B).double().mean().item()
    curves = {kind: learn(kind, modulus, num_tokens, steps, 128) for kind in ("standard", "simplicial")}
    sizes = {kind: one_layer(cast("Kind", kind), modulus, num_tokens).get_num_params() for kind in curves}

    left, right = figure.subplots(1, 2)
    numbers = torch.arange(modulus)
    table = torch.cat([numbers[None], torch.tensor([[2]])], 1)
    image = left.imshow(pair_scores(table, modulus)[0, :-1, :-1], cmap="RdBu_r", vmin=-1, vmax=1, origin="lower")
    left.set(title=f"score of the query 2 with every pair, modulo {modulus}", xlabel="second key", ylabel="first key")
    for j in range(modulus):
        left.text((-2 - j) % modulus, j, "1", ha="center", va="center", color="white")
    figure.colorbar(image, ax=left, shrink=0.8)
    for kind, curve in curves.items():
        right.plot(*zip(*curve, strict=True), marker="o", label=f"one {kind} layer, {sizes[kind]:,} weights")
    right.axhline(0.5, color="grey", linestyle=":", label="guessing")
    right.set(title="3-way match: right answers", xlabel="steps", ylabel="share of 2000 new rows", ylim=(0.45, 1.02))
    right.legend(loc="lower right", bbox_to_anchor=(1, 0.08))
    return [
        "A row matches if its last number and two others add up to a multiple of the modulus. An ordinary score sees "
        "two tokens, a simplicial one three.",
        f"By hand, modulo 101: the score is cos(2 pi (x + y + z) / 101), 1 for a match alone. It tells "
        f"whether a row of 12 numbers matches, in {100 * exact:.1f} % of 2000 rows.",
        *(
            f"Learned, modulo {modulus}: one {kind} layer of {sizes[kind]:,} weights answers "
            f"{100 * curve[-1][1]:.1f} % of 2000 new rows right after {steps} steps (50 % is guessing)."
            for kind, curve in curves.items()
        ),
    ]


def look(mixer: Mixer, x_BTH: Tensor, context: AttentionContext, words: list[str], figure: Figure) -> list[str]:
    """Which pairs of words the last word of a sentence weighs, in the head whose two keys depend on each other most."""
    assert isinstance(mixer, SimplicialAttention)
    information_N = mixer.figures(x_BTH, context)["mutual_information_BNT"][0, :, -1]
    head = int(information_N.argmax())
    weights_UJ = mixer.weights(x_BTH, context)[0, head, -1].float().cpu()
    first, second = (words[-size:] for size in reversed(weights_UJ.shape))
    axes = figure.subplots()
    image = axes.imshow(weights_UJ, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(first)), first, rotation=60, ha="right")
    axes.set_yticks(range(len(second)), second)
    axes.set(title=f"pairs that «{words[-1]}» weighs, head {head}", xlabel="first key", ylabel="second key")
    figure.colorbar(image, ax=axes)
    best = weights_UJ.flatten().topk(min(3, weights_UJ.numel()))
    lines = [
        f"«{words[-1]}» weighs «{first[place % len(first)]}» with «{second[place // len(first)]}» by {share:.3f}"
        for share, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    return [
        f"Head {head}: its two keys tell {information_N[head]:.3f} nats of each other; 0 is what two ordinary "
        "attentions could do.",
        *lines,
    ]
