"""Pretraining: next-token cross-entropy on packed documents.

The loss of a step is the sum of its token losses over the number of its tokens, over all micro-batches and ranks
(step_tokens comes with every batch), so that 1 x 32, 4 x 8 and 32 x 1 rows are the same step. Figures stay on the
device; callbacks read them every few steps.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from bulba.config.build import build
from bulba.data.datamodule import Batch
from bulba.mode import Compiled, Forward
from bulba.model.gpt import GPT
from bulba.model.sharding import shard, whole
from bulba.stage.flops import row_flops, shadow_of
from bulba.stage.losses import ChunkLoss, bits_per_byte, per_token_losses, perplexity, token_loss_sum


class Pretrain(L.LightningModule):
    """Trains `model` through `forward_hidden` and `chunk_loss`, the callables that the mode made of it and of the loss.

    optimizer, scheduler: their config nodes. token_bytes: UTF-8 bytes of every token id, int64 [vocab_size], for
    bits per byte. num_micro_batches: how many make one optimizer step on this rank. seed: of dropout, whose draws are
    a function of seed, step and micro-batch (`draw_seed`), so that a resumed run draws what the whole one would have.
    """

    # Nats of this rank and tokens of all ranks: of the running step, and of the steps since the last take_train_loss.
    step_nats: Tensor
    step_tokens: int
    _taken_nats: Tensor
    _taken_tokens: Tensor

    def __init__(
        self,
        model: GPT,
        forward_hidden: Forward,
        chunk_loss: ChunkLoss,
        optimizer: Mapping[str, Any],
        scheduler: Mapping[str, Any],
        token_bytes: Tensor,
        num_micro_batches: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        # In a tuple, so that a compiled module is not registered a second time.
        self._forward_hidden, self._chunk_loss = (forward_hidden,), chunk_loss
        with torch.device("meta"):
            self._shadow = (shadow_of(model),)  # sharding changes the model itself
        self._optimizer, self._scheduler = optimizer, scheduler
        self._token_bytes = token_bytes
        self._num_micro_batches, self._seed = num_micro_batches, seed
        self._micro_batch = 0  # of the running step
        self._reset_sums(torch.device("cpu"))
        self.grad_norm: Tensor | None = None
        self.skipped_steps = torch.zeros((), dtype=torch.int64)  # fp16: steps whose gradient was not finite
        self.learning_rate = 0.0
        self.val_figures: dict[str, float] = {}
        self.val_step = -1  # the step that val_figures belong to

    def configure_model(self) -> None:
        # Lightning gives a mesh with trainer.strategy=fsdp2 alone, and calls this for the last validation again.
        if self.device_mesh is not None and not hasattr(self.model, "unshard"):
            shard(self.model, self.device_mesh["data_parallel"])

    def row_flops(self, seq_len: int) -> int:
        """FLOPs of training on a row of `seq_len` tokens (bulba/stage/flops.py)."""
        return row_flops(self._shadow[0], seq_len)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.model.draws_random_numbers:
            # Micro-batches are dealt out to the ranks in turn (bulba/data/datamodule.py).
            number = self._micro_batch * self.trainer.world_size + self.global_rank
            torch.manual_seed(draw_seed(self._seed, self.trainer.global_step, number))
        self._micro_batch += 1
        nats = self._nats(batch)
        self.step_nats += nats.detach()
        self.step_tokens = int(batch["step_tokens"])
        # Lightning divides by the number of micro-batches, and data-parallel training averages over ranks.
        return nats * (self._num_micro_batches * self.trainer.world_size / self.step_tokens)

    def on_validation_epoch_start(self) -> None:
        # nats, tokens, bytes
        self._val_sums = torch.zeros(3, dtype=torch.float64, device=_float64_device(self.device))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        hidden_BTH = self._forward_raw(batch)
        losses_BT = per_token_losses(hidden_BTH, self.model.head, batch["targets"])
        valid_BT = batch["targets"] >= 0
        num_bytes = self._token_bytes.to(self.device)[batch["targets"].clamp(min=0)] * valid_BT
        sums = torch.stack([losses_BT.sum().double(), valid_BT.sum().double(), num_bytes.sum().double()])
        self._val_sums += sums.to(self._val_sums.device)

    def on_validation_epoch_end(self) -> None:
        sums = self.trainer.strategy.reduce(self._val_sums, reduce_op="sum")
        nats, tokens, num_bytes = sums.tolist()
        self.val_figures = {
            "val/loss": nats / tokens,
            "val/perplexity": perplexity(nats / tokens),
            "val/bpb": bits_per_byte(nats, num_bytes),
        }
        self.val_step = self.trainer.global_step
        self.log_dict(self.val_figures, logger=False, sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = build(self._optimizer, path="optimizer", named_parameters=list(self.model.named_parameters()))
        schedule = build(self._scheduler, path="scheduler", total_steps=self.trainer.max_steps)
        # A plain function, because LambdaLR would store and restore the settings of a callable object.
        scheduler = LambdaLR(optimizer, lambda step: schedule(step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of the whole gradient; keep the norm it had and the learning rate of this step."""
        limit = math.inf if gradient_clip_val is None else gradient_clip_val
        self.grad_norm = whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        self.learning_rate = optimizer.param_groups[0]["lr"]
        self._count_step(self.grad_norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["model_config"] = self.model.get_model_config()
        checkpoint["skipped_steps"] = int(self.skipped_steps)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.skipped_steps.fill_(checkpoint.get("skipped_steps", 0))

    @property
    def compiled(self) -> list[Compiled[Any, Any]]:
        """The parts of a step that the mode compiles."""
        return [part for part in (self._forward_hidden[0], self._chunk_loss) if isinstance(part, Compiled)]

    @property
    def scales_loss(self) -> bool:
        """Whether the loss is scaled, as fp16 needs it, and a step without a finite gradient is skipped."""
        return getattr(self.trainer.precision_plugin, "scaler", None) is not None

    def take_train_loss(self) -> float:
        """Mean loss in nats per token of the steps taken since the last call, over all ranks; waits for the device.

        NaN where every step was skipped.
        """
        nats = self.trainer.strategy.reduce(self._taken_nats, reduce_op="sum")
        tokens = float(self._taken_tokens)
        self._reset_sums(self._taken_nats.device)
        return float(nats) / tokens if tokens else math.nan

    def leave_out_step(self) -> None:
        """Make the update of the running step nothing: optimizers pass over weights without a gradient."""
        for parameter in self.model.parameters():
            parameter.grad = None
        self.step_nats, self.step_tokens = torch.zeros_like(self.step_nats), 0

    def on_train_start(self) -> None:
        self._reset_sums(_float64_device(self.device))
        self.skipped_steps = self.skipped_steps.to(self.device)

    def _nats(self, batch: Batch) -> Tensor:
        hidden_BTH = self._forward_hidden[0](*model_inputs(batch))
        return token_loss_sum(hidden_BTH, self.model.head, batch["targets"], self._chunk_loss)

    def _forward_raw(self, batch: Batch) -> Tensor:
        return self.model(*model_inputs(batch))

    def _count_step(self, grad_norm: Tensor) -> None:
        """Add the step that ends to the sums; one that the loss scaler will skip counts in its tokens alone."""
        self._micro_batch = 0
        skipped = torch.isfinite(grad_norm).logical_not().to(self._taken_nats.device) & self.scales_loss
        self._taken_nats += self.step_nats.where(~skipped, 0)
        self._taken_tokens += self.step_tokens * ~skipped
        self.train_tokens += self.step_tokens
        self.skipped_steps += skipped.to(self.skipped_steps.device)
        self.step_nats = torch.zeros_like(self.step_nats)

    def _reset_sums(self, device: torch.device) -> None:
        self.step_nats = torch.zeros((), dtype=torch.float64, device=device)
        self._taken_nats = torch.zeros_like(self.step_nats)
        self._taken_tokens = torch.zeros((), dtype=torch.int64, device=device)
        self.step_tokens = self.train_tokens = 0  # train_tokens: of skipped steps too


def draw_seed(seed: int, step: int, number: int) -> int:
    """What random numbers are drawn from in micro-batch `number` of a step, counted over all ranks."""
    return int.from_bytes(hashlib.blake2b(repr((seed, step, number)).encode(), digest_size=7).digest())


def model_inputs(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `GPT.forward` takes of a batch, in its order."""
    return batch["inputs"], batch["positions"], batch["documents"], batch["offsets"]


def _float64_device(device: torch.device) -> torch.device:
    """Where float64 sums can live: Apple GPUs have no float64."""
    return torch.device("cpu") if device.type == "mps" else device
