"""What a run was made from: the resolved config, and run.json with command, commit, versions and fingerprints."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bulba.files import write_text

PACKAGES = ("bulba", "torch", "lightning", "hydra-core", "omegaconf", "tokenizers", "safetensors", "numpy")


def write_config(config: DictConfig, run: Path) -> None:
    """Store the resolved config so that `train.py --config-path RUN` repeats the run in a folder of its own."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    plain["resume"] = None
    plain["hydra"] = {"output_subdir": None, "job": {"chdir": False}}
    header = "# The resolved config of this run. Repeat it: python train.py --config-path THIS_FOLDER\n"
    quiet = "- override hydra/job_logging: none\n- override hydra/hydra_logging: none\n"
    defaults = f"defaults:\n{quiet}- _self_\n"
    write_text(run / "config.yaml", header + defaults + OmegaConf.to_yaml(OmegaConf.create(plain)))


def provenance() -> dict[str, Any]:
    """Command, time, commit, versions and machine."""
    return {
        "command": ["python", *sys.orig_argv[1:]],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_state(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
    }


def git_state() -> dict[str, Any] | None:
    """Commit and whether the tree differs from it; None where Bulba does not run from a git checkout."""
    root = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def write_json(path: Path, value: Any) -> None:
    """Write JSON at once, readable by people."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
