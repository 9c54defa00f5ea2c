"""The README of an ONNX folder: what the graph takes and gives, and a program that continues a text with it."""

from __future__ import annotations

from pathlib import Path

from bulba.data.tokenizer import Tokenizer
from bulba.export.onnx_state import decodes
from bulba.model.gpt import GPT

CARD = """---
library_name: onnx
pipeline_tag: text-generation
{license}---

# {name}

A language model trained with Bulba: {num_layers} layers of width {hidden_size}, {vocab_size} tokens, context of
{max_seq_len} tokens. Weights and arithmetic are fp32.

`pip install onnxruntime tokenizers`, then in this folder:

```python
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

session = onnxruntime.InferenceSession("model.onnx")
tokenizer = Tokenizer.from_file("tokenizer.json")
text = "Аднойчы"
ids = [{bos_id}, *tokenizer.encode(text, add_special_tokens=False).ids]
{loop}
print(text + tokenizer.decode(new))
```

{facts}
- `logits` [batch, length, {vocab_size}]: of the token behind each of `input_ids`.
- All rows of a batch have the same number of tokens; there is no padding mask. Nothing checks that a text stays within
  {max_seq_len} tokens.
- It continues texts and is not a chat model. The tokenizer puts text into Unicode normal form C.
"""

WITH_PAST = """dtypes = {{"tensor(float)": np.float32, "tensor(int64)": np.int64}}
inputs = session.get_inputs()[1:]
past = {{one.name: np.zeros((1, one.shape[1], 0, one.shape[3]), dtypes[one.type]) for one in inputs}}
new, fed = [], ids
while len(ids) + len(new) < {max_seq_len} and len(new) < 50:
    logits, *present = session.run(None, {{"input_ids": np.array([fed]), **past}})
    fed = [int(logits[0, -1].argmax())]
    if fed == [{eos_id}]:
        break
    new += fed
    past = dict(zip(past, present))"""

WITHOUT_PAST = """new = []
while len(ids) + len(new) < {max_seq_len} and len(new) < 50:
    (logits,) = session.run(None, {{"input_ids": np.array([ids + new])}})
    best = int(logits[0, -1].argmax())
    if best == {eos_id}:
        break
    new.append(best)"""

PAST_FACTS = """- `input_ids` [batch, length] int64: the new tokens, a prompt or one token.
- `past.LAYER.NAME` [batch, heads, past, width]: what the layers keep of the tokens before; none at first (past = 0),
  then what the pass before gave as `present.LAYER.NAME`, in the same order. Positions are counted from it."""

NO_PAST_FACTS = """- `input_ids` [batch, length] int64: the whole text. Not all layers have a decode cache, so the
  graph takes no past and every new token costs a pass over the text."""


def write_card(path: Path, name: str, model: GPT, tokenizer: Tokenizer, license: str | None) -> None:
    """Write the README; license: an SPDX name."""
    sizes = {key: model.config[key] for key in ("num_layers", "hidden_size", "vocab_size", "max_seq_len")}
    loop = WITH_PAST if decodes(model) else WITHOUT_PAST
    card = CARD.format(
        name=name,
        license=f"license: {license}\n" if license else "",
        loop=loop.format(max_seq_len=model.max_seq_len, eos_id=tokenizer.eos_id),
        facts=PAST_FACTS if decodes(model) else NO_PAST_FACTS,
        bos_id=tokenizer.bos_id,
        **sizes,
    )
    path.write_text(card, encoding="utf-8")
