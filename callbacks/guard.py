"""Watches the loss and the gradient norm of every step: not a number, infinite, or a spike.

A loss that is not finite spoils the weights in its own step, so such weights are never saved: Checkpoints has the guard
look before each save. What happened is kept in the run folder as incidents/step_NNNNNNNN.json (steps are counted as in
metrics.csv: step N makes checkpoint N of checkpoint N - 1) and `python -m bulba replay` computes it again.

Cost. `stop` and `rollback` write two numbers a step into a buffer on the device and read it every `every_steps` steps,
so the first bad step is known exactly although it is noticed later. `skip` must know before the weights are changed: it
takes the gradient norm once more and waits for the device in every step. A step that is left out, by `skip` or after a
rollback, changes neither weights nor optimizer state, whatever the optimizer; the learning rate and the order of the
data go on, so the order stays a function of (seed, step).

In fp16 an infinite gradient is how the loss scale is found, so there only the loss is judged.
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch

from bulba.checkpoint_folder import list_checkpoints
from bulba.config.snapshot import read_json, write_json
from bulba.data.datamodule import TextData
from bulba.data.ledger import show_step
from bulba.errors import BulbaError, ConfigError, TrainingError, UnsupportedError
from bulba.model.sharding import whole
from bulba.stage.pretrain import Pretrain

Policy = Literal["stop", "skip", "rollback"]
SpikePolicy = Literal["record", "stop", "rollback"]


class RollBack(Exception):  # noqa: N818 - nothing went wrong beyond what the settings provide for
    """Training is to begin again from its newest checkpoint; the step at fault is recorded and will be left out."""


class Guard(L.Callback):
    """Acts by `policy` where a loss or gradient is not finite, by `spike_policy` where the loss spikes.

    spike_factor, window: a spike is a loss above `spike_factor` times the median of the `window` steps before it.
    max_rollbacks: of the whole run; one more stops it. max_skips_in_a_row: so many bad steps, one after the other, stop
    it. every_steps: how often the figures are read.
    """

    def __init__(
        self,
        policy: Policy,
        spike_policy: SpikePolicy,
        spike_factor: float,
        window: int,
        max_rollbacks: int,
        max_skips_in_a_row: int,
        every_steps: int,
    ) -> None:
        if not spike_factor > 1:
            raise ConfigError(f"callbacks.guard.spike_factor={spike_factor} must be above 1.")
        for name, value in (
            ("window", window),
            ("max_rollbacks", max_rollbacks),
            ("max_skips_in_a_row", max_skips_in_a_row),
            ("every_steps", every_steps),
        ):
            if value < 1:
                raise ConfigError(f"callbacks.guard.{name}={value} must be at least 1.")
        self.policy, self.spike_policy = policy, spike_policy
        self.spike_factor, self.window, self.every_steps = spike_factor, window, every_steps
        self.max_rollbacks, self.max_skips_in_a_row = max_rollbacks, max_skips_in_a_row
        self.left_out: set[int] = set()
        self._losses: list[float] = []
        self._pending: list[int] = []
        self._last_step = self._skips_in_a_row = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if "rollback" in (self.policy, self.spike_policy) and trainer.world_size > 1:
            raise UnsupportedError(
                "callbacks.guard: rollback begins again within one process and there are "
                f"{trainer.world_size}: choose skip or stop, or trainer.num_devices=1."
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_step = trainer.global_step
        self.left_out |= {one["step"] for one in read_incidents(_run(trainer)) if one["taken"] in ("skip", "rollback")}
        # Where the stage keeps its sums: Apple GPUs have no float64.
        device = torch.device("cpu") if pl_module.device.type == "mps" else pl_module.device
        self._figures_N2 = torch.zeros(self.every_steps, 2, dtype=torch.float64, device=device)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        assert isinstance(pl_module, Pretrain)
        step = trainer.global_step + 1
        self._loss = pl_module.step_nats / pl_module.step_tokens
        if step in self.left_out:
            pl_module.leave_out_step()
        elif self.policy == "skip":
            self._judge_before_update(trainer, pl_module, step)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._collect(trainer)
        if len(self._pending) == self.every_steps:
            self.read(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.read(trainer)

    def read(self, trainer: L.Trainer) -> None:
        """Judge every step up to now; TrainingError or RollBack where a policy says so."""
        self._collect(trainer)
        if not self._pending:
            return
        steps, self._pending = self._pending, []
        figures_N2 = self._figures_N2[: len(steps)]
        losses = trainer.strategy.reduce(figures_N2[:, 0].clone(), reduce_op="sum").tolist()
        for step, loss, norm in zip(steps, losses, figures_N2[:, 1].tolist(), strict=True):
            if step in self.left_out:
                continue
            if not _is_finite(trainer, loss, norm):
                self._act(trainer, step, "nonfinite", loss, norm, "stop" if self.policy == "skip" else self.policy)
                continue
            usual = statistics.median(self._losses) if len(self._losses) == self.window else math.inf
            if loss > self.spike_factor * usual:
                self._act(trainer, step, "spike", loss, norm, self.spike_policy)
            self._losses = [*self._losses, loss][-self.window :]

    def state_dict(self) -> dict[str, Any]:
        return {"left_out": sorted(self.left_out), "losses": self._losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.left_out, self._losses = set(state_dict["left_out"]), state_dict["losses"][-self.window :]

    def _collect(self, trainer: L.Trainer) -> None:
        """Keep the figures of the step that just ended, on the device."""
        step, stage = trainer.global_step, trainer.lightning_module
        if step == self._last_step:
            return
        self._last_step = step
        assert isinstance(stage, Pretrain)
        assert stage.grad_norm is not None
        row_2 = self._figures_N2[len(self._pending)]
        row_2[0].copy_(self._loss)
        row_2[1].copy_(stage.grad_norm)
        self._pending.append(step)

    def _judge_before_update(self, trainer: L.Trainer, stage: Pretrain, step: int) -> None:
        gradients = [p.grad for p in stage.parameters() if p.grad is not None]
        norm = whole(torch.nn.utils.get_total_norm(gradients))
        loss = trainer.strategy.reduce(self._loss.clone(), reduce_op="sum")
        loss, norm = torch.stack([loss, norm.to(loss)]).tolist()
        if _is_finite(trainer, loss, norm):
            self._skips_in_a_row = 0
            return
        self._skips_in_a_row += 1
        taken = "skip" if self._skips_in_a_row <= self.max_skips_in_a_row else "stop"
        self._act(trainer, step, "nonfinite", loss, norm, taken)
        self.left_out.add(step)
        stage.leave_out_step()

    def _act(self, trainer: L.Trainer, step: int, kind: str, loss: float, norm: float, policy: str) -> None:
        """Record the incident, say it, and do what `policy` says."""
        run = _run(trainer)
        rollbacks = sum(one["taken"] == "rollback" for one in read_incidents(run))
        taken = "stop" if policy == "rollback" and rollbacks >= self.max_rollbacks else policy
        path = incident_path(run, step)
        usual = statistics.median(self._losses) if self._losses else None
        if trainer.is_global_zero:
            try:
                write_json(path, describe(trainer, step, kind, loss, norm, taken) | {"median_loss": usual})
            except (BulbaError, OSError) as error:
                print(f"warning: the incident of step {step} could not be recorded: {error}", flush=True)
                # Without the record the same step would come again.
                taken = "stop" if taken == "rollback" else taken
        what = f"step {step}: the loss is {loss:.4g} and the gradient norm {norm:.4g}"
        if taken == "stop":
            raise TrainingError(
                f"{what}, so training stopped, and nothing since is saved; {path} says what the step read, "
                f"`python -m bulba replay run={run} step={step}` computes it again, and callbacks.guard.policy=skip or "
                "rollback leaves such a step out."
            )
        if trainer.is_global_zero:
            done = {"record": "recorded", "skip": "left out", "rollback": "going back to the newest checkpoint"}
            print(f"warning: {what}; {done[taken]}, see {path}", flush=True)
        if taken == "rollback":
            raise RollBack(step)


def describe(trainer: L.Trainer, step: int, kind: str, loss: float, norm: float, taken: str) -> dict[str, Any]:
    """An incident in plain values; figures that JSON has no number for are texts."""
    data, run = trainer.datamodule, _run(trainer)  # type: ignore[attr-defined]
    assert isinstance(data, TextData)
    units = data.train_sampler.units_per_micro_batch * (data.batch_size // data.micro_batch_size)
    pieces = [vars(entry) | {"text": None} for entry in show_step(data, step - 1)]
    return {
        "step": step,
        "kind": kind,
        "loss": loss if math.isfinite(loss) else str(loss),
        "grad_norm": norm if math.isfinite(norm) else str(norm),
        "taken": taken,
        "noticed_at_step": trainer.global_step,
        "checkpoint_steps": [checkpoint.step for checkpoint in list_checkpoints(run) if checkpoint.step < step],
        "units": [(step - 1) * units, step * units],
        "pieces": [{name: value for name, value in piece.items() if name != "text"} for piece in pieces],
    }


def incident_path(run: Path, step: int) -> Path:
    """Where the incident of a step is recorded."""
    return run / "incidents" / f"step_{step:08d}.json"


def read_incidents(run: Path) -> list[dict[str, Any]]:
    """What was recorded, in the order of the steps."""
    try:
        return [read_json(path) for path in sorted((run / "incidents").glob("step_*.json"))]
    except ValueError as error:
        raise BulbaError(f"a file in {run / 'incidents'} is damaged ({error}): remove it.") from error


def _is_finite(trainer: L.Trainer, loss: float, norm: float) -> bool:
    scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
    return math.isfinite(loss) and (scaled or math.isfinite(norm))


def _run(trainer: L.Trainer) -> Path:
    return Path(trainer.default_root_dir)
