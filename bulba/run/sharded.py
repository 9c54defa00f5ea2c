"""FSDP2 through Lightning, with Bulba's own checkpoints: those of a run on one device, and interchangeable with them.

Weights are shared out by `Pretrain.configure_model`. Rank 0 gathers whole tensors to save them. It does not do tensor
parallelism.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from bulba.checkpoint_io import PREFIX

WHOLE = StateDictOptions(full_state_dict=True)
WHOLE_ON_RANK_0 = StateDictOptions(full_state_dict=True, cpu_offload=True)


class ShardedStrategy(ModelParallelStrategy):
    """Data parallelism over `num_processes`; saves and loads whole checkpoints through the trainer's CheckpointIO."""

    def __init__(self, num_processes: int) -> None:
        super().__init__(data_parallel_size=num_processes, tensor_parallel_size=1, save_distributed_checkpoint=False)

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The state of `optimizer` as it would be on one device, on rank 0; nothing elsewhere."""
        assert self.model is not None
        optimizer = getattr(optimizer, "_optimizer", optimizer)
        state: dict[str, Any] = get_optimizer_state_dict(self.model, optimizer, options=WHOLE_ON_RANK_0)
        if not state:
            return {}
        names = [name for group in state["param_groups"] for name in group["params"]]
        numbers = {name: number for number, name in enumerate(names)}
        return {
            "state": {numbers[name]: tensors for name, tensors in state["state"].items()},
            "param_groups": [
                group | {"params": [numbers[name] for name in group["params"]]} for group in state["param_groups"]
            ],
        }

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        return self.checkpoint_io.load_checkpoint(checkpoint_path)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.model is not None
        set_model_state_dict(self.model, checkpoint["state_dict"], options=WHOLE)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Share out the state of the optimizer, found by the names in its groups."""
        assert self.model is not None
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            names = {
                number: PREFIX + name
                for group in state["param_groups"]
                for number, name in zip(group["params"], group["param_names"], strict=True)
            }
            named: dict[str, Any] = {
                "state": {names[number]: tensors for number, tensors in state["state"].items()},
                "param_groups": [
                    group | {"params": [names[number] for number in group["params"]]} for group in state["param_groups"]
                ],
            }
            set_optimizer_state_dict(self.model, optimizer, named, options=WHOLE)
