"""Writing files so that a reader never sees half of one: write beside, flush to disk, rename."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from bulba.errors import BulbaError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed and renamed to `path`, else removed."""
    temporary = _beside(path)
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            sync_file(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success its files are flushed and it becomes `path`."""
    temporary, replaced = _beside(path), _beside(path)
    try:
        with disk_errors(path):
            temporary.mkdir(parents=True)
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    sync_file(file)
            sync_folder(temporary)
            if path.exists():
                # Moved away whole: removed in place, it would be half a folder to whoever looks meanwhile.
                path.replace(replaced)
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        if replaced.exists() and not path.exists():
            replaced.replace(path)
        for leftover in (temporary, replaced):
            if leftover.exists():
                shutil.rmtree(leftover)


def write_text(path: Path, text: str) -> None:
    """Replace the text of `path` (UTF-8) at once."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left in `folder`."""
    for leftover in folder.glob(".unfinished-*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into one sentence that names the place."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = _error_number(error)
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            free = shutil.disk_usage(_existing(path)).free
            raise BulbaError(
                f"the disk is full: {path} could not be written ({free / 1e9:.1f} GB free there); free some space or "
                "choose another place, then start the same command again."
            ) from error
        if number in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR):
            raise BulbaError(f"{path} may not be written ({os.strerror(number)}): choose another place.") from error
        raise


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def user_cache() -> Path:
    """Where Bulba keeps what can be fetched or made again: `bulba` in XDG_CACHE_HOME, else in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bulba"


def sync_file(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until a folder's names are on the disk (POSIX only; Windows has no such call)."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _error_number(error: OSError | SafetensorError) -> int | None:
    """The errno of a failed write; safetensors, which writes in Rust, has it only in its message."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def _beside(path: Path) -> Path:
    return path.parent / f".unfinished-{path.name}-{uuid.uuid4().hex[:8]}"


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.absolute().parents) if parent.exists())
