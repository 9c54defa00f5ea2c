"""The stub of the compiled module says what the module has."""

import subprocess
import sys

import pytest


def test_the_stub_matches_the_module() -> None:
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy.stubtest", "bulba._rust"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
