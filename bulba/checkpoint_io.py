"""Lightning's checkpoints in Bulba's folder format (bulba/checkpoint.py) instead of pickles, written in the background.

Saving copies everything to host memory, which training waits for; a thread then writes, flushes and renames. One
write at a time: the next save waits for the one before. So a save costs training the copy alone, and host memory of
about three times the weights while it is written (weights and, for AdamW, two moments).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO
from safetensors import SafetensorError

from bulba.checkpoint import Checkpoint, Snapshot, load_checkpoint, take_snapshot, write_snapshot
from bulba.checkpoint_folder import CheckpointRef
from bulba.errors import BulbaError

PREFIX = "model."


class FolderCheckpointIO(CheckpointIO):
    """Saves the dict that Lightning hands over as a checkpoint folder, and reads it back.

    loaded: the checkpoint to resume from, where it was read already; it is given out once. after_write: called by the
    writing thread when a checkpoint stands under its name.
    """

    def __init__(self, loaded: Checkpoint | None = None) -> None:
        self.after_write: Callable[[Path], object] = lambda folder: None
        self._loaded = loaded
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        state = dict(checkpoint)
        weights = {name.removeprefix(PREFIX): tensor for name, tensor in state.pop("state_dict").items()}
        self.wait()
        snapshot = take_snapshot(state.pop("model_config"), weights, state)
        self._thread = threading.Thread(target=self._write, args=(Path(path), snapshot), name="bulba-checkpoint")
        self._thread.start()

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            loaded = load_checkpoint(CheckpointRef(Path(path), None))
        return loaded.state | {"state_dict": {PREFIX + name: tensor for name, tensor in loaded.weights.items()}}

    def remove_checkpoint(self, path: Any) -> None:
        raise AssertionError("callbacks.checkpoints removes old checkpoints itself")

    def wait(self) -> None:
        """Wait until what is being written is on the disk, or has failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def take_error(self) -> BulbaError | None:
        """Why the last write failed, once; what is no fault of the disk is raised."""
        error, self._error = self._error, None
        if error is None:
            return None
        if isinstance(error, BulbaError):
            return error
        if isinstance(error, OSError | SafetensorError):
            return BulbaError(f"it could not be written ({error}).")
        raise error

    def _write(self, folder: Path, snapshot: Snapshot) -> None:
        try:
            write_snapshot(folder, snapshot)
            self.after_write(folder)
        except BaseException as error:
            self._error = error
