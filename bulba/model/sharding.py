"""FSDP2 (Zhao et al. 2023, arXiv 2304.11277): every process holds its share of each weight, through fully_shard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from bulba.errors import UnsupportedError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from bulba.model.gpt import GPT


def shard(model: GPT, mesh: DeviceMesh) -> None:
    """Share out the weights of `model` over the processes of `mesh`, in place; a block's are whole while it runs.

    Embedding and head stay whole from the forward to the backward pass, because the loss reads the head between them.
    """
    from torch.distributed.fsdp import fully_shard

    check_shardable(model)
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)


def check_shardable(model: GPT) -> None:
    """UnsupportedError for reversible layers: they call parts of a block, whose weights are whole in its call."""
    if model.has_reversible:
        raise UnsupportedError(
            "trainer.strategy=fsdp2 does not work with reversible layers, whose weights would be shared out when the "
            "backward pass rebuilds their activations: set trainer.strategy=ddp, or choose another attention."
        )


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be shared out over processes, in one piece; all processes must ask for it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def whole_weights(model: GPT) -> dict[str, Tensor]:
    """`model.state_dict()`, shared-out weights in one piece; all processes must ask for it."""
    return {name: whole(tensor) for name, tensor in model.state_dict().items()}
