"""The peak memory of a run, predicted from its config before anything of it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from bulba.config.build import build, to_plain
from bulba.device import autocast, choose_device, choose_precision
from bulba.mode import Forward
from bulba.model.gpt import GPT
from bulba.run.check import num_processes, settle_kernel
from bulba.stage.losses import chunk_loss, per_token_losses, token_loss_sum
from bulba.stage.memory import CUDA_BLOCK_BYTES, StorageCounter, compiled_like, fused_chunk_loss

Peaks = Mapping[str, Mapping[str, int]]
# Enough for what an optimizer makes at its first step to be there when the second is taken.
STEPS = 2
# With torch.compile, models with more layers are predicted from these two.
TRACED_LAYERS = (2, 3)
# What Lightning and the matrix library take on a CPU, measured on Linux.
CPU_LIBRARY_BYTES = 10 * 10**6
# What torch.compile holds on a CPU beside compiled code: its modules, and graphs of each layer. Measured with models
# too small to matter: 98 to 106 MB with 2 layers and 126 to 151 MB with 8, the most where the code is not cached yet.
COMPILER_BYTES, COMPILER_BYTES_PER_LAYER = 90 * 10**6, 6 * 10**6
# What glibc's malloc kept beside the blocks that come and go, as a share of them, in trainings on Linux: 0.34 to 0.42
# with fused attention, 0.23 compiled, 0.53 to 1.14 where attention is written out.
MALLOC_LOSS = {"flash": 0.42, "reference": 1.15}


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak, by what holds them; malloc_bytes are what a CPU's malloc may keep beyond that."""

    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    loss_bytes: int
    temporary_bytes: int
    overhead_bytes: int
    malloc_bytes: int

    @property
    def needed_bytes(self) -> int:
        """What must be free for the run."""
        return sum(vars(self).values())

    @property
    def peak_bytes(self) -> int:
        return self.needed_bytes - self.malloc_bytes


def predict_memory(config: DictConfig, vocab_size: int) -> Memory:
    """The peak of training as `config` says, on its device, with a vocabulary of `vocab_size` rows."""
    device = choose_device(config.trainer.device)
    mode = build(config.mode, path="mode")
    num_layers = config.model.num_layers
    if mode.compile and num_layers > TRACED_LAYERS[1]:
        # Tracing takes seconds a layer, and layers are alike: each phase grows by as much with each of them.
        few, more = (phase_peaks(config, vocab_size, device, number) for number in TRACED_LAYERS)
        added = (num_layers - TRACED_LAYERS[1]) // (TRACED_LAYERS[1] - TRACED_LAYERS[0])
        peaks: Peaks = {
            phase: {kind: size + added * (size - few[phase].get(kind, 0)) for kind, size in more[phase].items()}
            for phase in more
        }
    else:
        peaks = phase_peaks(config, vocab_size, device, num_layers)
    most = max(peaks.values(), key=lambda peak: sum(size for kind, size in peak.items() if kind != "small"))
    return Memory(
        weights_bytes=most.get("weights", 0),
        gradients_bytes=most.get("gradients", 0),
        optimizer_bytes=most.get("optimizer", 0),
        activations_bytes=most.get("activations", 0),
        loss_bytes=most.get("loss", 0),
        temporary_bytes=most.get("temporary", 0),
        overhead_bytes=overhead_bytes(device, num_layers if mode.compile else None),
        malloc_bytes=int(MALLOC_LOSS[mode.kernel] * most.get("small", 0)) if device.type == "cpu" else 0,
    )


def phase_peaks(config: DictConfig, vocab_size: int, device: torch.device, num_layers: int) -> Peaks:
    """Bytes by kind at the peak of every phase of a step, with the model cut to `num_layers`."""
    num_micro_batches = config.data.batch_size // (config.data.micro_batch_size * num_processes(config))
    precision = choose_precision(config.trainer.precision, device)
    mode = build(config.mode, path="mode")
    fake = FakeTensorMode()
    with fake, torch.device(device):
        model: GPT = build(to_plain(config.model) | {"num_layers": num_layers}, path="model", vocab_size=vocab_size)
    settle_kernel(config, mode, model, device)  # asks the device itself
    with fake, torch.device(device):
        model.set_activation_checkpointing(config.trainer.get("activation_checkpointing", "none"))
        optimizer = build(config.optimizer, path="optimizer", named_parameters=list(model.named_parameters()))
        step = FakeStep(model, optimizer, mode.compile, config, precision)
        if mode.compile:
            step.micro_batch(StorageCounter(), first=True)  # the tracing itself is not counted
            optimizer.zero_grad()
        with StorageCounter(CUDA_BLOCK_BYTES if device.type == "cuda" else 1, fused=mode.compile) as counter:
            for tensor in (*model.parameters(), *model.buffers(), *step.inputs, step.targets_BT):
                counter.add(tensor, "weights")
            for parameter in model.parameters():
                parameter.register_post_accumulate_grad_hook(lambda p: counter.add(p.grad, "gradients"))
            for _ in range(STEPS):
                for number in range(min(num_micro_batches, 2)):
                    step.micro_batch(counter, first=number == 0)
                step.update(counter)
            step.validate(counter)
    return counter.peaks


class FakeStep:
    """The parts of an optimizer step in Lightning's order: the old gradients go after the forward pass."""

    def __init__(
        self, model: GPT, optimizer: torch.optim.Optimizer, compiled: bool, config: DictConfig, precision: str
    ) -> None:
        self.model, self.optimizer, self.config, self.precision = model, optimizer, config, precision
        # Where blocks are computed again, torch.compile keeps what the eager model keeps.
        partitioned = compiled and model.activation_checkpointing == "none"
        self.forward: Forward = compiled_like(model) if partitioned else model
        self.chunk = fused_chunk_loss if compiled else chunk_loss
        shape = (config.data.micro_batch_size, config.data.seq_len)
        tokens_BT = torch.zeros(shape, dtype=torch.int64)
        documents_BT = torch.zeros(shape, dtype=torch.int32)
        offsets = torch.zeros(shape[0] + 1, dtype=torch.int32)
        self.targets_BT = tokens_BT.clone()
        self.inputs = tokens_BT, documents_BT.clone(), documents_BT, offsets
        self.device = tokens_BT.device

    def micro_batch(self, counter: StorageCounter, first: bool) -> None:
        with autocast(self.device, self.precision):
            with counter.during("forward"):
                hidden_BTH = self.forward(*self.inputs)
            with counter.during("loss"):
                loss = token_loss_sum(hidden_BTH, self.model.head, self.targets_BT, self.chunk)
        del hidden_BTH
        if first:
            self.optimizer.zero_grad()
        loss.backward()

    def update(self, counter: StorageCounter) -> None:
        with counter.during("step"):
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.trainer.grad_clip_norm or torch.inf)
            self.optimizer.step()
        for state in self.optimizer.state.values():
            for value in state.values():
                if isinstance(value, Tensor):
                    counter.add(value, "optimizer")

    @torch.no_grad()
    def validate(self, counter: StorageCounter) -> None:
        with autocast(self.device, self.precision), counter.during("validation"):
            per_token_losses(self.model(*self.inputs), self.model.head, self.targets_BT)


def overhead_bytes(device: torch.device, compiled_layers: int | None) -> int:
    """What libraries take that no tensor of ours shows; compiled_layers: None where nothing is compiled."""
    if device.type == "cuda":
        # cuBLAS's workspace as torch sets it up: 32 MiB from Hopper on, else 8 MiB and 128 KiB.
        return 32 * 2**20 if torch.cuda.get_device_capability(device)[0] >= 9 else 8 * 2**20 + 128 * 2**10
    compiler = 0 if compiled_layers is None else COMPILER_BYTES + compiled_layers * COMPILER_BYTES_PER_LAYER
    return CPU_LIBRARY_BYTES + compiler
