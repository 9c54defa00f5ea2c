"""Folders that a preparation works in: whole or absent under their name, whatever is killed when.

Unlike `bulba.files.atomic_folder`, several processes may make the same folder at once: the first one stays, and what a
killed process left is told from what a living one still needs.
"""

import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bulba.files import sync_file, sync_folder


@contextmanager
def working_folder(parent: Path, target: Path, durable: bool = True) -> Iterator[Path]:
    """A folder of this process alone, which becomes `target` on success and vanishes otherwise.

    durable: wait for the disk, so that not even a power failure can leave `target` with half of its content.
    """
    folder = parent / f".tmp-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
        if durable:
            for file in folder.iterdir():
                sync_file(file)
            sync_folder(folder)
        _move_into_place(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move_into_place(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
        sync_folder(target.parent)
    except OSError:
        # Another process with the same inputs was faster, and its bytes are the same.
        if not target.is_dir():
            raise


def remove_leftovers(parent: Path) -> None:
    """Deletes the working folders of processes of this machine that no longer run."""
    for folder in parent.glob(f".tmp-{socket.gethostname()}-*"):
        pid = folder.name.split("-")[-2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
