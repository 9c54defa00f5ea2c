"""`python -m bulba ready`: everything a training needs, looked at before it starts; what is missing, with its remedy.

Takes the words of train.py. It neither reaches for the network nor writes to the cache. Texts of up to `SMALL_BYTES`
are prepared for real in a temporary folder; of larger ones a sample is read, and figures about them are estimates.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from omegaconf import DictConfig, open_dict

from bulba.config.build import build
from bulba.config.entry import read_arguments
from bulba.config.overrides import check
from bulba.data.corpora import HubData, TalesData
from bulba.data.datamodule import TextData, weights_of
from bulba.data.documents import documents
from bulba.data.hub import folder_of
from bulba.data.prepare import Source, TokenizerSpec
from bulba.data.readers import Found, find_files
from bulba.data.tokenizer import Tokenizer
from bulba.device import choose_device, choose_precision, device_name
from bulba.errors import BulbaError, ConfigError, DataError
from bulba.mode import check_compiler
from bulba.run.check import check_config
from bulba.shapes import shapes_only

SMALL_BYTES = 4_000_000
SAMPLED_FILES = 100
BYTES_PER_TOKEN = 4  # of a tokenizer that is still to be learnt
DISK_PER_TEXT = 3  # bytes that a preparation takes for each byte of text: stored once, encoded twice, and room to spare
CHECKPOINT_BYTES_PER_WEIGHT = 12  # the weight and AdamW's two moments, float32
NUM_SPECIAL_TOKENS = 3


class AdviceError(BulbaError):
    """Worth mending, but a training runs without."""


@dataclass(frozen=True)
class Tick:
    """One line of the list: what was looked at, whether it will do, and what is so or how to mend it."""

    name: str
    ok: bool
    text: str
    stops: bool = False
    """Whether a training cannot run as it is."""

    def __str__(self) -> str:
        return f"{'✓' if self.ok else '✗'} {self.name:<10} {self.text}"


@dataclass(frozen=True)
class Texts:
    """What is known of the texts of a run: about how many bytes, bytes of a sample by language, and that sample."""

    size_bytes: int
    languages: Counter[str]
    sample: list[str]
    description: str


def ready_command(words: list[str]) -> None:
    """Print the list; exit code 1 if something on it stops a training."""
    ticks = []
    for tick in readiness(words):
        print(tick, flush=True)
        ticks.append(tick)
    stopping = sum(tick.stops for tick in ticks)
    if stopping:
        print(f"not ready: {stopping} of these stop a training; mend them and run this again")
        sys.exit(1)
    print(f"ready: uv run train.py {' '.join(words)}".rstrip())


def readiness(words: list[str]) -> Iterator[Tick]:
    """Every tick, in the order in which a training would come upon it."""
    yield Tick("python", True, platform.python_version())
    try:
        _, words, source = read_arguments(words)
        config = check(words, source)
    except BulbaError as error:
        yield Tick("settings", False, str(error), stops=True)
        return
    with open_dict(config):
        del config["hydra"]
    for name, look in (("device", device), ("precision", precision)):
        tick = attempt(name, partial(look, config))
        yield tick
        if tick.stops:
            # The rest is looked at all the same, and does not repeat this.
            config.trainer.device, config.trainer.precision = "cpu", "auto"
    compiling = attempt("compiler", partial(compiler, config))
    yield compiling
    if compiling.stops:
        config.mode.compile = False
    settings = attempt("settings", partial(model_of, config))
    yield settings
    if not settings.stops:
        yield from data_ticks(config)
    yield attempt("loggers", partial(loggers, config))
    yield attempt("export", export_libraries)


def attempt(name: str, look: Callable[[], str]) -> Tick:
    """The tick of one look: its text, or the sentence of the error that it raises."""
    try:
        return Tick(name, True, look())
    except BulbaError as error:
        return Tick(name, False, str(error), stops=not isinstance(error, AdviceError))


def device(config: DictConfig) -> str:
    chosen = choose_device(config.trainer.device)
    if chosen.type == "cpu" and config.trainer.device == "auto" and shutil.which("nvidia-smi"):
        raise AdviceError(
            f"there is an NVIDIA card, but torch {torch.__version__} cannot use it and a run would take the CPU: see "
            "that nvidia-smi works, and install the torch that fits (pytorch.org/get-started)."
        )
    return f"{device_name(chosen)} ({chosen.type}), torch {torch.__version__}"


def precision(config: DictConfig) -> str:
    return choose_precision(config.trainer.precision, choose_device(config.trainer.device))


def compiler(config: DictConfig) -> str:
    """What torch.compile needs on the device."""
    if not config.mode.compile:
        return "not needed, as nothing is compiled"
    check_compiler(choose_device(config.trainer.device))
    return "there"


def model_of(config: DictConfig) -> str:
    check_config(config)
    data: TextData = build(config.data, path="data")
    data.accumulation(config.trainer.num_devices)
    return f"fit together: {num_weights(config):,} weights, {config.data.batch_size} x {config.data.seq_len} a step"


def num_weights(config: DictConfig) -> int:
    spec: TokenizerSpec = build(config.tokenizer, path="tokenizer")
    with shapes_only():
        return build(config.model, path="model", vocab_size=vocab_size(spec)).get_num_params()


def vocab_size(spec: TokenizerSpec) -> int:
    """Rows of the embedding; for a tokenizer that cannot be loaded, which has a cross of its own, the usual ones."""
    if spec.path is not None:
        with suppress(DataError):
            return Tokenizer.load(spec.path).vocab_size
    return spec.vocab_size + NUM_SPECIAL_TOKENS


def data_ticks(config: DictConfig) -> Iterator[Tick]:
    """Texts, languages, tokenizer, tokens and room on the disk."""
    data: TextData = build(config.data, path="data")
    spec: TokenizerSpec = build(config.tokenizer, path="tokenizer")
    texts: Texts | None = None

    def look() -> str:
        nonlocal texts
        texts = look_at(data)
        return texts.description

    yield attempt("texts", look)
    if texts:
        yield attempt("languages", partial(languages, texts))
    yield attempt("tokenizer", partial(tokenizer, spec))
    if texts:
        yield attempt("tokens", partial(tokens, data, spec, texts))
    yield attempt("disk", partial(disk, config, data, texts.size_bytes if texts else 0))


def look_at(data: TextData) -> Texts:
    if isinstance(data, TalesData):
        return Texts(data.size_bytes, Counter(be=1, ru=1, uk=1, en=1), [], "the tales, made here when training starts")
    if isinstance(data, HubData):
        folder = folder_of(*data.fetch.args, **data.fetch.keywords)
        if folder.is_dir():
            return sample_of([Source(folder)], data)
        if find_spec("datasets") is None:
            raise DataError("reading a Hugging Face dataset needs one more library: uv pip install 'bulba[hub]'.")
        raise AdviceError(
            f"the dataset {data.fetch.args[0]} is not here yet: the first start fetches it, over the network."
        )
    weights_of(data.sources())
    return sample_of(data.sources(), data)


def sample_of(sources: list[Source], data: TextData) -> Texts:
    found: list[Found] = [find_files(Path(source.path).expanduser(), data.on_bad) for source in sources]
    files = [file for one in found for file in one.files]
    size = sum(file.size_bytes for file in files)
    step = -(-len(files) // SAMPLED_FILES)
    left_out = [f"{name} ({reason})" for one in found for name, reason in one.unopened.items()]
    sample = documents([file.path for file in files[::step]], SMALL_BYTES, left_out.append)
    if not any(text.strip() for text, _ in sample):
        reason = f" (such as {left_out[0]})" if left_out else ""
        raise DataError(f"no text was found in {len(files)} files{reason}: set data.path to files with text.")
    seen = Counter[str]()
    for text, language in sample:
        seen[language] += len(text.encode())
    bad = f"; {len(left_out)} left out, such as {left_out[0]}" if left_out else ""
    return Texts(size, seen, [text for text, _ in sample], f"{size / 1e6:,.1f} MB in {len(files):,} files{bad}")


def languages(texts: Texts) -> str:
    total = texts.languages.total()
    shares = ", ".join(f"{name} {count / total:.0%}" for name, count in texts.languages.most_common())
    if set(texts.languages) == {"other"}:
        raise AdviceError("none is recognised in a sample: name it with data.sources=[{path: FOLDER, language: be}].")
    return shares


def tokenizer(spec: TokenizerSpec) -> str:
    if spec.path is None:
        return f"{spec.vocab_size + NUM_SPECIAL_TOKENS:,} rows, to be learnt from the texts"
    return f"{Tokenizer.load(spec.path).vocab_size:,} rows of {spec.path}"


def tokens(data: TextData, spec: TokenizerSpec, texts: Texts) -> str:
    """Whether the texts fill a row, and a batch; small texts are prepared to know."""
    about = "about "
    if texts.sample and texts.size_bytes <= SMALL_BYTES:
        with tempfile.TemporaryDirectory() as folder:
            cache, data.cache_dir = data.cache_dir, Path(folder)
            try:
                data.prepare(spec)
                count, about = data.train_file.num_tokens, ""
            finally:
                data.cache_dir = cache
    else:
        count = int(texts.size_bytes * (1 - data.val_frac) / bytes_per_token(spec, texts))
    batch = data.batch_size * data.seq_len
    if count < batch:
        raise AdviceError(
            f"{about}{count:,} tokens are less than the {batch:,} of one step, so every step repeats them: add text, "
            "or set data.batch_size or data.seq_len lower."
        )
    return f"{about}{count:,} for training, {batch:,} a step"


def bytes_per_token(spec: TokenizerSpec, texts: Texts) -> float:
    if spec.path is None or not texts.sample:
        return BYTES_PER_TOKEN
    sample = texts.sample[:: -(-len(texts.sample) // SAMPLED_FILES)]
    counts = sum(map(len, Tokenizer.load(spec.path).encode_many(sample)))
    return sum(len(text.encode()) for text in sample) / max(counts, 1)


def disk(config: DictConfig, data: TextData, text_bytes: int) -> str:
    """Room for the cache and for the checkpoints, which may lie on one disk."""
    checkpoints = config.callbacks.get("checkpoints")
    # The kept ones, the best one, and the one that is being written.
    kept = checkpoints.keep_last + 2 if checkpoints else 1
    places = {
        "data.cache_dir": (data.cache_dir, DISK_PER_TEXT * text_bytes),
        "runs_dir": (Path(config.runs_dir), kept * CHECKPOINT_BYTES_PER_WEIGHT * num_weights(config)),
    }
    needed: Counter[int] = Counter()
    for name, (path, size) in places.items():
        parent = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise DataError(f"{parent} may not be written: set {name} to a folder of yours.")
        disk_of = parent.stat().st_dev
        needed[disk_of] += size
        free = shutil.disk_usage(parent).free
        if free < needed[disk_of]:
            raise DataError(
                f"about {needed[disk_of] / 1e9:,.1f} GB are needed and {parent} has {free / 1e9:,.1f} GB free: free "
                f"some, or set {name} to a folder on another disk."
            )
    return f"about {sum(needed.values()) / 1e9:,.1f} GB are needed and free"


def loggers(config: DictConfig) -> str:
    for name, libraries in {"wandb": ["wandb"], "tensorboard": ["tensorboard", "tensorboardX"]}.items():
        if name in config.logger and not any(map(find_spec, libraries)):
            raise ConfigError(
                f"logger={name} needs one more library: uv pip install 'bulba[track]', or set logger=csv."
            )
    if "wandb" in config.logger and not config.logger.wandb.offline:
        raise AdviceError("logger.wandb.offline=false sends the figures over the network, which is not tried here.")
    return ", ".join(config.logger)


def export_libraries() -> str:
    missing = [name for name in ("gguf", "xllamacpp", "transformers") if find_spec(name) is None]
    if missing:
        raise AdviceError(f"without {', '.join(missing)} a run cannot be exported: uv pip install 'bulba[export]'.")
    return "gguf, xllamacpp, transformers"
