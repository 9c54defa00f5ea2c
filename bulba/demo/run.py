"""`python -m bulba demo list | NAME | all`: prints what a demo computes and saves its picture.

With run=RUN text="..." the text goes through the newest checkpoint of a trained run, and each layer of the attention in
question is shown at work on it, with the input that the layer gets there.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from bulba.attention.base import AttentionContext, Mixer
from bulba.checkpoint import load_model
from bulba.config.build import nearest
from bulba.data.tokenizer import Tokenizer
from bulba.errors import ConfigError, UnsupportedError
from bulba.export.run import find_tokenizer
from bulba.files import atomic_file
from bulba.model.gpt import GPT
from bulba.run.generate import resolve_checkpoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path(__file__).parent
SIZE_INCHES = (10, 6)
NO_PICTURES = "a demo draws a picture, and matplotlib is not installed: uv pip install 'bulba[report]'."


class Seen(NamedTuple):
    """A mixer of a trained model, and what it was given."""

    layer: int
    mixer: Mixer
    x_BTH: Tensor
    context: AttentionContext


def demo_command(name: str, run: str | None = None, text: str | None = None, out: str = "demos") -> None:
    """Run the demo `name`, or `all`, with pictures into `out`; `list` names them.

    run, text: show the attention in the layers of this trained run, reading this text.
    """
    if name == "list":
        for one in demo_names():
            print(f"{one:<12} {load(one).TITLE}")
        return
    if name != "all" and name not in demo_names():
        hint = nearest(name, [*demo_names(), "all", "list"])
        raise ConfigError(f"demo {name} does not exist{hint}{'' if hint.endswith('?') else '.'}")
    if (run is None) != (text is None):
        raise ConfigError('run and text go together: demo NAME run=last text="a sentence for the run to read".')
    if Path(out).exists() and not Path(out).is_dir():
        raise ConfigError(f"out={out} is a file: give a folder for the pictures.")
    chosen = demo_names() if name == "all" else [name]
    if run is None or text is None:
        for one in chosen:
            print(f"{one}: {load(one).TITLE}")
            picture(Path(out) / f"{one}.png", load(one).show)
        return
    seen, words = read_text(run, text)
    layers = {one: [at for at in seen if demo_of(at.mixer) == one] for one in chosen}
    if not any(layers.values()):
        there = ", ".join(dict.fromkeys(demo_of(at.mixer) for at in seen))
        raise ConfigError(f"the run {run} has no layer of {name}: its attention is {there}.")
    for one, places in layers.items():
        for at in places:
            print(f"{one}, layer {at.layer}: {load(one).TITLE}")
            look = partial(load(one).look, at.mixer, at.x_BTH, at.context, words)
            picture(Path(out) / f"{one}_layer_{at.layer:02d}.png", look, words_are_data=True)


def demo_names() -> list[str]:
    """The demos, one for each file of this folder."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "run"))


def load(name: str) -> Any:
    """The module of a demo."""
    return importlib.import_module(f"bulba.demo.{name}")


def demo_of(mixer: Mixer) -> str:
    """The name of an attention, which is that of its file."""
    return type(mixer).__module__.rpartition(".")[2]


def picture(path: Path, draw: Callable[[Figure], list[str]], words_are_data: bool = False) -> None:
    """Print the lines that `draw` returns, and save what it drew.

    words_are_data: texts of the picture come from the user, so that $ in them is no formula.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UnsupportedError(NO_PICTURES) from error

    with matplotlib.rc_context({"text.parse_math": not words_are_data}), same_random_numbers():
        figure = Figure(figsize=SIZE_INCHES, dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        for line in draw(figure):
            print(f"  {line}")
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format="png")
    print(f"  {path}\n")


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Each demo draws the numbers that it draws alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def read_text(run: str, text: str) -> tuple[list[Seen], list[str]]:
    """What every mixer of the run was given when its model read `text`, first layer first; the tokens as text."""
    checkpoint = resolve_checkpoint(run)
    tokenizer = Tokenizer.load(find_tokenizer(checkpoint))
    model = load_model(checkpoint.folder)
    ids = tokenizer.encode(text)
    if len(ids) > model.max_seq_len:
        raise ConfigError(
            f"the text has {len(ids)} tokens and the model reads {model.max_seq_len}: give a shorter one."
        )
    return watch(model, torch.tensor([ids])), [word_of(tokenizer, token) for token in ids]


def watch(model: GPT, tokens_BT: Tensor) -> list[Seen]:
    """One forward pass of `model`, and what each of its mixers was given, those inside others too."""
    kernels = frozenset.intersection(*(mixer.capabilities.kernels for mixer in model.mixers()))
    model.set_kernel("reference" if "reference" in kernels else min(kernels))
    seen: list[Seen] = []
    hooks = []
    for number, outer in enumerate(model.mixers()):
        for mixer in (module for module in outer.modules() if isinstance(module, Mixer)):

            def see(mixer: Any, arguments: tuple[Any, ...], number: int = number) -> None:
                seen.append(Seen(number, mixer, *arguments[:2]))

            hooks.append(mixer.register_forward_pre_hook(see))
    try:
        with torch.no_grad():
            model(tokens_BT)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def word_of(tokenizer: Tokenizer, token: int) -> str:
    """A token as text that can be seen in a line: ends of lines as a mark, special tokens by a sign of their own."""
    text = tokenizer.decode([token])
    return text.replace("\n", "⏎").replace("\t", "⇥") if text else "∅"
