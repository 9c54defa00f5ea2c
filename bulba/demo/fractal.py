"""Fractal attention at work: blocks instead of far tokens, a map that forgets where it began, addresses kept apart."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bulba.attention.base import AttentionContext, Mixer, MixerShape
from bulba.attention.dyadic import Contraction
from bulba.attention.fractal import FractalAttention
from bulba.attention.standard import StandardAttention

TITLE = "Fractal attention: near tokens one by one, far ones as blocks of a self-similar tree"
SHAPE = MixerShape(hidden_size=32, num_heads=4, num_kv_heads=4, head_dim=8)
ADDRESSES, KINDS, STEPS, RATE = 64, 4, 100, 0.2


def show(figure: Any) -> list[str]:
    """Draw what one query reads, the way to the fixed point, and what a second task does to a first one."""
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.2, 1, 1])
    torch.manual_seed(0)
    num_read, num_behind = draw_blocks(left, token=45, window=8)
    steps, norm = draw_fixed_point(middle)
    lost = draw_forgetting(right)
    figure.suptitle(TITLE)
    return [
        f"The query at token 45 reads 8 tokens one by one and the {num_behind} behind them as {num_read} blocks.",
        f"A map that scales distances by at most {norm:.2f} took 5 random starts to one point within 1e-6 in {steps} "
        "steps.",
        "Task A was learned at the first half of the addresses, then task B at the second half. Of the accuracy on A "
        f"{lost['fractal']:.0%} was lost with fractal attention and {lost['standard']:.0%} with standard.",
    ]


def look(mixer: FractalAttention, x_BTH: Tensor, context: AttentionContext, words: list[str], figure: Any) -> list[str]:
    """How much of its attention each word of a sentence gives to its window and to the blocks of each level."""
    figures = mixer.figures(x_BTH, context)
    far_TNh, norms = figures["far_weight_BTNh"][0], figures["pool_norms"]
    far_Th = far_TNh.mean(1)
    axes = figure.subplots()
    bottom = 1 - far_Th.sum(-1)
    places = range(len(words))
    axes.bar(places, bottom, color="lightgray", label=f"window of {mixer.window}")
    for level in range(far_Th.shape[-1]):
        axes.bar(places, far_Th[:, level], bottom=bottom, label=f"blocks of {2**level}")
        bottom = bottom + far_Th[:, level]
    axes.set_xticks(places, words, rotation=90, fontsize=8)
    axes.set(ylabel="share of attention, mean of heads", ylim=(0, 1))
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    axes.set_title("what each word reads: its window, and blocks by their size", fontsize=10)
    lines = [f"The maps that make blocks scale distances by at most {norms[0]:.3f} (keys) and {norms[1]:.3f} (values)."]
    if far_Th.shape[-1] == 0:
        return [*lines, f"The sentence fits the window of {mixer.window} tokens: there is no block to read."]
    return [*lines, f"The last word gives {far_Th[-1].sum():.0%} of its attention to what is behind its window."]


def draw_blocks(axes: Any, token: int, window: int) -> tuple[int, int]:
    """The tree over the tokens, and in colour what the query reads; how many blocks, and of how many tokens."""
    behind, begin, num_read = token - window + 1, 0, 0
    read = set()
    for level in reversed(range(behind.bit_length())):
        if behind - begin >= 2**level:
            read.add((level, begin))
            begin, num_read = begin + 2**level, num_read + 1
    for level in range(behind.bit_length()):
        for first in range(0, token + 1 - 2**level + 1, 2**level):
            color = "tab:orange" if (level, first) in read else "whitesmoke"
            if level == 0 and behind <= first <= token:
                color = "tab:blue"
            axes.add_patch(axes_rectangle(first, level, 2**level, color))
    arrow = {"arrowstyle": "->"}
    axes.annotate("query", (token + 0.5, 0.1), xytext=(token - 4, -0.8), ha="center", fontsize=8, arrowprops=arrow)
    axes.set(xlim=(-0.5, token + 2), ylim=(-1.1, behind.bit_length()), xlabel="token", ylabel="tokens of a block")
    axes.set_yticks([level + 0.5 for level in range(behind.bit_length())], [2**n for n in range(behind.bit_length())])
    axes.set_title("blue: the window, orange: the closed\nblocks behind it", fontsize=10)
    return num_read, behind


def axes_rectangle(first: int, level: int, size: int, color: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((first, level + 0.1), size, 0.8, facecolor=color, edgecolor="gray", linewidth=0.4)


def draw_fixed_point(axes: Any) -> tuple[int, float]:
    """Distances to the fixed point from five starts; steps until all are within 1e-6, and the norm of the map."""
    pool = Contraction(8, 0.9).double()
    with torch.no_grad():
        pool.weight.add_(0.05 * torch.randn(8, 16))
        pool.offset.normal_()
        left, right = pool.matrix().chunk(2, 1)
        norm = float(torch.linalg.matrix_norm(left, 2) + torch.linalg.matrix_norm(right, 2))
        fixed = torch.linalg.solve(torch.eye(8).double() - left - right, pool.offset)
        x = 10 * torch.randn(5, 8).double()
        distances: list[Tensor] = []
        while not distances or distances[-1].max() > 1e-6:
            distances.append((x - fixed).norm(dim=-1))
            x = pool(x, x)
    path = torch.stack(distances)
    axes.semilogy(path, color="tab:orange", lw=1)
    bound = path[0].max() * norm ** torch.arange(len(path))
    axes.semilogy(bound, "--", color="gray", label=f"start * {norm:.2f}^steps")
    axes.set(xlabel="steps of x = A x + B x + c", ylabel="distance to the fixed point")
    axes.legend(fontsize=8)
    axes.set_title("five starts, one end", fontsize=10)
    return len(distances) - 1, norm


def draw_forgetting(axes: Any) -> dict[str, float]:
    """Accuracy on task A before and after task B; the mean loss of it over seeds."""
    lost = {}
    kinds = {"fractal": lambda: FractalAttention(SHAPE, 4, 0.95), "standard": lambda: StandardAttention(SHAPE)}
    for place, (name, make) in enumerate(kinds.items()):
        before, after = torch.tensor([forgetting(make, seed) for seed in range(3)]).T
        axes.bar([place - 0.18, place + 0.18], [before.mean(), after.mean()], 0.34, color=["tab:gray", "tab:orange"])
        lost[name] = float((before - after).mean())
    axes.axhline(1 / KINDS, color="black", lw=0.8, ls=":")
    axes.set_xticks(range(2), kinds)
    axes.set(ylabel="accuracy on task A", ylim=(0, 1.05))
    axes.set_title("before (gray) and after (orange) learning\ntask B at other addresses", fontsize=10)
    return lost


def forgetting(make_mixer: Any, seed: int) -> tuple[float, float]:
    """Accuracy on a task at the first half of the addresses, before and after another is learned at the second half.

    A row of vectors, one for each address, goes through one mixer; what comes out at an address must name the kind
    that a fixed coin gave to it. Vectors, mixer and readout are all trained, by plain gradient descent.
    """
    torch.manual_seed(seed)
    mixer: Mixer = make_mixer()
    readout = nn.Linear(SHAPE.hidden_size, KINDS)
    x_TH = nn.Parameter(torch.randn(ADDRESSES, SHAPE.hidden_size))
    kinds_T = torch.randint(KINDS, (ADDRESSES,))
    context = AttentionContext(lambda x_BNTD: x_BNTD, None, None, None, "flash")
    optimizer = torch.optim.SGD([x_TH, *mixer.parameters(), *readout.parameters()], RATE)

    def logits() -> Tensor:
        return readout(mixer(x_TH[None], context)[0])

    first, second = slice(0, ADDRESSES // 2), slice(ADDRESSES // 2, None)
    found = []
    for part in (first, second):
        for _ in range(STEPS):
            optimizer.zero_grad()
            F.cross_entropy(logits()[part], kinds_T[part]).backward()
            optimizer.step()
        with torch.no_grad():
            found.append(float((logits()[first].argmax(-1) == kinds_T[first]).float().mean()))
    return found[0], found[1]
