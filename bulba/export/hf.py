"""A Hugging Face folder: safetensors, config.json, the tokenizer, and the modelling code where transformers has none.

A model that is LlamaForCausalLM or, with QK-norm, Qwen3ForCausalLM becomes that, and opens without anybody's code.
Bulba's weights already carry these names, so they are only cast, and those of a hypercomplex layer written out.
config.json is written for transformers 5 (`rope_parameters`) and for older readers too (`rope_theta`, `torch_dtype`).
Every other model takes its code along (bulba/export/remote_code.py) and opens with `trust_remote_code=True`, its
weights as they are. transformers is needed only to check the folder. It does not write shards.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bulba.checkpoint import check_fits, load_weights
from bulba.data.tokenizer import Tokenizer
from bulba.errors import ExportError, UnsupportedError
from bulba.export.architecture import Architecture, Filled, Weight, check_tensors, read_architecture, write_out
from bulba.export.card import card
from bulba.export.chat import Chat, kind_of, read_chat
from bulba.export.hard_strings import HARD_STRINGS
from bulba.export.remote_code import modelling_code
from bulba.export.run_facts import Facts, read_facts
from bulba.export.sampling import TOP_K
from bulba.export.verify_hf import verify_hf
from bulba.export.vocab import load_tokenizer
from bulba.files import atomic_folder
from bulba.model.gpt import GPT
from bulba.shapes import shapes_only

HfDtype = Literal["float32", "bfloat16", "float16"]
# By the architecture of llama.cpp: the class of transformers with the same layers, and its model_type.
CLASSES = {"llama": ("LlamaForCausalLM", "llama"), "qwen3": ("Qwen3ForCausalLM", "qwen3")}
FORMAT = "a Hugging Face folder"


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
        weights, config, code = hf_weights(checkpoint, model), hf_config(model, dtype), {}
    else:
        weights, config, code = own_weights(checkpoint, sizes), own_config(sizes, dtype), modelling_code(sizes)
    weights = {name: cast_weight(name, weight, getattr(torch, dtype)) for name, weight in weights.items()}
    folder, facts, chat = out.with_name(f"{out.name}-hf"), read_facts(checkpoint), read_chat(checkpoint, tokenizer)
    special = {"bos_token_id": loaded.bos_id, "eos_token_id": loaded.eos_id, "pad_token_id": loaded.pad_id}
    with atomic_folder(folder) as temporary:
        save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})
        loaded.save_pretrained(temporary, model_max_length=sizes["max_seq_len"])
        for name, text in (code | (chat.files() if chat else {})).items():
            (temporary / name).write_text(text, encoding="utf-8")
        _write_json(temporary / "config.json", config | special)
        _write_json(
            temporary / "generation_config.json", special | generation_config(facts, loaded, chat, config["use_cache"])
        )
        facts |= {"weights_bytes": (temporary / "model.safetensors").stat().st_size, "dtype": dtype}
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


def own_weights(checkpoint: Path, sizes: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of a model that brings its code, by their names there."""
    weights = load_weights(checkpoint)
    with shapes_only():
        check_fits(GPT(**sizes), weights, checkpoint)
    return {f"model.{name}": weight for name, weight in weights.items()}


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


def cast_weight(name: str, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A weight in the stored dtype; ExportError where that cannot hold it."""
    cast = weight.to(dtype)
    if not cast.isfinite().all():
        raise ExportError(
            f"{name} has values that {dtype} cannot hold (not finite, or too large): export with another "
            "dtype, or from an earlier checkpoint."
        )
    return cast


def hf_weights(checkpoint: Path, model: Architecture) -> dict[str, Tensor]:
    """The weights by their names in transformers; norms without a gain get one of ones."""
    stored = load_file(checkpoint / "model.safetensors")
    shapes = {name: tuple(weight.shape) for name, weight in stored.items()}
    check_tensors(shapes, model.tensors, checkpoint, FORMAT)
    weights: dict[str, Tensor] = {}
    for tensor in model.tensors:
        (part,), name = tensor.parts, tensor.hf_name
        assert name is not None, "classes of transformers have names for all of it"
        if isinstance(part, Filled):
            weights[name] = torch.full(part.shape, part.value)
            continue
        assert isinstance(part, Weight), "these architectures have no tables"
        weight = stored.pop(part.name)
        if part.factor > 1:
            weight = torch.from_numpy(write_out(weight.float().numpy(), part.factor))
        weights[name] = weight
    return weights


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
