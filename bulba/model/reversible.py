"""Reversible layers: two streams, and activations that the backward pass rebuilds from the outputs.

    y1 = x1 + Attn(norm x2),  y2 = x2 + MLP(norm y1);   back: x2 = y2 - MLP(norm y1),  x1 = y1 - Attn(norm x2)

(RevNet: Gomez et al. 2017, arXiv 1707.04585; Reformer: Kitaev et al. 2020, arXiv 2001.04451). Consecutive reversible
layers are one segment. Its two streams start as copies of the stream x that enters it and leave it as y1 + y2 - x: x
plus all that its layers added, each once and at full size, as from ordinary layers. So a segment of one layer is the
ordinary block, one whose layers add nothing changes nothing, and hybrids need no other scale of weights.

Written as half steps, c = a + f(b) with f attention or feed-forward in turn: autograd sees one node for each, which
saves no activation. Only the last b and c are kept; a backward step makes f(b) once more, takes its gradients, and
leaves a = c - f(b) to the step before it. Memory is that of one layer, whatever the depth; work grows by a third.
Streams are fp32 under autocast. Rounding makes the rebuilt ones differ in the last bits, a little more with every
layer. Random numbers are drawn again from the states that were kept, so dropout is the same.

torch.compile takes a whole segment as one operation of its first stage; its later stages look inside. There a step of
the backward pass would look like work of the forward pass, of which the partitioner would keep the results: `after`
ties it to its gradient. Dropout cannot be drawn a second time there and is refused (GPT.choose_backend).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.utils.checkpoint import get_device_states, set_device_states

from bulba.attention.base import AttentionContext, Kernel, Mixer
from bulba.model.block import Block
from bulba.model.position import Rotation, keep_as_it_is

Streams = tuple[Tensor, Tensor]


def advance(layers: Sequence[Block], streams: Streams, context: AttentionContext, caches: Sequence[Any]) -> Streams:
    """The streams behind `layers`; autograd stores the activations, where it is on."""
    first_BTH, second_BTH = streams
    for layer, cache in zip(layers, caches, strict=True):
        first_BTH = first_BTH + layer.attend(second_BTH, context, cache)
        second_BTH = second_BTH + layer.feed(first_BTH)
    return first_BTH, second_BTH


def undo(layers: Sequence[Block], streams: Streams, context: AttentionContext) -> Streams:
    """The inverse of `advance`: the streams before `layers`."""
    first_BTH, second_BTH = streams
    for layer in reversed(layers):
        second_BTH = second_BTH - layer.feed(first_BTH)
        first_BTH = first_BTH - layer.attend(second_BTH, context, None)
    return first_BTH, second_BTH


class Segment:
    """Consecutive reversible layers of a model, which owns them.

    rebuild: whether training rebuilds activations; false stores them, with the same gradients.
    """

    def __init__(self, layers: Sequence[Block]) -> None:
        self.layers = list(layers)
        self.rebuild = True
        self.branches = [branch for layer in layers for branch in branches(layer)]
        self.key = next(KEYS)
        SEGMENTS[self.key] = self
        # Here and not as a decorator: it imports torch's compiler, seconds for models that have no such layers.
        torch.compiler.allow_in_graph(run_in_graph)

    def __reduce__(self) -> Any:
        return Segment, (self.layers,)  # a copy has a key of its own

    def __call__(self, x_BTH: Tensor, context: AttentionContext, caches: Sequence[Any] | None) -> Tensor:
        if caches is not None or not torch.is_grad_enabled() or not self.rebuild:
            caches = [None] * len(self.layers) if caches is None else caches
            first_BTH, second_BTH = advance(self.layers, (x_BTH, x_BTH), context, caches)
            return first_BTH + second_BTH - x_BTH
        weights = [weight for branch in self.branches for weight in branch.weights()]
        if not torch.compiler.is_compiling():
            return self.run(x_BTH, context, weights, compiling=False)
        tables: tuple[Tensor | None, Tensor | None] = (None, None)
        if isinstance(context.rotate, Rotation):
            tables = context.rotate.cos_B1TK, context.rotate.sin_B1TK
        masks = context.documents_BT, context.mask_BTS, context.offsets, context.slopes_N
        return run_in_graph(self.key, context.kernel, x_BTH, *tables, *masks, weights)

    def run(self, x_BTH: Tensor, context: AttentionContext, weights: list[Tensor], compiling: bool) -> Tensor:
        """The segment with activations rebuilt; weights: of all branches, in their order."""
        trail: list[Tensor] = []
        left = iter(weights)
        first_BTH = second_BTH = x_BTH
        for branch in self.branches:
            own = list(itertools.islice(left, len(branch.names)))
            step = Step(branch, (context,) if branch.takes_context else (), trail, compiling)
            first_BTH, second_BTH = second_BTH, Couple.apply(step, first_BTH, second_BTH, *own)
        return cast("Tensor", Merge.apply(trail, x_BTH, first_BTH, second_BTH))


KEYS = itertools.count()
SEGMENTS: WeakValueDictionary[int, Segment] = WeakValueDictionary()
"""Segments by their keys: torch.compile takes numbers and tensors into a graph, but no modules."""


def run_in_graph(
    key: int,
    kernel: Kernel,
    x_BTH: Tensor,
    cos_B1TK: Tensor | None,
    sin_B1TK: Tensor | None,
    documents_BT: Tensor | None,
    mask_BTS: Tensor | None,
    offsets: Tensor | None,
    slopes_N: Tensor | None,
    weights: list[Tensor],
) -> Tensor:
    """`Segment.run` of the segment of this key; every tensor is an argument, since a graph knows no others."""
    rotate = keep_as_it_is if cos_B1TK is None or sin_B1TK is None else Rotation(cos_B1TK, sin_B1TK)
    context = AttentionContext(rotate, documents_BT, mask_BTS, offsets, kernel, slopes_N=slopes_N)
    return SEGMENTS[key].run(x_BTH, context, weights, compiling=True)


class Branch(nn.Module):
    """f of a half step, dropout(layer(norm(x))), over parts that a block owns."""

    def __init__(self, norm: nn.Module, layer: nn.Module, dropout: nn.Module) -> None:
        super().__init__()
        self.norm, self.layer, self.dropout = norm, layer, dropout
        self.takes_context = isinstance(layer, Mixer)
        self.names = [name for name, _ in (*self.named_parameters(), *self.named_buffers())]

    def forward(self, x_BTH: Tensor, *context: AttentionContext) -> Tensor:
        return self.dropout(self.layer(self.norm(x_BTH), *context))

    def weights(self) -> list[Tensor]:
        """Parameters and buffers in the order of `names`."""
        return [*self.parameters(), *self.buffers()]


def branches(layer: Block) -> tuple[Branch, Branch]:
    """The two half steps of a layer."""
    return (
        Branch(layer.input_layernorm, layer.self_attn, layer.dropout),
        Branch(layer.post_attention_layernorm, layer.mlp, layer.dropout),
    )


class Step:
    """What a half step knows beside its tensors.

    context: further arguments of f. trail: shared by the steps of a segment; in the backward pass b and c of the step
    whose turn it is. compiling: whether torch.compile is tracing.
    """

    def __init__(self, branch: Branch, context: tuple[Any, ...], trail: list[Tensor], compiling: bool) -> None:
        self.branch, self.context, self.trail, self.compiling = branch, context, trail, compiling

    def remember(self, x_BTH: Tensor) -> None:
        """Keep the autocast state, and the random states where f may draw numbers."""
        kind = self.device_type = x_BTH.device.type
        self.autocast = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        self.draws = self.branch.training and not self.compiling
        if self.draws:
            self.random_state = torch.get_rng_state()
            self.devices, self.device_states = get_device_states(x_BTH)

    def f(self, x_BTH: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """f(x) with these weights, under the autocast state of the forward pass."""
        enabled, dtype = self.autocast
        # Casts are not shared: those made without gradients would cut the weights off from theirs.
        with torch.autocast(self.device_type, dtype, enabled, cache_enabled=False):
            named = dict(zip(self.branch.names, weights, strict=True))
            return functional_call(self.branch, named, (x_BTH, *self.context), tie_weights=False)

    @contextmanager
    def as_before(self) -> Iterator[None]:
        """Random numbers as in the forward pass."""
        if not self.draws:
            yield
            return
        with torch.random.fork_rng(self.devices, device_type=self.device_type):
            torch.set_rng_state(self.random_state)
            set_device_states(self.devices, self.device_states, device_type=self.device_type)
            yield


class Couple(torch.autograd.Function):
    """c = a + f(b); the backward pass finds b and c on the trail and leaves a and b there."""

    @staticmethod
    def forward(ctx: Any, step: Step, a_BTH: Tensor, b_BTH: Tensor, *weights: Tensor) -> Tensor:
        step.remember(b_BTH)
        ctx.step = step
        ctx.save_for_backward(*weights)
        return a_BTH + step.f(b_BTH, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTH: Tensor) -> tuple[Any, ...]:
        step, weights = ctx.step, ctx.saved_tensors
        b_BTH, c_BTH = step.trail
        if step.compiling:
            b_BTH = after(b_BTH, grad_BTH)
        with step.as_before(), torch.enable_grad():
            b_BTH = b_BTH.detach().requires_grad_()
            f_BTH = step.f(b_BTH, weights)
        step.trail[:] = c_BTH - f_BTH.detach(), b_BTH.detach()
        learning = ctx.needs_input_grad[3:]
        wanted = [weight for weight, learns in zip(weights, learning, strict=True) if learns]
        grad_b, *grads = torch.autograd.grad(f_BTH, (b_BTH, *wanted), grad_BTH.to(f_BTH.dtype), allow_unused=True)
        left = iter(grads)
        return None, grad_BTH, grad_b, *(next(left) if learns else None for learns in learning)


class Merge(torch.autograd.Function):
    """first + second - x, the end of a segment: where the trail of the backward pass begins."""

    @staticmethod
    def forward(ctx: Any, trail: list[Tensor], x_BTH: Tensor, first_BTH: Tensor, second_BTH: Tensor) -> Tensor:
        ctx.trail = trail
        ctx.save_for_backward(first_BTH, second_BTH)
        return first_BTH + second_BTH - x_BTH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTH: Tensor) -> tuple[None, Tensor, Tensor, Tensor]:
        ctx.trail[:] = ctx.saved_tensors
        return None, -grad_BTH, grad_BTH, grad_BTH


@torch.library.custom_op("bulba::after", mutates_args=())
def after(x: Tensor, gradient: Tensor) -> Tensor:
    """x itself, but not to be had before `gradient` is there."""
    return x.clone()


@after.register_fake
def _(x: Tensor, gradient: Tensor) -> Tensor:
    return torch.empty_like(x)


def parts(layers: Iterable[nn.Module]) -> list[tuple[int, Block | Segment]]:
    """The layers in order, neighbours that are reversible as one segment; each with the number of its first layer."""
    found: list[tuple[int, Block | Segment]] = []
    numbered = enumerate(cast("Iterable[Block]", layers))
    for reversible, group in itertools.groupby(numbered, lambda one: one[1].self_attn.reversible):
        members = list(group)
        if reversible:
            found.append((members[0][0], Segment([layer for _, layer in members])))
        else:
            found += members
    return found
