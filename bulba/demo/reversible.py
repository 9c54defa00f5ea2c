"""Reversible layers: a training step holds the activations of one layer, because the others can be computed back.

y1 = x1 + Attn(norm x2), y2 = x2 + MLP(norm y1) gives x2 = y2 - MLP(norm y1) and x1 = y1 - Attn(norm x2): exactly in
real numbers, and up to rounding in fp32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bulba.attention.base import AttentionContext
from bulba.attention.reversible import ReversibleAttention
from bulba.model.gpt import GPT
from bulba.model.reversible import Segment, advance, undo
from bulba.stage.memory import StorageCounter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "activations computed back instead of stored"
DEPTHS = [1, 2, 4, 8, 16, 32]
NUM_TOKENS = 128


def show(figure: Figure) -> list[str]:
    """Memory of a training step by depth, and how exactly a deep stack is undone."""
    stored, rebuilt = ([step_bytes(depth, rebuild) / 1e6 for depth in DEPTHS] for rebuild in (False, True))
    errors = undo_errors(DEPTHS[-1])
    left, right = figure.subplots(1, 2)
    left.plot(DEPTHS, stored, "s-", color="#d55e00", label="stored")
    left.plot(DEPTHS, rebuilt, "o-", color="#0072b2", label="rebuilt")
    left.set_xlabel("layers")
    left.set_ylabel("MB")
    left.set_ylim(0)
    left.set_title("Activations of a training step")
    rounding = torch.finfo(torch.float32).eps
    right.plot(range(1, len(errors) + 1), [error / rounding for error in errors], "o-", color="#0072b2", markersize=4)
    right.set_xlabel("layers undone")
    right.set_ylabel(f"largest error / largest value, in units of {rounding:.1e}")
    right.set_ylim(0)
    right.set_title("Streams computed back, in steps of fp32")
    for axes in (left, right):
        axes.grid(color="#eeeeee")
    left.legend(frameon=False)
    return [
        f"a training step on {NUM_TOKENS} tokens holds {stored[0]:.1f} MB of activations with 1 layer;",
        f"with {DEPTHS[-1]} layers {stored[-1]:.1f} MB where they are stored, {rebuilt[-1]:.1f} MB where rebuilt;",
        f"undoing {len(errors)} layers in fp32 gives the input back with a relative error of {errors[-1]:.1e}.",
    ]


def look(
    mixer: ReversibleAttention, x_BTH: Tensor, context: AttentionContext, words: list[str], figure: Figure
) -> list[str]:
    """How much attention adds at every token of its input, and what rounding leaves when it is taken away again."""
    figures = mixer.figures(x_BTH, context)
    added_T, error_T = figures["added_frac"][0], figures["undo_error"][0]
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.bar(range(len(words)), added_T.tolist(), color="#0072b2")
    top.set_ylabel("norm of output / input")
    top.set_title("What attention adds, beside its normed input")
    bottom.bar(range(len(words)), error_T.tolist(), color="#d55e00")
    bottom.set_ylabel("relative error")
    bottom.set_title("What rounding leaves after it is taken away again, fp32")
    bottom.set_xticks(range(len(words)), words, rotation=90)
    most = int(added_T.argmax())
    return [
        f"attention adds {float(added_T.mean()):.2f} times the norm of its normed input on average, most at "
        f"{words[most]!r} ({float(added_T[most]):.2f});",
        f"taken away again, it leaves the input with a relative error of at most {float(error_T.max()):.1e}.",
    ]


def model_of(depth: int) -> GPT:
    """A small model of reversible layers."""
    inner = {"_target_": "bulba.attention.standard.StandardAttention"}
    return GPT(
        vocab_size=64,
        num_layers=depth,
        hidden_size=64,
        num_heads=4,
        num_kv_heads=4,
        intermediate_size=128,
        max_seq_len=NUM_TOKENS,
        rope_base=1e4,
        tie_embeddings=True,
        init_std=0.1,
        attention={"_target_": "bulba.attention.reversible.ReversibleAttention", "inner": inner},
        mlp={"_target_": "bulba.model.mlp.SwiGLU"},
        norm={"_target_": "bulba.model.norm.RMSNorm", "eps": 1e-5},
    )


def step_bytes(depth: int, rebuild: bool) -> int:
    """The most that the activations of one step take, forward and backward; gradients of the weights left out."""
    model = model_of(depth)
    model.set_rebuild(rebuild)
    with StorageCounter() as counter:
        for parameter in model.parameters():
            counter.add(parameter, "weights")
            parameter.register_post_accumulate_grad_hook(lambda p: counter.add(p.grad, "gradients"))
        model(torch.zeros(1, NUM_TOKENS, dtype=torch.int64)).sum().backward()
    return max(peak["temporary"] for peak in counter.peaks.values())


@torch.no_grad()
def undo_errors(depth: int) -> list[float]:
    """The error of the streams after the last 1, 2, 3 ... layers are undone."""
    model = model_of(depth)
    ((_, segment),) = model.parts
    assert isinstance(segment, Segment)
    context = AttentionContext(lambda x: x, None, None, None, "reference")
    x_BTH = torch.randn(1, NUM_TOKENS, 64)
    before = [(x_BTH, x_BTH)]
    for layer in segment.layers:
        before.append(advance([layer], before[-1], context, [None]))
    streams = before.pop()
    errors = []
    for layer in reversed(segment.layers):
        streams = undo([layer], streams, context)
        expected = before.pop()
        largest = max(float(one.abs().max()) for one in expected)
        errors.append(max(float((a - b).abs().max()) for a, b in zip(streams, expected, strict=True)) / largest)
    return errors
