"""A Hugging Face folder: LlamaForCausalLM or, with QK-norm, Qwen3ForCausalLM; safetensors and the tokenizer.

transformers opens it offline. Bulba's weights already carry these names, so they are only cast, and those of a
hypercomplex layer written out. config.json is written for transformers 5 (`rope_parameters`) and for older readers too
(`rope_theta`, `torch_dtype`). transformers is needed only to check it. It does not write chat templates or shards.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bulba.data.tokenizer import Tokenizer
from bulba.errors import ExportError, UnsupportedError
from bulba.export.architecture import Architecture, Filled, Weight, check_tensors, read_architecture, write_out
from bulba.export.hard_strings import HARD_STRINGS
from bulba.export.verify_hf import verify_hf
from bulba.files import atomic_folder

HfDtype = Literal["float32", "bfloat16", "float16"]
# By the architecture of llama.cpp: the class of transformers with the same layers, and its model_type.
CLASSES = {"llama": ("LlamaForCausalLM", "llama"), "qwen3": ("Qwen3ForCausalLM", "qwen3")}
FORMAT = "a Hugging Face folder"
CARD = """---
library_name: transformers
pipeline_tag: text-generation
{license}---

# {name}

A language model trained with Bulba: {num_layers} {kind} layers of width {hidden_size}, {vocab_size} tokens, context of
{max_seq_len} tokens, weights in {dtype}.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}")
model = AutoModelForCausalLM.from_pretrained("{folder}")
ids = tokenizer("Аднойчы", return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, max_new_tokens=50)[0]))
```

It continues texts and is not a chat model. The tokenizer puts text into Unicode normal form C.
"""


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
    Raises UnsupportedError for layers that transformers lacks, and ExportError for weights that dtype cannot hold.
    """
    model = read_architecture(checkpoint, FORMAT)
    check_class(model)
    loaded, config = Tokenizer.load(tokenizer), model.config
    if loaded.vocab_size != config["vocab_size"]:
        raise ExportError(
            f"the tokenizer has {loaded.vocab_size} tokens and {checkpoint} {config['vocab_size']} rows: export with "
            "the tokenizer that the model was trained with."
        )
    weights = hf_weights(checkpoint, model, getattr(torch, dtype))
    folder = out.with_name(f"{out.name}-hf")
    special = {"bos_token_id": loaded.bos_id, "eos_token_id": loaded.eos_id, "pad_token_id": loaded.pad_id}
    with atomic_folder(folder) as temporary:
        save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})
        loaded.save_pretrained(temporary, model_max_length=config["max_seq_len"])
        _write_json(temporary / "config.json", hf_config(model, dtype) | special)
        _write_json(temporary / "generation_config.json", special)
        card = CARD.format(
            name=out.name,
            folder=folder.name,
            kind=model.name.capitalize(),
            dtype=dtype,
            **{key: config[key] for key in ("num_layers", "hidden_size", "vocab_size", "max_seq_len")},
            license=f"license: {license}\n" if license else "",
        )
        (temporary / "README.md").write_text(card, encoding="utf-8")
        if verify:
            worst = verify_hf(temporary, checkpoint, loaded, getattr(torch, dtype))
            print(
                f"{folder.name} in transformers: {len(HARD_STRINGS)} texts have equal ids; logits differ by {worst:.1e}"
            )
    return folder


def check_class(model: Architecture) -> None:
    """UnsupportedError for what the classes of transformers do not compute."""
    fact = None
    if model.name not in CLASSES:
        fact = f"its layers are those of llama.cpp's {model.name}"
    elif model.config["logit_cap"] is not None:
        fact = f"it has model.logit_cap={model.config['logit_cap']}"
    if fact:
        raise UnsupportedError(
            f"this model cannot become {FORMAT}: {fact}, and transformers' Llama and Qwen3 do not compute so; the "
            "formats that do hold it are GGUF and Bulba's own checkpoint folder."
        )


def hf_weights(checkpoint: Path, model: Architecture, dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights by their names in transformers; norms without a gain get one of ones."""
    stored = load_file(checkpoint / "model.safetensors")
    shapes = {name: tuple(weight.shape) for name, weight in stored.items()}
    check_tensors(shapes, model.tensors, checkpoint, FORMAT)
    weights: dict[str, Tensor] = {}
    for tensor in model.tensors:
        (part,), name = tensor.parts, tensor.hf_name
        assert name is not None, "classes of transformers have names for all of it"
        if isinstance(part, Filled):
            weights[name] = torch.full(part.shape, part.value, dtype=dtype)
            continue
        assert isinstance(part, Weight), "these architectures have no tables"
        weight = stored.pop(part.name)
        if part.factor > 1:
            weight = torch.from_numpy(write_out(weight.float().numpy(), part.factor))
        weights[name] = weight.to(dtype)
        if not weights[name].isfinite().all():
            raise ExportError(
                f"{name} has values that {dtype} cannot hold (not finite, or too large): export with another "
                "dtype, or from an earlier checkpoint."
            )
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
