"""The converter out of the source distribution of llama-cpp-python: one hash pins its script, its classes, its gguf.

uv says where the package index of this machine keeps the archive, because it knows the user's mirrors and passwords;
nothing of the archive is built or run here. Only the converter's files are kept, in the user's cache.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import subprocess
import tarfile
import tempfile
import tomllib
import urllib.request
from pathlib import Path, PurePosixPath

from bulba.errors import ExportError
from bulba.files import atomic_folder, user_cache

PACKAGE = "llama-cpp-python"
VERSION = "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
ARCHIVE = f"{PACKAGE.replace('-', '_')}-{VERSION}"
KEPT_FILES = ("PKG-INFO", "vendor/llama.cpp/LICENSE", "vendor/llama.cpp/convert_hf_to_gguf.py")
KEPT_FOLDERS = ("vendor/llama.cpp/conversion/", "vendor/llama.cpp/gguf-py/gguf/")
BY_HAND = f"unpack {ARCHIVE}.tar.gz from a machine with network and set export.llama_cpp to its folder"
TIMEOUT_S = 60


def fetch_sdist() -> Path:
    """The folder with the converter's files, from the cache or from the package index.

    Raises ExportError where the index cannot be reached and where the archive is not the one that SHA256 names.
    """
    folder = user_cache() / ARCHIVE
    if folder.is_dir():
        return folder
    url = archive_url()
    with tempfile.TemporaryDirectory() as temporary:
        archive = Path(temporary) / "archive.tar.gz"
        download(url, archive)
        if folder.is_dir():
            # Another process was faster, and may be reading there.
            return folder
        with atomic_folder(folder) as unfinished:
            unpack(archive, unfinished)
    return folder


def archive_url() -> str:
    """Where the package index keeps the archive."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise ExportError(f"{ARCHIVE}.tar.gz is found by uv, which is not installed: pip install uv, or {BY_HAND}.")
    # --no-deps: without it uv would build the package to learn what it needs.
    command = [uv, "pip", "compile", "-", "--quiet", "--no-header", "--no-deps", "--format", "pylock.toml"]
    done = subprocess.run(
        [*command, "--no-binary", PACKAGE], input=f"{PACKAGE}=={VERSION}", capture_output=True, text=True
    )
    if done.returncode:
        causes = [line.split("cause:", 1)[1] for line in done.stderr.splitlines() if "cause:" in line]
        reason = last_line(causes[-1] if causes else done.stderr)
        raise ExportError(f"{ARCHIVE}.tar.gz was not found ({reason}): get a network, or {BY_HAND}.")
    url = tomllib.loads(done.stdout)["packages"][0].get("sdist", {}).get("url")
    if url is None:
        raise ExportError(f"the package index of this machine has no {ARCHIVE}.tar.gz: {BY_HAND}.")
    return str(url)


def download(url: str, archive: Path) -> None:
    """Write the archive down; ExportError where it cannot be read or is another one."""
    digest = hashlib.sha256()
    print(f"fetching {ARCHIVE}.tar.gz", flush=True)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer, archive.open("wb") as file:
            while block := answer.read(1 << 20):
                digest.update(block)
                file.write(block)
    except (OSError, http.client.HTTPException) as error:
        raise ExportError(f"{ARCHIVE}.tar.gz could not be fetched ({error}): try again, or {BY_HAND}.") from error
    if digest.hexdigest() != SHA256:
        raise ExportError(
            f"{ARCHIVE}.tar.gz from the package index has SHA-256 {digest.hexdigest()} and not {SHA256}, so it is not "
            f"unpacked: use another index, or {BY_HAND}."
        )


def unpack(archive: Path, folder: Path) -> None:
    """Write the converter's files into `folder`; ExportError for a path that would leave it."""
    with tarfile.open(archive) as source:
        for member in source:
            if not member.isfile():
                # Of folders, links and devices the converter needs none.
                continue
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts:
                raise ExportError(f"{archive.name} has the path {member.name}, which leads out of it: {BY_HAND}.")
            inside = "/".join(path.parts[1:])
            if inside not in KEPT_FILES and not inside.startswith(KEPT_FOLDERS):
                continue
            target, content = folder / inside, source.extractfile(member)
            assert content is not None, "a file has content"
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, target.open("wb") as file:
                shutil.copyfileobj(content, file)


def last_line(text: str) -> str:
    """What a program said last, for a sentence."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it said nothing"
