"""llama.cpp's own converter, found in a checkout or in llama-cpp-python's source, and run in a child process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import bulba
from bulba.errors import ConfigError, ExportError
from bulba.export.sdist import fetch_sdist, last_line
from bulba.export.types import GgufType

SDIST = "sdist"  # export.llama_cpp=sdist
SCRIPTS = ("convert_hf_to_gguf.py", "convert-hf-to-gguf.py")  # the second until the middle of 2024
PLACES = ("", "vendor/llama.cpp")  # in a checkout of llama.cpp, in the source of llama-cpp-python
CONVERTER_TYPES: tuple[GgufType, ...] = ("f32", "f16", "bf16", "q8_0")
Layout = Literal["one script", "package conversion"]
SHOWN_LINES = 40  # of a failed converter's error output


@dataclass(frozen=True)
class Converter:
    """A converter that was found.

    version: of llama-cpp-python, or the commit of the checkout, as far as the folder tells. layout: where its classes
    are. sha256: of its files and their names.
    """

    script: Path
    version: str
    layout: Layout
    sha256: str


def find_converter(place: str) -> Converter:
    """The converter in a folder, or the fetched one; ConfigError where there is none."""
    root = fetch_sdist() if place == SDIST else Path(place).expanduser().absolute()
    for folder in (root / inside for inside in PLACES):
        for script in (folder / name for name in SCRIPTS):
            if script.is_file():
                layout: Layout = "package conversion" if (folder / "conversion").is_dir() else "one script"
                return Converter(script, version_of(script), layout, digest_of(script))
    raise ConfigError(
        f"export.llama_cpp={place} holds no llama.cpp: neither it nor its vendor/llama.cpp has {SCRIPTS[0]}; give a "
        f"checkout of llama.cpp, the unpacked source of llama-cpp-python, or `{SDIST}` to have one fetched."
    )


def version_of(script: Path) -> str:
    """What the source of llama-cpp-python, or the repository in which the script is tracked, calls itself."""
    info = script.parents[2] / "PKG-INFO"
    head = info.read_text(encoding="utf-8").splitlines()[:10] if info.is_file() else []
    if "Name: llama_cpp_python" in head:
        version = next(line.removeprefix("Version: ") for line in head if line.startswith("Version: "))
        return f"llama-cpp-python {version}"
    # A script that is not tracked lies in somebody else's repository.
    if git(script.parent, "ls-files", "--error-unmatch", script.name) is None:
        return "a llama.cpp of unknown version"
    changed = git(script.parent, "status", "--porcelain", "--untracked-files=no")
    return f"llama.cpp {git(script.parent, 'rev-parse', 'HEAD')}{' with changes' if changed else ''}"


def git(folder: Path, *words: str) -> str | None:
    """What git answers; None where it fails or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return None if done.returncode else done.stdout.strip()


def digest_of(script: Path) -> str:
    """SHA-256 (hex) over the Python files that a conversion runs, each with its name."""
    folder, digest = script.parent, hashlib.sha256()
    for path in [script, *sorted([*folder.glob("conversion/**/*.py"), *folder.glob("gguf-py/gguf/**/*.py")])]:
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def check_type(type: GgufType) -> None:
    """ConfigError for types that the converter does not write."""
    if type not in CONVERTER_TYPES:
        raise ConfigError(
            f"export.llama_cpp: the converter of llama.cpp writes {', '.join(CONVERTER_TYPES)} and not {type}; export "
            "without export.llama_cpp, or with one of these as export.gguf.type."
        )


def run_converter(converter: Converter, folder: Path, out: Path, type: GgufType) -> dict[str, Any]:
    """Convert a Hugging Face folder to the file `out`; returns what was wrapped (converter_child.Patch).

    Raises ExportError with the last line of the converter's error output, and prints the rest above it.
    """
    words = [converter.script, folder.absolute(), out.absolute(), type]
    done = subprocess.run(
        [sys.executable, "-m", "bulba.export.converter_child", *map(str, words)],
        env=child_environment(),
        capture_output=True,
        text=True,
        errors="replace",
    )
    report = out.with_name(f"{out.name}.json")
    if done.returncode or not report.is_file():
        print("\n".join(done.stderr.strip().splitlines()[-SHOWN_LINES:]), file=sys.stderr, flush=True)
        raise ExportError(
            f"the converter of {converter.version} failed ({last_line(done.stderr)}), its error output is above: give "
            "export.llama_cpp another version, or leave it out."
        )
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def child_environment() -> dict[str, str]:
    """Bulba can be imported, the gguf package is the one beside the script, and nothing is asked of the Hub."""
    project = str(Path(bulba.__file__).parents[1])
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), project]))
    own = {name: value for name, value in os.environ.items() if name != "NO_LOCAL_GGUF"}
    return own | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
