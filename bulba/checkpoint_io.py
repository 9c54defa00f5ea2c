"""Lightning's checkpoints in Bulba's folder format (bulba/checkpoint.py) instead of pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO

from bulba.checkpoint import load_state, load_weights, save_checkpoint

PREFIX = "model."


class FolderCheckpointIO(CheckpointIO):
    """Saves the dict that Lightning hands over as a checkpoint folder, and reads it back."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        state = dict(checkpoint)
        weights = {name.removeprefix(PREFIX): tensor for name, tensor in state.pop("state_dict").items()}
        save_checkpoint(Path(path), state.pop("model_config"), weights, state)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        weights = {PREFIX + name: tensor for name, tensor in load_weights(Path(path)).items()}
        return load_state(Path(path)) | {"state_dict": weights}

    def remove_checkpoint(self, path: Any) -> None:
        raise AssertionError("callbacks.checkpoints removes old checkpoints itself")
