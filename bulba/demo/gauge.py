"""Demo of gauge attention: frames may be chosen freely, order leaves a trace, rotary positions are a special case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bulba.attention.base import AttentionContext, MixerShape
from bulba.attention.gauge import GaugeAttention, angle, rotary_generators, rotation
from bulba.attention.transport import from_start, product, running_products, to_start, transpose
from bulba.model.position import rotary_tables, rotate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "gauge: attention along parallel transport"
WIDTH, TOKENS, MANY = 16, 120, 8192
PLAIN = AttentionContext(lambda x: x, None, None, None, "reference")


def show(figure: Figure) -> list[str]:
    """Rotary positions out of constant rotations, what is left of a closed loop, and lengths over many tokens."""
    torch.manual_seed(0)
    first, second, third = figure.subplots(1, 3)
    lines = [rotary_case(first), free_frames(), closed_loops(second), lengths(third)]
    figure.suptitle("Gauge attention: every token turns the frame of those after it")
    return lines


def rotary_case(axes: Axes) -> str:
    """Scores of one query and one key at every distance, by transport and by rotary positions."""
    q, k = torch.randn(2, 1, 1, 1, WIDTH).expand(-1, -1, -1, TOKENS, -1)
    steps = rotation(rotary_generators(2, WIDTH // 2, 1e4), 2).expand(1, 1, TOKENS, -1, -1, -1)
    frames = running_products(steps, None)
    cos, sin = rotary_tables(torch.arange(TOKENS)[None], WIDTH, 1e4)
    scores = []
    for turn in (lambda x: to_start(frames, x), lambda x: rotate(x, cos, sin)):
        scores.append((turn(q)[0, 0] * turn(k)[0, 0, 0]).sum(-1) / WIDTH**0.5)
    ours, rotary = scores
    axes.plot(rotary, color="tab:gray", linewidth=4, alpha=0.5, label="rotary positions")
    axes.plot(ours, color="tab:blue", linewidth=1, label="transport")
    axes.set(title="Constant rotations are rotary positions", xlabel="distance, tokens", ylabel="score")
    axes.margins(y=0.2)
    axes.legend(loc="upper center", ncols=2)
    return (
        "Constant rotations that commute give the scores of rotary positions: over "
        f"{TOKENS} distances they differ by at most {(ours - rotary).abs().max():.0e}."
    )


def free_frames() -> str:
    """Other coordinates at every token: the output turns with them, and that is all."""
    mixer = GaugeAttention(MixerShape(WIDTH, 1, 1, WIDTH), 4, True, 1.0, None).double()
    q, k, v = torch.randn(3, 1, 1, TOKENS, WIDTH, dtype=torch.float64)
    steps, turns = (rotation(torch.randn(1, 1, TOKENS, 6, 4, dtype=torch.float64), 4) for _ in range(2))
    y = mixer.attend(q, k, v, steps, PLAIN)
    new_steps = product(product(turns, steps), transpose(turns.roll(1, 2)))
    new_q, new_k, new_v = (from_start(turns, x) for x in (q, k, v))
    new_y = mixer.attend(new_q, new_k, new_v, new_steps, PLAIN)
    return (
        f"A random change of frame at each of {TOKENS} tokens changed the coordinates of the output by up to "
        f"{(new_y - y).abs().max():.1f}, and the output itself by {(to_start(turns, new_y) - y).abs().max():.0e}."
    )


def closed_loops(axes: Axes) -> str:
    """The rotation left over after two steps and the same two steps back in the other order."""
    strengths = torch.linspace(0, 1, 41)
    left: dict[int, Tensor] = {}
    for size, pairs in ((2, 1), (4, 6)):
        one, other = (rotation(strengths[:, None, None] * torch.randn(1, pairs, 500), size) for _ in range(2))
        left[size] = angle(product(product(one, other), transpose(product(other, one)))).mean(-1)
        axes.plot(strengths, left[size], label=f"blocks of {size}")
    axes.set(
        title="Holonomy: order leaves a trace", xlabel="size of the generators, radians", ylabel="radians left over"
    )
    axes.legend(loc="upper left")
    return (
        "Go along two steps and back in the other order: with generators of about 1 radian, blocks of 4 come back "
        f"turned by {left[4][-1]:.2f} radians on average, blocks of 2, which commute, by {left[2][-1]:.0e}."
    )


def lengths(axes: Axes) -> str:
    """A vector of length 1 that is carried over many tokens."""
    steps = rotation(torch.randn(1, 1, 1, 6, 1), 4).expand(-1, -1, MANY, -1, -1, -1)
    frame = steps[0, 0, 0]
    errors: list[float] = []
    for step in steps[0, 0].unbind(0):
        errors.append((frame[:, 0, 0].norm() - 1).abs().item())
        frame = product(step, frame)
    ours = (running_products(steps, None)[0, 0, :, :, 0, 0].norm(dim=-1) - 1).abs().cummax(0).values
    axes.loglog(range(1, MANY + 1), errors, label="one by one")
    axes.loglog(range(1, MANY + 1), ours, label="this scan")
    axes.set(title="Lengths are kept", xlabel="tokens", ylabel="largest error of the length, fp32")
    axes.legend(loc="upper left")
    return (
        f"After {MANY} tokens in fp32 a length is wrong by {errors[-1]:.0e} if matrices are multiplied one by one, "
        f"and by {ours[-1]:.0e} in the scan, which takes off what rounding adds."
    )


def look(mixer: Any, x_BTH: Tensor, context: AttentionContext, words: list[str], figure: Figure) -> list[str]:
    """How much the order of neighbours matters to each key head, and how far the frame has turned."""
    figures = mixer.figures(x_BTH, context)
    holonomy_GT, turn_GT = figures["holonomy_BGTL"][0].mean(-1), figures["turn_BGTL"][0].mean(-1)
    for axes, values, title in zip(
        figure.subplots(2, 1, sharex=True),
        (holonomy_GT, turn_GT),
        ("holonomy with the token before", "turn since the start"),
        strict=True,
    ):
        image = axes.imshow(values.cpu().float(), aspect="auto", cmap="magma", vmin=0)
        axes.set(title=title, ylabel="key head", yticks=range(len(values)))
        figure.colorbar(image, ax=axes, label="radians")
    axes.set_xticks(range(len(words)), words, rotation=90)
    head, token = divmod(int(holonomy_GT.argmax()), holonomy_GT.shape[1])
    before = words[token - 1] if token else ""
    return [
        f"Order matters most between {before!r} and {words[token]!r}: in key head {head} the two steps and the same "
        f"two in the other order differ by {holonomy_GT[head, token]:.3f} radians (mean: {holonomy_GT.mean():.3f}).",
        f"At {words[-1]!r} the frames have turned by {turn_GT[:, -1].mean():.2f} radians since the start of the text.",
    ]
