"""The check of a Hugging Face folder in transformers itself: equal token ids, equal logits.

The reference is Bulba's model with its weights rounded to the stored dtype; both sides compute in fp32. Hard strings
are compared as they are, NFD included, because tokenizer.json normalises.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bulba.checkpoint import load_model
from bulba.data.tokenizer import Tokenizer
from bulba.errors import ExportError
from bulba.export.hard_strings import HARD_STRINGS
from bulba.export.optional import need

NUM_TEXTS = 32  # whose logits are compared, the longest hard strings
LIMIT = 1e-4  # largest difference of any logit


@torch.inference_mode()
def verify_hf(folder: Path, checkpoint: Path, tokenizer: Tokenizer, dtype: torch.dtype) -> float:
    """The largest difference of a logit; ExportError says where transformers and Bulba part."""
    transformers: Any = need("transformers", "the check of the Hugging Face folder (export.hf.verify)")
    transformers.utils.logging.disable_progress_bar()
    theirs = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    encoded = [tokenizer.encode(text) for text in HARD_STRINGS]
    for text, ids in zip(HARD_STRINGS, encoded, strict=True):
        # A literal marker of a special token is plain text to Bulba.
        got = theirs(text, split_special_tokens=True)["input_ids"]
        if got != ids:
            raise ExportError(f"the folder is not kept: {text!r} is {ids} in Bulba and {got} in transformers.")
    model = load_model(checkpoint).to(dtype).float()
    other = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    worst = 0.0
    for ids in sorted(encoded, key=len)[-NUM_TEXTS:]:
        row = torch.tensor([ids[: model.max_seq_len]])
        difference = float((model.logits(model(row)) - other(row).logits).abs().max())
        worst = max(worst, difference)
    if not worst < LIMIT:
        raise ExportError(f"the folder is not kept: a logit in transformers is {worst:.3g} from Bulba's, over {LIMIT}.")
    return worst
