"""A Hugging Face folder: LlamaForCausalLM, safetensors and the tokenizer; transformers opens it offline.

Bulba's weights already carry Llama's names, so they are only cast. config.json is written for transformers 5
(`rope_parameters`) and for older readers too (`rope_theta`, `torch_dtype`). transformers is needed only to check it.
It does not write chat templates or shards.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bulba.data.tokenizer import Tokenizer
from bulba.errors import ExportError
from bulba.export.hard_strings import HARD_STRINGS
from bulba.export.llama import LlamaShape, check_tensors, llama_tensors, read_llama
from bulba.export.verify_hf import verify_hf
from bulba.files import atomic_folder

HfDtype = Literal["float32", "bfloat16", "float16"]
CARD = """---
library_name: transformers
pipeline_tag: text-generation
{license}---

# {name}

A language model trained with Bulba: {num_layers} Llama layers of width {hidden_size}, {vocab_size} tokens, context of
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
    Raises UnsupportedError for a model that is not a Llama and ExportError for weights that dtype cannot hold.
    """
    shape = read_llama(checkpoint, "a Hugging Face folder")
    loaded = Tokenizer.load(tokenizer)
    if loaded.vocab_size != shape.vocab_size:
        raise ExportError(
            f"the tokenizer has {loaded.vocab_size} tokens and {checkpoint} {shape.vocab_size} rows: export with the "
            "tokenizer that the model was trained with."
        )
    weights = hf_weights(checkpoint, shape, getattr(torch, dtype))
    folder = out.with_name(f"{out.name}-hf")
    special = {"bos_token_id": loaded.bos_id, "eos_token_id": loaded.eos_id, "pad_token_id": loaded.pad_id}
    init_std = json.loads((checkpoint / "model.json").read_text(encoding="utf-8"))["init_std"]
    with atomic_folder(folder) as temporary:
        save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})
        loaded.save_pretrained(temporary, model_max_length=shape.max_seq_len)
        _write_json(temporary / "config.json", hf_config(shape, dtype) | special | {"initializer_range": init_std})
        _write_json(temporary / "generation_config.json", special)
        card = CARD.format(
            name=out.name,
            folder=folder.name,
            num_layers=shape.num_layers,
            hidden_size=shape.hidden_size,
            vocab_size=shape.vocab_size,
            max_seq_len=shape.max_seq_len,
            dtype=dtype,
            license=f"license: {license}\n" if license else "",
        )
        (temporary / "README.md").write_text(card, encoding="utf-8")
        if verify:
            worst = verify_hf(temporary, checkpoint, loaded, getattr(torch, dtype))
            print(
                f"{folder.name} in transformers: {len(HARD_STRINGS)} texts have equal ids; logits differ by {worst:.1e}"
            )
    return folder


def hf_weights(checkpoint: Path, shape: LlamaShape, dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights by their Hugging Face names; norms without a gain get one of ones."""
    tensors = llama_tensors(shape)
    stored = load_file(checkpoint / "model.safetensors")
    shapes = {name: tuple(weight.shape) for name, weight in stored.items()}
    check_tensors(shapes, tensors, checkpoint, "a Hugging Face folder")
    weights: dict[str, Tensor] = {}
    for tensor in tensors:
        if tensor.hf_name in stored:
            weights[tensor.hf_name] = stored.pop(tensor.hf_name).to(dtype)
        else:
            assert tensor.default is not None, "check_tensors lets only gains be absent"
            weights[tensor.hf_name] = torch.full(tensor.shape, tensor.default, dtype=dtype)
        if not weights[tensor.hf_name].isfinite().all():
            raise ExportError(
                f"{tensor.hf_name} has values that {dtype} cannot hold (not finite, or too large): export with another "
                "dtype, or from an earlier checkpoint."
            )
    return weights


def hf_config(shape: LlamaShape, dtype: HfDtype) -> dict[str, Any]:
    """config.json without the ids of the special tokens."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.max_seq_len,
        "rms_norm_eps": shape.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_base},
        "rope_theta": shape.rope_base,
        "tie_word_embeddings": shape.tie_embeddings,
        "attention_bias": shape.attention_bias,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "use_cache": True,
        "dtype": dtype,
        "torch_dtype": dtype,
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
