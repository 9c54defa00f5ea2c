"""Content hashes of input files, remembered between runs.

A file whose size, inode and times of modification and change are those of the last run is not read again. A
file changed within the last two seconds is never remembered: a second change could carry the same times.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bulba.data.readers import unreadable
from bulba.files import write_text

SETTLED_NS = 2_000_000_000


class FileHashes:
    """SHA-256 of files, with a memory in `path` that `save` writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[int | str]] = {}
        try:
            loaded = json.loads(path.read_bytes())
        except (OSError, ValueError):
            # Only a memory: without it every file is read once more.
            loaded = {}
        if isinstance(loaded, dict):
            self._known = loaded
        self._changed = False

    def get_all(self, paths: Sequence[Path], on_read: Callable[[int], object]) -> list[str]:
        """The hashes (hex) of the files' contents, several files at a time.

        Args:
            on_read: told the size in bytes of every piece that had to be read, by one thread at a time.

        Raises:
            LostFileError: a file cannot be read.
        """
        lock, stopped = threading.Lock(), threading.Event()

        def tell(size: int) -> None:
            with lock:
                if stopped.is_set():
                    raise InterruptedError
                on_read(size)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                return list(pool.map(lambda path: self._get(path, tell), paths))
            except BaseException:
                # Large files are left in the middle.
                stopped.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _get(self, path: Path, on_read: Callable[[int], object]) -> str:
        key = str(path.absolute())
        try:
            status = path.stat()
            # The time of change cannot be set back, as cp -p and archives do with that of modification.
            times = (status.st_mtime_ns, status.st_ctime_ns)
            stamp: list[int | str] = [status.st_size, status.st_ino, *times]
            known = self._known.get(key)
            if isinstance(known, list) and known[:-1] == stamp:
                return str(known[-1])
            digest = _hash(path, on_read)
        except OSError as error:
            raise unreadable(path, error) from error
        if abs(time.time_ns() - max(times)) > SETTLED_NS:
            self._known[key] = [*stamp, digest]
            self._changed = True
        return digest

    def save(self) -> None:
        """Remembers what was read; two runs at once each write a whole file and the later one stays."""
        if self._changed:
            write_text(self._path, json.dumps(self._known))


def _hash(path: Path, on_read: Callable[[int], object]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
            on_read(len(piece))
    return digest.hexdigest()
