"""A Hugging Face folder: safetensors, config.json, the tokenizer, and the modelling code where transformers has none.

A model that is LlamaForCausalLM or, with QK-norm, Qwen3ForCausalLM becomes that, and opens without anybody's code.
Bulba's weights already carry these names, so they are only cast, and those of a hypercomplex layer written out.
config.json is written for transformers 5 (`rope_parameters`) and for older readers too (`rope_theta`, `torch_dtype`).
Every other model takes its code along (bulba/export/remote_code.py) and opens with `trust_remote_code=True`, its
weights as they are. transformers is needed only to check the folder. It does not write shards.
"""

from __future__ import annotations

import json
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from bulba.checkpoint import check_fits, from_hf_names
from bulba.data.tokenizer import Tokenizer
from bulba.errors import ExportError, UnsupportedError
from bulba.export.architecture import Architecture, Part, Weight, check_tensors, read_architecture, write_out
from bulba.export.blocks import made_ahead, row_ranges
from bulba.export.card import card
from bulba.export.chat import Chat, kind_of, read_chat
from bulba.export.hard_strings import HARD_STRINGS
from bulba.export.remote_code import modelling_code
from bulba.export.run_facts import Facts, read_facts
from bulba.export.sampling import TOP_K
from bulba.export.tensor_file import TensorFile, write_tensor_file
from bulba.export.verify_hf import verify_hf
from bulba.export.vocab import load_tokenizer
from bulba.files import atomic_folder
from bulba.model.gpt import GPT
from bulba.shapes import shapes_only

HfDtype = Literal["float32", "bfloat16", "float16"]
# By the architecture of llama.cpp: the class of transformers with the same layers, and its model_type.
CLASSES = {"llama": ("LlamaForCausalLM", "llama"), "qwen3": ("Qwen3ForCausalLM", "qwen3")}
FORMAT = "a Hugging Face folder"
WEIGHTS = "model.safetensors"
SAFETENSORS_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


def export_hf(
    checkpoint: Path,
    tokenizer: Path,
    out: Path,
    dtype: HfDtype,
    license: str | None = None,
    verify: bool = True,
) -> Path:
    """Write the folder `OUT-hf`.

    checkpoint: a checkpoint folder. tokenizer: its tokenizer.json. dtype: of the stored weights. license: an SPDX
    name for the model card. verify: open the folder in transformers and compare ids and logits before it is kept.
    Raises ExportError for weights that dtype cannot hold and for a folder that behaves otherwise.
    """
    sizes = read_sizes(checkpoint)
    loaded = load_tokenizer(tokenizer, sizes["vocab_size"], checkpoint)
    model = known_class(checkpoint)
    if model:
        config, code = hf_config(model, dtype), {}
    else:
        config, code = own_config(sizes, dtype), modelling_code(sizes)
    folder, facts, chat = out.with_name(f"{out.name}-hf"), read_facts(checkpoint), read_chat(checkpoint, tokenizer)
    special = {"bos_token_id": loaded.bos_id, "eos_token_id": loaded.eos_id, "pad_token_id": loaded.pad_id}
    with atomic_folder(folder) as temporary:
        with TensorFile(checkpoint / WEIGHTS) as source:
            parts = hf_weights(source, checkpoint, model) if model else own_weights(source, checkpoint, sizes)
            write_weights(temporary / WEIGHTS, source, parts, dtype)
        loaded.save_pretrained(temporary, model_max_length=sizes["max_seq_len"])
        for name, text in (code | (chat.files() if chat else {})).items():
            (temporary / name).write_text(text, encoding="utf-8")
        _write_json(temporary / "config.json", config | special)
        _write_json(
            temporary / "generation_config.json", special | generation_config(facts, loaded, chat, config["use_cache"])
        )
        facts |= {"weights_bytes": (temporary / WEIGHTS).stat().st_size, "dtype": dtype}
        page = card(
            facts | {"bos": loaded.bos_token, "eos": loaded.eos_token},
            name=out.name,
            folder=folder.name,
            license=license,
            kind=kind_of(chat),
            has_code=bool(code),
            uses_cache=config["use_cache"],
        )
        (temporary / "README.md").write_text(page, encoding="utf-8")
        if verify:
            worst = verify_hf(temporary, checkpoint, loaded, getattr(torch, dtype))
            print(
                f"{folder.name} in transformers: {len(HARD_STRINGS)} texts have equal ids; logits differ by {worst:.1e}"
            )
    if code:
        print(f"{folder.name} brings its own code: open it with trust_remote_code=True", flush=True)
    return folder


def read_sizes(checkpoint: Path) -> dict[str, Any]:
    """model.json of a checkpoint."""
    return json.loads((checkpoint / "model.json").read_text(encoding="utf-8"))


def known_class(checkpoint: Path) -> Architecture | None:
    """The model as a class of transformers; None for one that no class there computes."""
    try:
        model = read_architecture(checkpoint, FORMAT)
    except UnsupportedError:
        return None
    return model if model.name in CLASSES and model.config["logit_cap"] is None else None


def own_config(sizes: dict[str, Any], dtype: HfDtype) -> dict[str, Any]:
    """config.json of a model that brings its code, without the ids of the special tokens."""
    with shapes_only():
        mixers = GPT(**sizes).mixers()
    return {
        "architectures": ["BulbaForCausalLM"],
        "model_type": "bulba",
        "auto_map": {
            "AutoConfig": "configuration_bulba.BulbaConfig",
            "AutoModelForCausalLM": "modeling_bulba.BulbaForCausalLM",
        },
        "bulba": sizes,
        "vocab_size": sizes["vocab_size"],
        "max_position_embeddings": sizes["max_seq_len"],
        "use_cache": all(mixer.capabilities.cache for mixer in mixers),
        "dtype": dtype,
        "torch_dtype": dtype,
    }


def generation_config(facts: Facts, tokenizer: Tokenizer, chat: Chat | None, uses_cache: bool) -> dict[str, Any]:
    """How generate() draws when it is not told: as the run drew its samples, else greedily to the end of the context.

    uses_cache: whether the model can decode with a cache.
    """
    found: dict[str, Any] = {} if uses_cache else {"use_cache": False}
    if chat and chat.is_trained:
        found["eos_token_id"] = [tokenizer.eos_id, chat.eot_id]
    sampling = facts.get("sampling")
    if sampling is None:
        return found | {"max_length": facts["max_seq_len"]}
    found["max_new_tokens"] = sampling["max_new_tokens"]
    if sampling["temperature"] > 0:
        # Without top_k transformers would take 50.
        found |= {"do_sample": True, "top_k": TOP_K, "temperature": sampling["temperature"]}
    return found


def hf_weights(source: TensorFile, checkpoint: Path, model: Architecture) -> dict[str, Part]:
    """The weights of a class of transformers by their names there; norms without a gain get one of ones."""
    check_tensors(source.shapes, model.tensors, checkpoint, FORMAT)
    parts: dict[str, Part] = {}
    for tensor in model.tensors:
        (part,), name = tensor.parts, tensor.hf_name
        assert name is not None, "classes of transformers have names for all of it"
        if isinstance(part, Weight):
            # Rows in Bulba's order, which is theirs.
            change = partial(write_out, num_components=part.factor) if part.factor > 1 else None
            part = Weight(part.name, part.shape, change, factor=part.factor)
        parts[name] = part
    return parts


def own_weights(source: TensorFile, checkpoint: Path, sizes: dict[str, Any]) -> dict[str, Part]:
    """The weights of a model that brings its code, by their names there."""
    shapes = source.shapes
    with shapes_only():
        check_fits(
            GPT(**sizes), from_hf_names({name: torch.empty(shape) for name, shape in shapes.items()}), checkpoint
        )
    # Their model holds Bulba's as `model`, with its output matrix.
    names = {f"model.{name.removeprefix('model.')}": name for name in shapes}
    return {theirs: Weight(name, shapes[name] or (1,)) for theirs, name in names.items()}


def write_weights(path: Path, source: TensorFile, parts: dict[str, Part], dtype: HfDtype) -> None:
    """Write them in `dtype`; ExportError for values that it cannot hold."""
    shapes = {name: written_shape(source, part) for name, part in parts.items()}
    makers = (
        partial(cast_rows, source, name, part, start, stop, getattr(torch, dtype))
        for name, part in parts.items()
        for start, stop in row_ranges(part)
    )
    with closing(made_ahead(makers)) as blocks:
        write_tensor_file(path, shapes, SAFETENSORS_DTYPES[dtype], blocks)


def written_shape(source: TensorFile, part: Part) -> tuple[int, ...]:
    """That of the checkpoint, but for hypercomplex weights, which are written out."""
    if not isinstance(part, Weight):
        return part.shape
    shape = source.shapes[part.name]
    return (shape[0] * part.factor, *shape[1:]) if part.factor > 1 else shape


def cast_rows(
    source: TensorFile, name: str, part: Part, start: int, stop: int, dtype: torch.dtype
) -> NDArray[np.uint8]:
    """Rows of a weight as bytes in the stored dtype."""
    cast = torch.from_numpy(np.ascontiguousarray(part.rows(source, start, stop))).to(dtype)
    if not cast.isfinite().all():
        raise ExportError(
            f"{name} has values that {dtype} cannot hold (not finite, or too large): export with another "
            "dtype, or from an earlier checkpoint."
        )
    stored: NDArray[np.uint8] = cast.view(torch.uint8).numpy()
    return stored


def hf_config(model: Architecture, dtype: HfDtype) -> dict[str, Any]:
    """config.json without the ids of the special tokens."""
    config, (class_name, model_type) = model.config, CLASSES[model.name]
    return {
        "architectures": [class_name],
        "model_type": model_type,
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "intermediate_size": config["intermediate_size"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "num_key_value_heads": config["num_kv_heads"],
        "head_dim": model.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config["max_seq_len"],
        "rms_norm_eps": model.norm_eps,
        "rope_parameters": {"rope_theta": config["rope_base"]} | rope_scaling(model),
        "rope_theta": config["rope_base"],
        "tie_word_embeddings": config["tie_embeddings"],
        "attention_bias": any(tensor.name.endswith("attn_q.bias") for tensor in model.tensors),
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "use_cache": True,
        "initializer_range": config["init_std"],
        "dtype": dtype,
        "torch_dtype": dtype,
    }


def rope_scaling(model: Architecture) -> dict[str, Any]:
    """How rotary positions are stretched, in the words of transformers."""
    scaling = model.config["rope_scaling"]
    if scaling is None:
        return {"rope_type": "default"}
    return {
        "rope_type": scaling["type"],
        "factor": scaling["factor"],
        "original_max_position_embeddings": scaling["original_max_seq_len"],
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
