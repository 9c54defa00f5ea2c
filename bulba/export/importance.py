"""The importance matrix: what an error of each column of a matrix costs, measured on the user's own text.

A column matters as much as what it is multiplied by: the mean square of that input over the tokens of the text. The
types of few bits then spend their levels where it shows. The embedding has none, nor a tied output matrix.

It is kept beside the GGUF file as `NAME.imatrix.gguf`, in llama.cpp's own format, which llama-quantize reads too:
tensors NAME.in_sum2 and NAME.counts (https://github.com/ggml-org/llama.cpp/tree/master/tools/imatrix).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bulba.data.tokenizer import Tokenizer
from bulba.errors import ConfigError, ExportError
from bulba.export.architecture import GgufTensor
from bulba.export.optional import need
from bulba.export.rounding import matrices, reference_model, tensors_by_weight
from bulba.export.types import Importances
from bulba.files import atomic_file

MAX_TOKENS = 2**16  # more text moves the means little
MIN_TOKENS = 512
BATCH_TOKENS = 2**11
# Where a column was never multiplied by anything, as a share of the mean: an error there is not free, only cheap.
SMALLEST = 1e-6


def read_text(path: Path) -> str:
    """The text, or the start of it that is enough; ConfigError for what is no UTF-8 text."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(16 * MAX_TOKENS)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"export.gguf.imatrix={path} cannot be read as a text in UTF-8 ({error}): name a .txt file of the kind of "
            "text that the model is to write."
        ) from error


@torch.inference_mode()
def measure_importances(
    checkpoint: Path, tokenizer: Tokenizer, tensors: list[GgufTensor], text_file: Path
) -> Importances:
    """Mean squares of what every matrix of `tensors` is multiplied by on the text; ConfigError for too short a text."""
    ids = tokenizer.encode(read_text(text_file))[:MAX_TOKENS]
    if len(ids) < MIN_TOKENS:
        raise ConfigError(
            f"export.gguf.imatrix={text_file} has {len(ids)} tokens, and an importance matrix of fewer than "
            f"{MIN_TOKENS} would be chance: name a longer text, best some hundred kilobytes."
        )
    model = reference_model(checkpoint)
    model.set_kernel("flash")
    by_weight = tensors_by_weight(tensors)
    sums: dict[str, Tensor] = {}

    def watch(name: str, module: nn.Linear) -> None:
        sums[name] = torch.zeros(module.in_features, dtype=torch.float64)

        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            sums[name] += inputs[0].double().square().flatten(0, -2).sum(0)

        module.register_forward_pre_hook(add)

    for weight, module in matrices(model):
        name = by_weight[weight].name
        # Matrices of one input may lie in one tensor (q, k and v of gpt2): the first of them is enough.
        if isinstance(module, nn.Linear) and name not in sums:
            watch(name, module)
    seq_len = min(model.max_seq_len, len(ids))
    rows = torch.tensor(ids[: len(ids) // seq_len * seq_len]).view(-1, seq_len)
    for part in rows.split(max(BATCH_TOKENS // seq_len, 1)):
        model.logits(model(part))
    means = {name: squares.numpy() / rows.numel() for name, squares in sums.items()}
    print(f"importance of columns measured on {rows.numel():,} tokens of {text_file}", flush=True)
    return {name: np.maximum(mean, SMALLEST * mean.mean()).astype(np.float32) for name, mean in means.items()}


def imatrix_metadata(path: Path, importances: Importances, dataset: str) -> dict[str, int | str]:
    """What a GGUF file made with them says of it, in llama.cpp's keys."""
    return {
        "quantize.imatrix.file": imatrix_file(path).name,
        "quantize.imatrix.dataset": Path(dataset).name,
        "quantize.imatrix.entries_count": len(importances),
    }


def imatrix_file(path: Path) -> Path:
    """Where the importance matrix of a GGUF file is."""
    return path.with_suffix(".imatrix.gguf")


def write_imatrix(path: Path, importances: Importances, dataset: str) -> None:
    """Keep them in llama.cpp's format."""
    gguf = need("gguf", "the GGUF export")
    with atomic_file(path) as temporary:
        writer = gguf.GGUFWriter(temporary, "")
        writer.add_type("imatrix")
        writer.add_array("imatrix.datasets", [dataset])
        writer.add_uint32("imatrix.chunk_count", 1)
        writer.add_uint32("imatrix.chunk_size", 1)
        for name, mean in importances.items():
            writer.add_tensor(f"{name}.in_sum2", mean[None])
            writer.add_tensor(f"{name}.counts", np.ones((1, 1), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read_imatrix(path: Path) -> Importances:
    """What `write_imatrix` or llama.cpp's llama-imatrix has written; ExportError where it is not there."""
    if not path.is_file():
        raise ExportError(
            f"the file was made with the importance matrix {path.name}, and {path} is not there: put it beside the "
            "GGUF file."
        )
    tensors = {tensor.name: tensor.data for tensor in need("gguf", "the importance matrix").GGUFReader(path).tensors}
    return {
        name.removesuffix(".in_sum2"): mean_of(values, tensors[name.removesuffix(".in_sum2") + ".counts"])
        for name, values in tensors.items()
        if name.endswith(".in_sum2")
    }


def mean_of(sums: NDArray[np.float32], counts: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(sums.reshape(-1) / counts.reshape(-1)[0], np.float32)
