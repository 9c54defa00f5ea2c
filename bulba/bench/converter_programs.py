"""The two programs that `bench converter` compares, each a process of its own.

Imports come first, those too that the converter would make on its way; then the clock and the peak of memory begin.
The last line printed is JSON: seconds and peak_bytes of the work alone.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bulba.bench.memory import reset_peak, status_bytes
from bulba.files import sync_file


def measured(work: Callable[[], object]) -> dict[str, float]:
    """Do it; seconds, and bytes of the highest RSS above the one at the start."""
    reset_peak()
    before, begun = status_bytes("VmRSS"), time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - begun, "peak_bytes": status_bytes("VmHWM") - before}


def direct(checkpoint: Path, tokenizer: Path, out: Path, type: str) -> dict[str, float]:
    """Bulba's writer: from the checkpoint folder."""
    import gguf  # noqa: F401

    from bulba.export.gguf import export_gguf

    return measured(lambda: export_gguf(checkpoint, tokenizer, out, type, verify=False))  # type: ignore[arg-type]


def converter(script: Path, folder: Path, out: Path, type: str) -> dict[str, float]:
    """llama.cpp's converter, wrapped: from a Hugging Face folder."""
    import sentencepiece  # noqa: F401
    from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast  # noqa: F401

    from bulba.export.converter_child import convert, load_script, wrap

    module = load_script(script)
    wrap(module, folder / "tokenizer.json")

    def work() -> None:
        convert(module, folder, out, type)
        sync_file(out)  # as the other program does

    return measured(work)


PROGRAMS = {"direct": direct, "converter": converter}

if __name__ == "__main__":
    NAME, SOURCE, BESIDE, OUT, TYPE = sys.argv[1:]
    print(json.dumps(PROGRAMS[NAME](Path(SOURCE), Path(BESIDE), Path(OUT), TYPE)))
