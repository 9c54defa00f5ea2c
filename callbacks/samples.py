"""What the model writes as it learns: one sample per language every few steps, printed and kept in samples.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from bulba.data.datamodule import TextData
from bulba.errors import ConfigError
from bulba.generation.engine import SamplingOptions, generate_text
from bulba.stage.pretrain import Pretrain
from callbacks.metrics import not_counted


class Samples(L.Callback):
    """Writes `max_new_tokens` tokens from the first prompt of each language every `every_steps` steps (null: never).

    The seed is fixed, so samples of one run can be compared; training's random state is not touched.
    """

    def __init__(self, every_steps: int | None, max_new_tokens: int, temperature: float) -> None:
        if every_steps is not None and every_steps < 1:
            raise ConfigError(f"callbacks.samples.every_steps={every_steps} must be at least 1, or null for never.")
        self.every_steps = every_steps
        self.options = SamplingOptions(max_new_tokens=max_new_tokens, temperature=temperature, seed=0)
        self._last_step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == self._last_step or self.every_steps is None or step % self.every_steps:
            return
        self._last_step = step
        assert isinstance(pl_module, Pretrain)
        if trainer.is_global_zero and step < trainer.max_steps:
            with not_counted(trainer, pl_module.device):
                print_samples(write_samples(trainer, pl_module, self.options), step)


def write_samples(trainer: L.Trainer, stage: Pretrain, options: SamplingOptions) -> dict[str, str]:
    """One sample per language, appended to samples.md of the run."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, TextData)
    model = stage.model
    model.eval()
    texts = {}
    for language, prompts in data.prompts().items():
        generated = generate_text(model, data.tokenizer, prompts[0], options)
        texts[language] = prompts[0] + generated.text
    model.train()
    try:
        with (Path(trainer.default_root_dir) / "samples.md").open("a", encoding="utf-8") as file:
            file.write(f"## step {trainer.global_step}\n\n")
            file.writelines(f"**{language or 'sample'}** {text.strip()}\n\n" for language, text in texts.items())
    except OSError as error:
        print(f"warning: the samples could not be kept in samples.md, the training goes on ({error})", flush=True)
    return texts


def print_samples(texts: dict[str, str], step: int) -> None:
    """Print samples, one paragraph each."""
    print(f"--- what it writes at step {step} ---")
    for language, text in texts.items():
        print(f"[{language or 'sample'}] {' '.join(text.split())}", flush=True)
