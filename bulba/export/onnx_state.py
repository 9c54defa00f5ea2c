"""What an ONNX graph keeps of the tokens before: the decode caches of bulba/attention, grown by concatenation.

A cache of Bulba is a buffer that is written in place and counted by the model. A graph has neither, so that here a
state is tensors [B, G, P, width] of the P tokens before, and each pass gives them back with its T tokens behind. P may
be 0, and is the position of the first new token. Windows and bucket sums are kept as all their tokens: bounded states
do not tell how many tokens went before.

It has no form of FractalCache and TransportCache: their steps are loops over the length of the text, and a graph has
the steps of the text that it was traced with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from bulba.attention.bucket_sums import BucketCache
from bulba.attention.dyadic import FractalCache
from bulba.attention.heads import KeyValueCache
from bulba.attention.pair_blocks import Four
from bulba.attention.simplicial import WindowCache
from bulba.attention.transport import TransportCache
from bulba.errors import UnsupportedError
from bulba.model.gpt import GPT

# Why these have no state here.
LOOPS: dict[type, str] = {
    FractalCache: "builds a tree whose number of levels grows with the text",
    TransportCache: "multiplies the frames of all tokens in a number of steps that grows with the text",
}


@dataclass
class State:
    """One layer's tensors, [B, G, P, width] each; a graph calls them `past.LAYER.NAME` and `present.LAYER.NAME`."""

    names: ClassVar[tuple[str, ...]]
    tensors: list[Tensor]

    @classmethod
    def behind(cls, cache: Any, num_tokens: int) -> State:
        """The state after `num_tokens` tokens that is as wide as `cache`; zeros."""
        return cls([torch.zeros(*heads, num_tokens, width, dtype=dtype) for heads, width, dtype in cls.sizes(cache)])

    @staticmethod
    def sizes(cache: Any) -> list[tuple[torch.Size, int, torch.dtype]]:
        """(B, G), width and dtype of every tensor."""
        raise NotImplementedError

    def grow(self, *fresh: Tensor) -> list[Tensor]:
        """Put new tokens behind those that are there, and return all."""
        self.tensors = [torch.cat(pair, 2) for pair in zip(self.tensors, fresh, strict=True)]
        return self.tensors


class KeyValueState(State):
    """For `KeyValueCache`."""

    names = ("key", "value")

    @staticmethod
    def sizes(cache: KeyValueCache) -> list[tuple[torch.Size, int, torch.dtype]]:
        return [(x.shape[:2], x.shape[3], x.dtype) for x in (cache.k_BGSD, cache.v_BGSD)]

    def write(self, k_BGTD: Tensor, v_BGTD: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """As there."""
        k_BGSD, v_BGSD = self.grow(k_BGTD, v_BGTD)
        return k_BGSD, v_BGSD


class WindowState(State):
    """For `WindowCache`; the queries find their windows at the end."""

    names = ("key", "value", "key2", "value2")

    @staticmethod
    def sizes(cache: WindowCache) -> list[tuple[torch.Size, int, torch.dtype]]:
        return [(x.shape[:2], x.shape[3], x.dtype) for x in cache.kept]

    def write(self, fresh: Four) -> Four:
        """As there."""
        return cast("Four", tuple(self.grow(*fresh)))


class BucketState(State):
    """For `BucketCache`: digits of the keys and (v, 1), and the kernel written out in place of sums by bucket."""

    names = ("digits", "value")

    @staticmethod
    def sizes(cache: BucketCache) -> list[tuple[torch.Size, int, torch.dtype]]:
        root, num_digits = cache.tables[0], len(cache.tables) - 1
        return [(root.shape[:2], num_digits, torch.int64), (root.shape[:2], root.shape[-1], root.dtype)]

    def read(self, q_BNTL: Tensor, weights_NL: Tensor) -> Tensor:
        """As there: alpha^LCP of queries and the keys before them, times v; [B, N, T, E]."""
        # The past keeps its shape: ONNX takes a 0 in a new shape for "as before".
        digits_BGPL, v_BGPE = (tensor[:, :, None] for tensor in self.tensors)
        num_groups = digits_BGPL.shape[1]
        q_BGRTL = q_BNTL.unflatten(1, (num_groups, -1))
        weights_LGR11 = weights_NL.unflatten(0, (num_groups, -1)).movedim(-1, 0)[..., None, None]
        shared_BGRTP: Tensor = torch.ones_like(v_BGPE[:, :, :, None, :, 0])
        kernel_BGRTP = weights_LGR11[0] * shared_BGRTP
        for level in range(q_BNTL.shape[-1]):
            shared_BGRTP = shared_BGRTP * (q_BGRTL[..., level, None] == digits_BGPL[..., None, :, level])
            kernel_BGRTP = kernel_BGRTP + weights_LGR11[level + 1] * shared_BGRTP
        return (kernel_BGRTP @ v_BGPE).flatten(1, 2)

    def add(self, k_BGTL: Tensor, v_BGTE: Tensor) -> None:
        """As there."""
        self.grow(k_BGTL, v_BGTE)


STATES: dict[type, type[State]] = {
    KeyValueCache: KeyValueState,
    WindowCache: WindowState,
    BucketCache: BucketState,
}


def decodes(model: GPT) -> bool:
    """Whether every layer has a decode cache."""
    return all(mixer.capabilities.cache for mixer in model.mixers())


def new_states(model: GPT, batch_size: int, num_tokens: int) -> list[State]:
    """The states of all layers behind `num_tokens` tokens, of zeros.

    Raises UnsupportedError for a layer whose cache has no form here, naming what it does.
    """
    states = []
    for index, mixer in enumerate(model.mixers()):
        cache = mixer.new_cache(batch_size, 1, torch.float32, torch.device("cpu"))
        if type(cache) not in STATES:
            reason = LOOPS.get(type(cache), f"keeps a {type(cache).__name__} between tokens, which has no ONNX form")
            raise UnsupportedError(
                f"this model cannot become an ONNX file: layer {index} ({type(mixer).__name__}) {reason}; an INT8 "
                "folder (export=int8) and Bulba's own checkpoint folder hold it."
            )
        states.append(STATES[type(cache)].behind(cache, num_tokens))
    return states
