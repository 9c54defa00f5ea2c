"""Weights on their way into a file: block of rows by block of rows, so that memory does not grow with the model."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from bulba.export.architecture import Part

BLOCK_BYTES = 1 << 20  # of a tensor as fp32: what a thread works on at once; it stays in the cache of a core
NUM_THREADS = min(os.cpu_count() or 1, 4)
Made = TypeVar("Made")


def row_ranges(part: Part) -> Iterator[tuple[int, int]]:
    """First row, and row behind the last, of blocks of at most BLOCK_BYTES, if a row is no larger."""
    step = max(BLOCK_BYTES // (4 * math.prod(part.shape[1:])) // part.together, 1) * part.together
    for start in range(0, part.shape[0], step):
        yield start, min(start + step, part.shape[0])


def made_ahead(makers: Iterable[Callable[[], Made]]) -> Generator[Made]:
    """What they make, in their order; threads make some of it ahead while the caller uses what came before."""
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        waiting: deque[Future[Made]] = deque()
        for maker in makers:
            waiting.append(threads.submit(maker))
            if len(waiting) > 2 * NUM_THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
