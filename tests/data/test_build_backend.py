"""A build without a compiler ends with one sentence, before anything is downloaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BACKEND = Path(__file__).parents[2] / "bulba_rust"
HOOKS = [
    "get_requires_for_build_wheel()",
    "get_requires_for_build_editable()",
    "prepare_metadata_for_build_wheel('out')",
    "prepare_metadata_for_build_editable('out')",
    "build_wheel('out')",
    "build_editable('out')",
    "build_sdist('out')",
]


def call(hook: str, path: Path) -> subprocess.CompletedProcess[str]:
    program = f"import sys; sys.path.insert(0, {str(BACKEND)!r}); import build_backend; build_backend.{hook}"
    environment = {**os.environ, "PATH": str(path)}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("hook", HOOKS)
def test_without_rust_every_hook_says_how_to_get_it(hook: str, tmp_path: Path) -> None:
    result = call(hook, tmp_path)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "cargo is not on PATH" in result.stderr
    assert "rustup" in result.stderr.lower()


@pytest.mark.skipif(sys.platform == "win32", reason="the linker is not on PATH there")
def test_without_a_linker_the_build_says_how_to_get_it(tmp_path: Path) -> None:
    cargo = tmp_path / "cargo"
    cargo.write_text("#!/bin/sh\nexit 1\n")
    cargo.chmod(0o755)
    result = call("build_wheel('out')", tmp_path)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "cc is not on PATH" in result.stderr
    assert "build-essential" in result.stderr or "xcode-select" in result.stderr
