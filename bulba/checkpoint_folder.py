"""Checkpoint folders, without what is in them: which there are, and whether their files are whole.

What a folder holds is described in bulba/checkpoint.py. Nothing here needs torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from bulba.errors import CheckpointError
from bulba.files import disk_errors, sha256_file

FILES = ("model.json", "model.safetensors", "state.json", "state.safetensors")
DAMAGED = ".damaged"


class DamagedCheckpointError(CheckpointError):
    """A file of the checkpoint is missing, or is not what was written."""


@dataclass(frozen=True)
class CheckpointRef:
    """A checkpoint folder and the run folder it belongs to (None when it stands alone)."""

    folder: Path
    run: Path | None

    @property
    def step(self) -> int:
        number = self.folder.name.removeprefix("step_")
        if not number.isdigit():
            raise CheckpointError(f"{self.folder} was renamed, so its step is not known: name it step_NUMBER again.")
        return int(number)


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of `step` stands in a run folder."""
    return run / "checkpoints" / f"step_{step:08d}"


def list_checkpoints(run: Path) -> list[CheckpointRef]:
    """The finished checkpoints of a run, oldest first; those that were put aside as damaged do not count."""
    folders = sorted((run / "checkpoints").glob("step_*"))
    return [CheckpointRef(folder, run) for folder in folders if folder.suffix != DAMAGED]


def find_checkpoint(path: Path) -> CheckpointRef:
    """The checkpoint that `path` means: a checkpoint folder itself, or the newest one of a run folder."""
    if (path / "checksums.json").is_file():
        run = path.parent.parent
        return CheckpointRef(path, run if (run / "config.yaml").is_file() else None)
    if not path.is_dir():
        raise CheckpointError(f"{path} does not exist: give a run folder, a checkpoint folder in it, or `last`.")
    checkpoints = list_checkpoints(path)
    if not checkpoints:
        raise CheckpointError(
            f"{path} has no checkpoints: train the run until its first one "
            "(callbacks.checkpoints.every_steps), or choose another run."
        )
    return checkpoints[-1]


def check_whole(folder: Path) -> None:
    """Hold every file of a checkpoint against its checksum."""
    for name, expected in _read_checksums(folder).items():
        try:
            found = sha256_file(folder / name)
        except OSError:
            found = None
        if found != expected:
            raise DamagedCheckpointError(
                f"{folder / name} is missing or damaged (its checksum differs): use another checkpoint of the run."
            )


def put_aside(ref: CheckpointRef) -> Path:
    """Rename a damaged checkpoint so that it does not count, and say to what."""
    number = 1
    while (aside := ref.folder.with_name(f"{ref.folder.name}{f'-{number}' * (number > 1)}{DAMAGED}")).exists():
        number += 1
    with disk_errors(ref.folder):
        ref.folder.rename(aside)
    return aside


def _read_checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file by its name; DamagedCheckpointError where that list itself is not whole."""
    path = folder / "checksums.json"
    if not path.is_file():
        raise DamagedCheckpointError(f"{folder} is not a Bulba checkpoint: it has no checksums.json.")
    try:
        checksums = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DamagedCheckpointError(f"{path} is damaged ({error}): use another checkpoint of the run.") from error
    if not isinstance(checksums, dict) or not set(FILES) <= checksums.keys():
        raise DamagedCheckpointError(
            f"{path} is damaged (it does not list every file): use another checkpoint of the run."
        )
    return checksums
