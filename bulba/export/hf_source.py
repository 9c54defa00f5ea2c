"""A Hugging Face folder as the source of an export: made into a checkpoint, from which every format is written.

It has to be a Llama or a Qwen3 as Bulba computes them, or a folder that Bulba has written with its own code, which is
not run: config.json holds the model's own config. Only safetensors are read. What config.json asks for and Bulba does
not compute is refused by name.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from bulba.checkpoint import check_fits, from_hf_names, save_checkpoint
from bulba.errors import CheckpointError, UnsupportedError
from bulba.files import disk_errors
from bulba.model.gpt import GPT
from bulba.shapes import shapes_only

WEIGHTS = "model.safetensors"
# What Llama and Qwen3 may ask for, and the only value of it that Bulba computes.
FIXED = {
    "hidden_act": "silu",
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "use_sliding_window": False,
    "quantization_config": None,
}
ROPE_TYPES = ("default", "linear", "yarn")


def is_hf_folder(path: Path) -> bool:
    """Whether it is a folder of a model for transformers, and no run or checkpoint."""
    return (path / "config.json").is_file() and not (path / "model.json").is_file()


@contextmanager
def as_checkpoint(folder: Path) -> Iterator[Path]:
    """Yield a checkpoint folder of the folder's name, with the tokenizer beside it; both are removed at the end.

    Raises CheckpointError for a folder that is not whole and UnsupportedError for a model that is not Bulba's.
    """
    try:
        with shapes_only():
            model = GPT(**model_config(folder))
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{folder / 'config.json'} does not describe a model ({error}).") from error
    weights = read_weights(folder)
    check_fits(model, weights, folder)
    with disk_errors(folder), TemporaryDirectory(dir=folder.parent, prefix=".unfinished-") as temporary:
        checkpoint = Path(temporary) / folder.absolute().name
        save_checkpoint(checkpoint, model.get_model_config(), weights, {})
        tokenizer = checkpoint.parent / "tokenizer"
        tokenizer.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder} has no {name}, and a model is not exported without its tokenizer.")
            shutil.copyfile(folder / name, tokenizer / name)
        yield checkpoint


def read_weights(folder: Path) -> dict[str, Any]:
    """By the names of `GPT.state_dict()`."""
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(
            f"{folder} has no {WEIGHTS}: only a model in one safetensors file is read, so save it again with "
            "save_pretrained(max_shard_size='100GB')."
        )
    try:
        return from_hf_names(load_file(folder / WEIGHTS))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read ({error}): copy it anew.") from error


def model_config(folder: Path) -> dict[str, Any]:
    """config.json in the words of `GPT`."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{folder / 'config.json'} is no JSON ({error}).") from error
    if "bulba" in config:
        return config["bulba"]
    kind = config.get("model_type")
    if kind not in ("llama", "qwen3"):
        raise refusal(folder, f"model_type={kind}")
    for key, value in FIXED.items():
        if (config.get(key) or value) != value:
            raise refusal(folder, f"{key}={config[key]}")
    hidden_size, num_heads = config["hidden_size"], config["num_attention_heads"]
    if config.get("head_dim", hidden_size // num_heads) * num_heads != hidden_size:
        raise refusal(folder, f"head_dim={config['head_dim']} beside {num_heads} heads and a width of {hidden_size}")
    rope = config.get("rope_parameters") or {"rope_theta": config["rope_theta"]} | (config.get("rope_scaling") or {})
    return {
        "vocab_size": config["vocab_size"],
        "num_layers": config["num_hidden_layers"],
        "hidden_size": hidden_size,
        "num_heads": num_heads,
        "num_kv_heads": config.get("num_key_value_heads", num_heads),
        "intermediate_size": config["intermediate_size"],
        "max_seq_len": config["max_position_embeddings"],
        "rope_base": float(rope["rope_theta"]),
        "rope_scaling": rope_scaling(folder, rope),
        "tie_embeddings": config["tie_word_embeddings"],
        "init_std": config.get("initializer_range", 0.02),
        "attention": {"_target_": "bulba.attention.standard.StandardAttention"},
        "mlp": {"_target_": "bulba.model.mlp.SwiGLU"},
        "norm": {"_target_": "bulba.model.norm.RMSNorm", "eps": config["rms_norm_eps"], "affine": True},
        "attention_bias": config.get("attention_bias", False),
        "qk_norm": kind == "qwen3",
    }


def rope_scaling(folder: Path, rope: dict[str, Any]) -> dict[str, Any] | None:
    """How rotary positions are stretched; None for not at all."""
    kind = rope.get("rope_type", "default")
    if kind not in ROPE_TYPES:
        raise refusal(folder, f"rope_type={kind}")
    if kind == "default":
        return None
    return {"type": kind, "factor": rope["factor"], "original_max_seq_len": rope["original_max_position_embeddings"]}


def refusal(folder: Path, fact: str) -> UnsupportedError:
    return UnsupportedError(
        f"{folder} cannot be exported: its config.json has {fact}, and of transformers' models Bulba computes Llama "
        "and Qwen3 with SwiGLU and rotary positions that are plain, linear or yarn; use llama.cpp's converter for it."
    )
