"""A reader never sees half a file or half a folder, whatever happens to the writer."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from bulba.errors import BulbaError
from bulba.files import atomic_file, atomic_folder, disk_errors, remove_leftovers, sha256_file, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_folder(path: Path, text: str = "new") -> None:
    with atomic_folder(path) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "a.txt").write_text(text, encoding="utf-8")


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "файл.txt"
    write_text(path, "ўзор")
    with atomic_file(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_text(encoding="utf-8") == "ўзор"
        assert temporary.parent == path.parent  # a rename between disks would not be at once
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["файл.txt"]


def test_a_folder_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    write_folder(path, "old")
    (path / "stale.txt").touch()
    with atomic_folder(path) as temporary:
        (temporary / "b.txt").touch()
        assert names(path) == ["inner", "stale.txt"]
    assert names(path) == ["b.txt"]
    assert names(tmp_path) == ["folder"]


def write_half(kind: Any, path: Path, error: Any) -> None:
    with kind(path) as temporary:
        (temporary if kind is atomic_file else temporary / "half").write_text("half")
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("existed", [True, False])
def test_after_an_exception_everything_is_as_before(error: Any, existed: bool, tmp_path: Path) -> None:
    path = tmp_path / "x"
    for kind in (atomic_file, atomic_folder):
        if existed:
            write_text(path, "old") if kind is atomic_file else write_folder(path, "old")
        with pytest.raises(error):
            write_half(kind, path, error)
        assert names(tmp_path) == (["x"] if existed else [])
        if existed and kind is atomic_file:
            assert path.read_text() == "old"
            path.unlink()
        elif existed:
            assert (path / "inner" / "a.txt").read_text() == "old"
            shutil.rmtree(path)


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder"
    write_folder(path, "old")
    rename = Path.replace

    def fails_for_the_new_folder(self: Path, target: Path) -> Path:
        if target == path and (self / "inner" / "a.txt").read_text() == "new":
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fails_for_the_new_folder)
    with pytest.raises(BulbaError, match="the disk is full"):
        write_folder(path, "new")
    assert (path / "inner" / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["folder"]


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    write_folder(tmp_path / "folder")
    write_text(tmp_path / "file", "text")
    # What the two writers have on the disk in the middle of their work.
    with atomic_folder(tmp_path / "folder") as folder, atomic_file(tmp_path / "file") as file:
        file.write_text("half")
        assert len(names(tmp_path)) == 4
        remove_leftovers(tmp_path)
        assert names(tmp_path) == ["file", "folder"]
        folder.mkdir()
        file.touch()


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    resource: Any = pytest.importorskip("resource")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(BulbaError, match=r"^the disk is full: .*big\.txt could not be written .*free some space"):
            write_text(tmp_path / "big.txt", "x" * 20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full: "),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full: "),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "the disk is full: "),
        (OSError(errno.EROFS, "Read-only file system"), r"may not be written \(Read-only file system\): choose"),
        (SafetensorError("I/O error: Permission denied (os error 13)"), r"may not be written \(Permission denied\)"),
    ],
)
def test_what_a_disk_can_say_becomes_one_sentence(error: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(BulbaError, match=sentence), disk_errors(tmp_path / "not" / "yet" / "there"):
        raise error


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), SafetensorError("InvalidHeader")])
def test_other_errors_pass_unchanged(error: Any, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught, disk_errors(tmp_path):
        raise error
    assert caught.value is error


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BulbaError, match=r"x\.txt may not be written \(Permission denied\)"):
        write_text(tmp_path / "x.txt", "x")


def test_checksum(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "x").write_bytes(data)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()
