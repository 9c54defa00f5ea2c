"""Checkpoints: a folder of safetensors and JSON, no pickle anywhere, loadable without Lightning.

    step_00000400/
        model.safetensors   weights, named as in Hugging Face Llama (opens in transformers beside a config.json)
        model.json          `GPT.get_model_config()`: rebuilds the model
        state.safetensors   every other tensor: optimizer moments, random generators
        state.json          where those tensors belong, and all plain values: step, schedule, loops
        checksums.json      SHA-256 of the files above, checked on load

The folder appears under its name only when it is whole (write beside, flush, rename). What is damaged later, by a
failing disk or by hand, is found by the checksums; a resume then goes on from the one before.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bulba.checkpoint_folder import (
    CheckpointRef,
    DamagedCheckpointError,
    check_whole,
    find_checkpoint,
    list_checkpoints,
    put_aside,
)
from bulba.errors import CheckpointError, ConfigError
from bulba.files import atomic_folder, sha256_file
from bulba.model.gpt import GPT

FORMAT_VERSION = 1
TENSOR_KEY, PAIRS_KEY = "$tensor", "$pairs"


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint in host memory, shared with nothing, so that it can be written while training goes on."""

    model_config: dict[str, Any]
    weights: dict[str, Tensor]
    state: Any
    state_tensors: dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read whole: `GPT.state_dict()` and the `state` it was saved with, tensors on the CPU."""

    ref: CheckpointRef
    weights: dict[str, Tensor]
    state: Any


def save_checkpoint(folder: Path, model_config: dict[str, Any], weights: dict[str, Tensor], state: Any) -> None:
    """Write a checkpoint folder at once.

    weights: `GPT.state_dict()`. state: nested dicts, lists and tuples of tensors and plain JSON values.
    """
    write_snapshot(folder, take_snapshot(model_config, weights, state))


def take_snapshot(model_config: dict[str, Any], weights: dict[str, Tensor], state: Any) -> Snapshot:
    """Copy everything to host memory; the arguments are those of `save_checkpoint`, free to change on return."""
    host_weights = {name: _host_copy(tensor) for name, tensor in to_hf_names(weights).items()}
    state_tensors: dict[str, Tensor] = {}
    plain_state = _take_tensors(state, state_tensors)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Snapshot(model_config, host_weights, plain_state, state_tensors)


def write_snapshot(folder: Path, snapshot: Snapshot) -> None:
    """Write, flush and rename; when this returns, the checkpoint survives a loss of power."""
    with atomic_folder(folder) as temporary:
        save_file(snapshot.weights, temporary / "model.safetensors", metadata={"format": "pt"})
        save_file(snapshot.state_tensors, temporary / "state.safetensors")
        _write_json(temporary / "model.json", snapshot.model_config)
        _write_json(temporary / "state.json", {"format_version": FORMAT_VERSION, "state": snapshot.state})
        checksums = {path.name: sha256_file(path) for path in sorted(temporary.iterdir())}
        _write_json(temporary / "checksums.json", checksums)


def load_checkpoint(ref: CheckpointRef) -> Checkpoint:
    """Weights and state, hashed once and mapped once. DamagedCheckpointError names a file that is not whole."""
    # Hashing is what reads the disk; mapping then copies nothing until a tensor goes to its place.
    check_whole(ref.folder)
    return Checkpoint(ref, load_weights(ref.folder), _read_state(ref.folder))


def load_newest(run: Path, say: Callable[[str], object]) -> Checkpoint:
    """The newest checkpoint of a run that is whole.

    Damaged ones behind it are kept as `step_N.damaged`, and `say` gets a sentence for each. CheckpointError where the
    run has none, or none is whole.
    """
    find_checkpoint(run)
    damaged: list[tuple[CheckpointRef, str]] = []
    for ref in reversed(list_checkpoints(run)):
        try:
            checkpoint = load_checkpoint(ref)
        except DamagedCheckpointError as error:
            damaged.append((ref, str(error)))
            continue
        for bad, reason in damaged:
            say(f"the checkpoint of step {bad.step} is damaged and was put aside as {put_aside(bad)}: {reason}")
        if damaged:
            say(f"going on from step {ref.step}, the newest that is whole.")
        return checkpoint
    reasons = " ".join(reason for _, reason in damaged)
    raise CheckpointError(f"none of the {len(damaged)} checkpoint(s) of {run} is whole, so start a new run: {reasons}")


def load_state(folder: Path) -> Any:
    """The `state` that `save_checkpoint` was given, tensors on the CPU."""
    check_whole(folder)
    return _read_state(folder)


def load_weights(folder: Path) -> dict[str, Tensor]:
    """The weights, named as in `GPT.state_dict()`."""
    try:
        return from_hf_names(load_file(folder / "model.safetensors"))
    except (SafetensorError, FileNotFoundError) as error:
        raise CheckpointError(
            f"{folder / 'model.safetensors'} cannot be read ({error}): use another checkpoint of the run."
        ) from error


def load_model(folder: Path, device: torch.device | str = "cpu") -> GPT:
    """Rebuild the model of a checkpoint from its own config alone; in eval mode."""
    check_whole(folder)
    config = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    try:
        model = GPT(**config)
    except TypeError as error:
        raise ConfigError(f"{folder / 'model.json'} is not a model config of this Bulba ({error}).") from error
    weights = load_weights(folder)
    check_fits(model, weights, folder)
    model.load_state_dict(weights)
    return model.to(device).eval()


def check_fits(model: GPT, weights: dict[str, Tensor], source: Path) -> None:
    """CheckpointError names the first of `weights` that `model` does not have in this shape."""
    own = model.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        expected = tuple(own[name].shape) if name in own else None
        got = tuple(weights[name].shape) if name in weights else None
        if expected != got:
            raise CheckpointError(
                f"{source} is a checkpoint of another shape: {name} is {got or 'absent'} there and "
                f"{expected or 'absent'} in this model; use the model settings that the run was trained with."
            )


def to_hf_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """`GPT.state_dict()` names to those of LlamaForCausalLM."""
    return {
        name if name.startswith("lm_head.") else f"model.{name}": tensor.detach().contiguous()
        for name, tensor in weights.items()
    }


def from_hf_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_hf_names`."""
    return {name.removeprefix("model."): tensor for name, tensor in weights.items()}


def _take_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON, its tensors moved to `tensors` and replaced by their names there."""
    if isinstance(value, Tensor):
        name = f"t{len(tensors):06d}"
        tensors[name] = _host_copy(value)
        return {TENSOR_KEY: name}
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: _take_tensors(item, tensors) for key, item in value.items()}
        return {PAIRS_KEY: [[key, _take_tensors(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_take_tensors(item, tensors) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise AssertionError(f"a checkpoint holds tensors and plain values only, not {type(value).__name__}")


def _put_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `_take_tensors` (tuples come back as lists)."""
    if isinstance(value, dict):
        if TENSOR_KEY in value:
            return tensors[value[TENSOR_KEY]]
        if PAIRS_KEY in value:
            return {key: _put_tensors(item, tensors) for key, item in value[PAIRS_KEY]}
        return {key: _put_tensors(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_tensors(item, tensors) for item in value]
    return value


def _host_copy(tensor: Tensor) -> Tensor:
    """A copy of its own in host memory: safetensors refuses tensors that share storage.

    From a GPU it goes to pinned memory, which the copies of all tensors fill without waiting for each other, so the
    caller synchronizes.
    """
    tensor = tensor.detach()
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return copy.copy_(tensor, non_blocking=tensor.is_cuda)


def _read_state(folder: Path) -> Any:
    tree = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if tree["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has checkpoint format {tree['format_version']} and this Bulba reads {FORMAT_VERSION}: "
            "use the version of Bulba that wrote it."
        )
    return _put_tensors(tree["state"], load_file(folder / "state.safetensors"))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
