"""One thread that makes the next items while the caller works on the last one."""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
# How often a waiting side looks whether the other one is still there.
POLL_SECONDS = 0.2


class Prefetch(Generic[T]):
    """An iterator over `items`, made up to `depth` ahead in a daemon thread.

    What the thread raises is raised by `next`. `close` ends the thread; so does the end of the program, before the
    interpreter goes, because a thread inside compiled code must not meet an interpreter that is gone.

    wait_seconds: how long `next` has waited for items, all in all.
    """

    def __init__(self, items: Iterator[T], depth: int) -> None:
        self.wait_seconds = 0.0
        self._items = items
        self._queue: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="bulba-prefetch", daemon=True)
        atexit.register(self.close)
        self._thread.start()

    def __iter__(self) -> Prefetch[T]:
        return self

    def __next__(self) -> T:
        started = time.perf_counter()
        item, error = self._take()
        self.wait_seconds += time.perf_counter() - started
        if error is not None:
            self.close()
            raise error
        assert item is not None
        return item

    def close(self) -> None:
        """End the thread; items that are ready are dropped."""
        self._stop.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        # The collector may end a forgotten iterator in the thread itself.
        if threading.current_thread() is not self._thread:
            self._thread.join()
        atexit.unregister(self.close)

    def _take(self) -> tuple[T | None, BaseException | None]:
        while not self._stop.is_set():
            # A wait without an end would not hear Ctrl-C on Windows.
            with contextlib.suppress(queue.Empty):
                return self._queue.get(timeout=POLL_SECONDS)
        return None, StopIteration()

    def _work(self) -> None:
        try:
            for item in self._items:
                if not self._put((item, None)):
                    return
            self._put((None, StopIteration()))
        except BaseException as error:
            self._put((None, error))

    def _put(self, entry: tuple[T | None, BaseException | None]) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(entry, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False
