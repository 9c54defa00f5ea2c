"""A program of its own that reads a Hugging Face folder where Bulba is not installed: `python -P THIS_FILE FOLDER`.

Lines of stdin are JSON lists of token ids; for each it writes the logits [T, V] to stdout as raw fp32, computed in one
pass or, where the model has a cache, in two passes with one. Its code comes from the folder, and an import of bulba is
an error, as it would be elsewhere.
"""

from __future__ import annotations

import importlib.abc
import json
import sys
from typing import Any


class WithoutBulba(importlib.abc.MetaPathFinder):
    """Refuses to find bulba."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] in ("bulba", "callbacks"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def main(folder: str) -> None:
    """Answer every line of stdin."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=True, local_files_only=True, dtype=torch.float32
    )
    model.eval()
    for line in sys.stdin:
        row_1T = torch.tensor([json.loads(line)])
        half = row_1T.shape[1] // 2
        with torch.inference_mode():
            if model.config.use_cache and half:
                first = model(row_1T[:, :half], use_cache=True)
                second = model(row_1T[:, half:], use_cache=True, past_key_values=first.past_key_values)
                logits_TV = torch.cat([first.logits[0], second.logits[0]])
            else:
                logits_TV = model(row_1T).logits[0]
        sys.stdout.buffer.write(logits_TV.contiguous().numpy().tobytes())
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.meta_path.insert(0, WithoutBulba())
    main(sys.argv[1])
