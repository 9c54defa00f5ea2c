"""`python -m bulba generate`: stream text from a run's newest checkpoint, or from an INT8 folder."""

from __future__ import annotations

from bulba.checkpoint import load_model
from bulba.checkpoint_folder import CheckpointRef, find_checkpoint
from bulba.data.tokenizer import Tokenizer
from bulba.device import Device, choose_device
from bulba.errors import UnsupportedError
from bulba.export.int8 import is_int8, load_int8
from bulba.export.run import find_tokenizer
from bulba.generation.engine import SamplingOptions, generate
from bulba.model.gpt import GPT
from bulba.runs import find_run


def generate_command(
    run: str = "last",
    prompt: str = "",
    device: Device = "auto",
    max_new_tokens: int = 200,
    temperature: float = 0.7,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    repetition_window: int | None = None,
    stop: str | list[str] | None = None,
    seed: int = 0,
    cache: bool = True,
) -> None:
    """Print the prompt and what the model makes of it, piece by piece."""
    sampling = SamplingOptions(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        repetition_window=repetition_window,
        stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        seed=seed,
        cache=cache,
    )
    model, tokenizer = load_writer(run, device)
    print(prompt, end="", flush=True)
    for piece in generate(model, tokenizer, prompt, sampling):
        print(piece, end="", flush=True)
    print()


def load_writer(run: str, device: Device) -> tuple[GPT, Tokenizer]:
    """The model that `run=` means, and its tokenizer; UnsupportedError for INT8 on another device."""
    folder = find_run(run)
    if is_int8(folder):
        if device not in ("auto", "cpu"):
            raise UnsupportedError(f"{folder} is an INT8 folder, which computes on a CPU alone: set device=cpu.")
        return load_int8(folder), Tokenizer.load(folder)
    checkpoint = find_checkpoint(folder)
    tokenizer = Tokenizer.load(find_tokenizer(checkpoint))
    return load_model(checkpoint.folder, choose_device(device)), tokenizer


def resolve_checkpoint(run: str) -> CheckpointRef:
    """The checkpoint that `run=` means: `last`, a run's name or folder, or a checkpoint folder."""
    return find_checkpoint(find_run(run))
