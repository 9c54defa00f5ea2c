"""An INT8 folder: the linear layers of the blocks with 8-bit weights, multiplied by activations rounded to 8 bits.

    y_o = s_x s_o sum_i x8_i w8_oi,   w8_oi = round(w_oi / s_o), s_o = max_i |w_oi| / 127.5

and x8, s_x likewise, of each token as it comes: dynamic quantisation, where no token feels its neighbours. Sums are
exact, in int32. These are the numbers of torchao's Int8DynamicActivationInt8WeightConfig, and tests hold them to it.
They are multiplied by torch's own integer product: torchao's tensor class takes 0.3 ms for every layer and token on a
CPU, more than the fp32 product in its place, and would have to be installed to read the file. torch's other way, one
scale for all tokens of a pass (torch.ops.quantized.linear_dynamic), would let later tokens change earlier ones.

Embedding and output matrix stay fp32: the first is no product, every word hangs on the second, and tied they are one.
So do layers that choose (CHOOSING), where a rounded score would send a token elsewhere. It computes on a CPU alone, and
does not train.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bulba.checkpoint import check_fits, from_hf_names, load_model, to_hf_names
from bulba.config.snapshot import write_json
from bulba.data.tokenizer import Tokenizer
from bulba.errors import CheckpointError, ExportError
from bulba.export.verify_onnx import PROMPTS
from bulba.export.vocab import load_tokenizer
from bulba.files import atomic_folder, sha256_file
from bulba.model.gpt import GPT

CHOOSING = ("crossing_proj", "digits")
LEVELS = 127.5
FILES = ("model.json", "model.safetensors")
MANIFEST = "int8.json"
FORMAT_VERSION = 1
CARD = """---
library_name: bulba
pipeline_tag: text-generation
{license}---

# {name}

A language model trained with Bulba, its linear layers in 8 bits for CPUs: {num_layers} layers of width {hidden_size},
{vocab_size} tokens, context of {max_seq_len} tokens. Run it with

    python -m bulba generate run={folder} prompt="Аднойчы"

or in Python: `bulba.export.int8.load_int8(Path("{folder}"))`. `model.safetensors` has `NAME.weight` (int8) and
`NAME.scale` (fp32, one for each row); NAME computes `scale * (weight @ x)`.
"""


class Int8Linear(nn.Module):
    """nn.Linear by 8-bit numbers: [..., in] -> [..., out]. weight: int8 [out, in]; scale: fp32 [out]; bias or None."""

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    @classmethod
    def of(cls, linear: nn.Linear) -> Int8Linear:
        """The nearest one to `linear`."""
        weight, scale_O1 = rounded(linear.weight.detach().float())
        return cls(weight, scale_O1[:, 0], None if linear.bias is None else linear.bias.detach().float())

    @classmethod
    def like(cls, linear: nn.Linear) -> Int8Linear:
        """One of the same shape, to be filled."""
        bias = None if linear.bias is None else torch.zeros(linear.out_features)
        weight = torch.zeros(linear.out_features, linear.in_features, dtype=torch.int8)
        return cls(weight, torch.zeros(linear.out_features), bias)

    def forward(self, x: Tensor) -> Tensor:
        x_XI, scale_X1 = rounded(x.flatten(0, -2))
        y_XO = torch._int_mm(x_XI, self.weight.t()) * scale_X1 * self.scale
        if self.bias is not None:
            y_XO = y_XO + self.bias
        return y_XO.view(*x.shape[:-1], -1)


def rounded(x_XI: Tensor) -> tuple[Tensor, Tensor]:
    """Each row in 8 bits, and the scale that gives it back: int8 [X, I], fp32 [X, 1]."""
    scale_X1 = (x_XI.abs().amax(-1, keepdim=True) / LEVELS).clamp(min=torch.finfo(torch.float32).tiny)
    return (x_XI * (1 / scale_X1)).round().clamp(-128, 127).to(torch.int8), scale_X1


def quantize_int8(model: GPT) -> None:
    """Put 8-bit layers in place of the linear layers of the blocks; ExportError for weights that are not finite."""
    for name, parent, child in linear_layers(model):
        linear = getattr(parent, child)
        if not linear.weight.isfinite().all():
            raise ExportError(f"{name}.weight has values that are not finite: export from an earlier checkpoint.")
        setattr(parent, child, Int8Linear.of(linear))


def linear_layers(model: GPT) -> Iterator[tuple[str, nn.Module, str]]:
    """Name, parent and name there of all layers that have a form in 8 bits; the model may change meanwhile."""
    for name, parent in list(model.layers.named_modules()):
        for child, module in list(parent.named_children()):
            if type(module) is nn.Linear and child not in CHOOSING:
                yield f"layers.{name}.{child}", parent, child


def export_int8(checkpoint: Path, tokenizer: Path, out: Path, license: str | None = None, verify: bool = True) -> Path:
    """Write the folder `OUT-int8`, which `python -m bulba generate run=FOLDER` and `load_int8` read.

    checkpoint: a checkpoint folder. tokenizer: its tokenizer.json. license: an SPDX name for the README. verify: read
    the folder again, hold its logits to those of the model that was written, and say how far they are from fp32.
    """
    model = load_model(checkpoint).float()
    loaded = load_tokenizer(tokenizer, model.config["vocab_size"], checkpoint)
    exact = prompt_logits(model, loaded) if verify else []
    before = sum(getattr(parent, child).weight.nbytes for _, parent, child in linear_layers(model))
    quantize_int8(model)
    layers = [module for module in model.modules() if isinstance(module, Int8Linear)]
    after = sum(layer.weight.nbytes + layer.scale.nbytes for layer in layers)
    folder = out.with_name(f"{out.name}-int8")
    with atomic_folder(folder) as temporary:
        save_file(to_hf_names(model.state_dict()), temporary / "model.safetensors", metadata={"format": "pt"})
        write_json(temporary / "model.json", model.config)
        write_manifest(temporary)
        loaded.save_pretrained(temporary, model_max_length=model.max_seq_len)
        names = {"name": out.name, "folder": folder.name, "license": f"license: {license}\n" if license else ""}
        (temporary / "README.md").write_text(CARD.format(**names, **model.config), encoding="utf-8")
        if verify:
            difference = check_read_back(temporary, model, exact, loaded)
    print(
        f"{folder.name}: {len(layers)} linear layers, {before / 1e6:,.2f} MB in fp32 and {after / 1e6:,.2f} MB in int8 "
        f"({before / after:.2f} times smaller)"
        + (f"; logits differ from fp32's by at most {difference:.2g}" if verify else "")
    )
    return folder


def is_int8(folder: Path) -> bool:
    """Whether `export_int8` wrote it."""
    return (folder / MANIFEST).is_file()


def load_int8(folder: Path) -> GPT:
    """The model of a folder of `export_int8`, on the CPU, in eval mode.

    Raises CheckpointError for a folder that is none, or not whole.
    """
    if not is_int8(folder):
        raise CheckpointError(f"{folder} is no INT8 folder (it has no {MANIFEST}): export one with export=int8.")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if manifest["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has INT8 format {manifest['format_version']} and this Bulba reads {FORMAT_VERSION}: export the "
            "run again."
        )
    for name in FILES:
        if not (folder / name).is_file() or sha256_file(folder / name) != manifest["sha256"][name]:
            raise CheckpointError(
                f"{folder / name} is missing or damaged (its checksum differs): export the run again."
            )
    model = GPT(**json.loads((folder / "model.json").read_text(encoding="utf-8")))
    for _, parent, child in linear_layers(model):
        setattr(parent, child, Int8Linear.like(getattr(parent, child)))
    weights = from_hf_names(load_file(folder / "model.safetensors"))
    check_fits(model, weights, folder)
    model.load_state_dict(weights)
    return model.eval()


def write_manifest(folder: Path) -> None:
    """What the folder is, and the checksums of its files."""
    checksums = {name: sha256_file(folder / name) for name in FILES}
    write_json(folder / MANIFEST, {"format_version": FORMAT_VERSION, "sha256": checksums})


def check_read_back(folder: Path, model: GPT, exact: list[Tensor], tokenizer: Tokenizer) -> float:
    """The largest difference of a logit from `exact`; ExportError where the folder is not the model."""
    again = prompt_logits(load_int8(folder), tokenizer)
    for expected, got in zip(prompt_logits(model, tokenizer), again, strict=True):
        if not torch.equal(expected, got):
            raise ExportError(
                "the INT8 folder is not kept: what was read back computes something else; write it again."
            )
    return max(float((one - other).abs().max()) for one, other in zip(exact, again, strict=True))


@torch.inference_mode()
def prompt_logits(model: GPT, tokenizer: Tokenizer) -> list[Tensor]:
    """[T, V] of every prompt."""
    rows = [torch.tensor([tokenizer.encode(prompt)[: model.max_seq_len]]) for prompt in PROMPTS]
    return [model.logits(model(row_BT))[0] for row_BT in rows]
