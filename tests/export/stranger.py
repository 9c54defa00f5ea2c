"""What a user without Bulba does with exported folders: `python -I THIS_FILE OUT FOLDER...` under transformers alone.

For every folder it opens the model by trust_remote_code, writes logits, loss, texts and what padding gives to
OUT/NAME.safetensors, and what is refused to OUT/NAME.json.
"""

from __future__ import annotations

import copy
import importlib.abc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

NUM_NEW = 16


class WithoutBulba(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] in ("bulba", "callbacks", "lightning", "omegaconf", "hydra"):
            raise ModuleNotFoundError(f"{name} is not here")


def refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    return "taken"


def rows(vocab_size: int) -> tuple[Any, Any]:
    """Two rows of 40 tokens, and a prompt of 7."""
    import torch

    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(vocab_size - 3, (2, 40), generator=generator)
    return tokens_BT, tokens_BT[:1, :7]


def visit(folder: Path, out: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    tokens_BT, prompt_1T = rows(model.config.vocab_size)
    ones = torch.ones_like(prompt_1T)
    greedy = {"do_sample": False, "max_new_tokens": NUM_NEW, "eos_token_id": None, "pad_token_id": 0}
    found: dict[str, Any] = {}
    with torch.no_grad():
        found["logits"] = model(tokens_BT).logits
        labels_BT = tokens_BT.clone()
        labels_BT[0, :5] = -100
        found["loss"] = model(tokens_BT, labels=labels_BT).loss
        found["cached"] = model.generate(prompt_1T, attention_mask=ones, **greedy)
        found["recomputed"] = model.generate(prompt_1T, attention_mask=ones, use_cache=False, **greedy)
        found["beams"] = model.generate(prompt_1T, attention_mask=ones, use_cache=False, num_beams=2, **greedy)
        # Rows of 40, 33 and 40 tokens, the second padded at the left and then at the right.
        mask_BT = torch.ones_like(tokens_BT)
        mask_BT[1, :7] = 0
        left_BT = torch.cat([tokens_BT[:1], torch.cat([torch.zeros(1, 7).long(), tokens_BT[1:, :33]], 1)])
        found["left"] = model(left_BT, attention_mask=mask_BT).logits[1, 7:]
        right_BT = torch.cat([tokens_BT[:1], torch.cat([tokens_BT[1:, :33], torch.zeros(1, 7).long()], 1)])
        found["right"] = model(right_BT, attention_mask=mask_BT.flip(1)).logits[1, :33]
        found["left_texts"] = model.generate(left_BT, attention_mask=mask_BT, use_cache=False, **greedy)[1, 40:]
        alone = tokens_BT[1:, :33]
        found["alone_text"] = model.generate(alone, attention_mask=torch.ones_like(alone), **greedy)[0, 33:]
        model.save_pretrained(out / f"{folder.name}-again")
        again: Any = AutoModelForCausalLM.from_pretrained(out / f"{folder.name}-again", trust_remote_code=True)
        found["again"] = again(tokens_BT).logits
        long_1T = torch.zeros(1, model.config.max_position_embeddings + 1).long()
        holes_BT = mask_BT.clone()
        holes_BT[1, 20] = 0
        foreign = copy.deepcopy(model.config)
        foreign.bulba["norm"]["_target_"] = "os.system"
        refused = {
            "foreign name": refusal(lambda: type(model)(foreign)),
            "padded cache": refusal(lambda: model.generate(left_BT, attention_mask=mask_BT, **greedy)),
            "holes": refusal(lambda: model(left_BT, attention_mask=holes_BT)),
            "too long": refusal(lambda: model(long_1T)),
            "beams": refusal(lambda: model.generate(prompt_1T, num_beams=2, **greedy)),
            "labels": refusal(lambda: model(tokens_BT, labels=labels_BT, logits_to_keep=1)),
            "rows": refusal(lambda: model.resize_token_embeddings(9)),
        }
    model.train()
    model(tokens_BT, labels=labels_BT).loss.backward()
    found["gradient"] = model.get_input_embeddings().weight.grad
    save_file({name: tensor.contiguous().clone() for name, tensor in found.items()}, out / f"{folder.name}.safetensors")
    ids = tokenizer("Жыў-быў дзед")["input_ids"]
    (out / f"{folder.name}.json").write_text(json.dumps({"refused": refused, "ids": ids}))


if __name__ == "__main__":
    sys.meta_path.insert(0, WithoutBulba())
    out, *folders = map(Path, sys.argv[1:])
    for folder in folders:
        visit(folder, out)
