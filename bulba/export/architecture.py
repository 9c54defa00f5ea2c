"""What a checkpoint is to llama.cpp: one of its architectures, or a refusal that names what is in the way.

Which one follows from what the model is made of, exactly and not nearly:
- SwiGLU and RMSNorm: `llama`, with QK-norm `qwen3`; ReLU squared and RMSNorm: `arcee`, with QK-norm `apertus`
  (bulba/export/rotary.py);
- LayerNorm and biases: `gpt2` (bulba/export/gpt2.py).
Gate-free quaternion and octonion layers are standard attention once their matrices are written out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bulba.errors import CheckpointError, UnsupportedError
from bulba.export.outline import Linear, Norm, Outline, class_name, num_components
from bulba.export.tensor_file import TensorFile
from bulba.export.types import GgufType, Storage, TensorType, has_more_bits, stored_type

Rows = NDArray[np.float32]
Change = Callable[[Rows], Rows]
Metadata = dict[str, int | float | str | list[float]]


@dataclass(frozen=True)
class Weight:
    """Rows of a weight of the checkpoint, by its name and shape there.

    change: what is done to them on the way, giving `factor` rows for each. together: how many it needs at once, or a
    multiple of it.
    """

    name: str
    shape: tuple[int, ...]
    change: Change | None = None
    together: int = 1
    factor: int = 1

    def rows(self, source: TensorFile, start: int, stop: int) -> Rows:
        rows = source.rows(self.name, start, stop)
        return self.change(rows) if self.change else rows


@dataclass(frozen=True)
class Filled:
    """The same number throughout: the gain of a norm that has none, the bias of a layer without."""

    value: float
    shape: tuple[int, ...]
    together: ClassVar[int] = 1

    def rows(self, source: TensorFile, start: int, stop: int) -> Rows:
        return np.full((stop - start, *self.shape[1:]), self.value, np.float32)


@dataclass(frozen=True)
class Table:
    """Computed rows; make: of (first row, row behind the last)."""

    make: Callable[[int, int], Rows]
    shape: tuple[int, int]
    together: ClassVar[int] = 1

    def rows(self, source: TensorFile, start: int, stop: int) -> Rows:
        return self.make(start, stop)


Part = Weight | Filled | Table


@dataclass(frozen=True)
class GgufTensor:
    """One tensor of the file. shape: rows first. parts: its rows, one part below the other.

    hf_name: its name in the class of transformers, None where its rows lie in several tensors there.
    """

    name: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    storage: Storage
    hf_name: str | None = None

    def stored_as(self, type: GgufType) -> TensorType:
        """Its type in a file of `type`."""
        return stored_type(self.storage, type, self.shape[-1])


@dataclass(frozen=True)
class Architecture:
    """A model as llama.cpp holds it.

    name: of the architecture. metadata: by full keys. config: model.json. difference: what the file cannot say, a
    sentence; None for nothing.
    """

    name: str
    metadata: Metadata
    tensors: list[GgufTensor]
    config: Mapping[str, Any]
    head_dim: int
    norm_eps: float
    difference: str | None = None


def read_architecture(checkpoint: Path, file_format: str) -> Architecture:
    """The architecture of the checkpoint's model.

    file_format: the format asked for, for the message. Raises UnsupportedError naming what llama.cpp does not hold.
    """
    return architecture_of(json.loads((checkpoint / "model.json").read_text(encoding="utf-8")), file_format)


def architecture_of(config: Mapping[str, Any], file_format: str) -> Architecture:
    """The architecture of the GPT that a config rebuilds; see `read_architecture`."""
    from bulba.export.gpt2 import gpt2
    from bulba.export.rotary import rotary

    model = Outline(config)
    for layer, mixer in enumerate(model.mixers):
        # Softmax attention, and norms ahead of the parts: true of every architecture here.
        if num_components(mixer) is None:
            name = class_name(mixer)
            raise refusal(f"layer {layer} mixes its tokens with {name}", name, file_format)
    if model.config["norm_placement"] != "pre":
        raise refusal("layer 0 has its norms behind the residual sum", "post-norm", file_format)
    return (gpt2 if model.norm_kind == "LayerNorm" else rotary)(model, file_format)


def check_tensors(
    found: Mapping[str, tuple[int, ...]], tensors: list[GgufTensor], checkpoint: Path, file_format: str
) -> None:
    """Hold names and shapes in a checkpoint against what the model is made of."""
    weights = [part for tensor in tensors for part in tensor.parts if isinstance(part, Weight)]
    unknown = sorted(found.keys() - {weight.name for weight in weights})
    if unknown:
        raise refusal(f"the checkpoint has the weight {unknown[0]}", "that weight", file_format)
    for weight in weights:
        shape = found.get(weight.name)
        if shape != weight.shape:
            raise CheckpointError(
                f"{checkpoint}: the weight {weight.name} is {shape or 'absent'} where model.json says "
                f"{weight.shape}; use another checkpoint of the run."
            )


def refusal(fact: str, mechanism: str, file_format: str) -> UnsupportedError:
    """The sentence for what a format cannot hold."""
    return UnsupportedError(
        f"this model cannot become {file_format}: {fact}, and no program that reads one has {mechanism}; the "
        "formats that do hold it are a Hugging Face folder (export=hf) and Bulba's own checkpoint folder."
    )


def sizes(name: str, model: Outline) -> Metadata:
    """The sizes that every architecture writes down."""
    config = model.config
    return {
        f"{name}.block_count": config["num_layers"],
        f"{name}.context_length": config["max_seq_len"],
        f"{name}.embedding_length": config["hidden_size"],
        f"{name}.feed_forward_length": config["intermediate_size"],
        f"{name}.attention.head_count": config["num_heads"],
        f"{name}.attention.head_count_kv": config["num_kv_heads"],
        f"{name}.attention.key_length": model.head_dim,
        f"{name}.attention.value_length": model.head_dim,
        f"{name}.vocab_size": config["vocab_size"],
    }


def embeddings(model: Outline) -> list[GgufTensor]:
    """The token embedding and the output matrix; a tied head has none."""
    shape = (model.config["vocab_size"], model.config["hidden_size"])
    found = [("token_embd.weight", "model.embed_tokens.weight")]
    if not model.config["tie_embeddings"]:
        found.append(("output.weight", "lm_head.weight"))
    return [matrix_tensor(name, Weight(own_name, shape), "head") for name, own_name in found]


def norm_tensor(norm: Norm, name: str) -> GgufTensor:
    """The gain of a norm, of ones where it has none."""
    weight = Weight(f"{norm.name}.weight", (norm.size,))
    return GgufTensor(name, weight.shape, (weight if norm.has_gain else Filled(1.0, weight.shape),), "f32", weight.name)


def matrix(linear: Linear, change: Change | None = None, together: int = 1) -> Weight:
    """The matrix of a projection, a hypercomplex one written out. together: rows that `change` needs at once."""
    count = linear.num_components
    name, shape = f"{linear.name}.weight", (linear.out_features // count, linear.in_features)
    if count == 1:
        return Weight(name, shape, change, together)

    def expand(rows: Rows) -> Rows:
        dense = write_out(rows, count)
        return change(dense) if change else dense

    assert together == 1 or together % count == 0, "a head holds whole numbers"
    return Weight(name, shape, expand, max(together // count, 1), count)


def precise(layer: int, num_layers: int) -> Storage:
    """How the values and the last matrix of the feed-forward of a layer are stored."""
    return "precise" if has_more_bits(layer, num_layers) else "matrix"


def matrix_tensor(name: str, weight: Weight, storage: Storage = "matrix") -> GgufTensor:
    """A tensor that is one matrix."""
    num_rows, width = weight.shape
    return GgufTensor(name, (num_rows * weight.factor, width), (weight,), storage, weight.name)


def write_out(rows: Rows, num_components: int) -> Rows:
    """Rows of the weight of a HyperLinear, [n, in] -> the rows of its dense matrix, [n * C, in]."""
    import torch

    from bulba.attention.hypercomplex import dense_matrix

    return dense_matrix(torch.from_numpy(rows), num_components).numpy()


def bias(linear: Linear, change: Change | None = None, together: int = 1) -> Part:
    """The bias of a projection, of zeros where it has none."""
    shape = (linear.out_features,)
    return Weight(f"{linear.name}.bias", shape, change, together) if linear.has_bias else Filled(0.0, shape)
