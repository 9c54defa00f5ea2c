"""An ONNX folder: one graph for prompts and for decoding, the tokenizer, and a README with the lines that run it.

    logits, present = model.onnx(input_ids, past)

input_ids [B, T] int64; past and present as in bulba/export/onnx_state.py, P = 0 tokens for a prompt. Any B, T and P
with P + T up to the model's max_seq_len. All in fp32. The graph is traced with kernel `reference`, the formulas written
out, so that no kernel of torch's own is in it.

All rows of a batch have the same number of tokens: there is no padding mask. It does not sample, tokenize or quantize.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bulba.checkpoint import load_model
from bulba.config.snapshot import write_json
from bulba.data.tokenizer import Tokenizer
from bulba.errors import UnsupportedError
from bulba.export.onnx_card import write_card
from bulba.export.onnx_state import State, decodes, new_states
from bulba.export.optional import need
from bulba.export.verify_onnx import certify_onnx
from bulba.export.vocab import load_tokenizer
from bulba.files import atomic_folder
from bulba.model.gpt import GPT, ModelCache

OPSET = 20
# protobuf ends at 2 GB; above this the weights go into model.onnx.data.
ONE_FILE_BYTES = 1_500_000_000
# Sizes of the example that is traced; none of them 0 or 1, which torch takes for constants.
TRACED_ROWS, TRACED_TOKENS, TRACED_PAST = 2, 3, 5


def export_onnx(checkpoint: Path, tokenizer: Path, out: Path, license: str | None = None, verify: bool = True) -> Path:
    """Write the folder `OUT-onnx`.

    checkpoint: a checkpoint folder. tokenizer: its tokenizer.json. license: an SPDX name for the README. verify: run
    the graph in onnxruntime and compare logits and greedy text before the folder is kept.
    Raises UnsupportedError for layers that no graph holds, and ExportError for a graph that computes something else.
    """
    need("onnxscript", "the export to ONNX", "onnx")
    if verify:
        need("onnxruntime", "the check of the ONNX file (export.onnx.verify)", "onnx")
    model = load_model(checkpoint).float()
    loaded = load_tokenizer(tokenizer, model.config["vocab_size"], checkpoint)
    folder = out.with_name(f"{out.name}-onnx")
    with atomic_folder(folder) as temporary:
        write_graph(model, temporary / "model.onnx")
        loaded.save_pretrained(temporary, model_max_length=model.max_seq_len)
        write_card(temporary / "README.md", out.name, model, loaded, license)
        if verify:
            _certify(temporary, folder.name, checkpoint, model, loaded)
    if not decodes(model):
        print(f"{folder.name} reads the whole text for every new token: not all of its layers have a decode cache")
    return folder


def write_graph(model: GPT, path: Path) -> None:
    """Trace `model` and write the graph to `path`, and its weights beside it where they are too large for one file."""
    graph: nn.Module
    args: tuple[Any, ...]
    example = torch.zeros(TRACED_ROWS, TRACED_TOKENS, dtype=torch.int64)
    free: dict[int, str] = {0: "batch", 1: "length"}
    if decodes(model):
        states = new_states(model, TRACED_ROWS, TRACED_PAST)
        past = [tensor for state in states for tensor in state.tensors]
        graph, args = Step(model, states), (example, past)
        shapes: tuple[Any, ...] = (free, [{0: "batch", 2: "past"} for _ in past])
        names = [f"{index}.{name}" for index, state in enumerate(states) for name in state.names]
    else:
        graph, args, shapes, names = Prompt(model), (example,), (free,), []
    model.set_kernel("reference")
    with torch.no_grad(), quiet():
        program = _trace(
            graph.eval(),
            args,
            model,
            dynamic_shapes=shapes,
            input_names=["input_ids", *(f"past.{name}" for name in names)],
            output_names=["logits", *(f"present.{name}" for name in names)],
        )
    forget_sources(program.model)
    size = sum(parameter.nbytes for parameter in model.parameters())
    program.save(path, external_data=size > ONE_FILE_BYTES)


class Step(nn.Module):
    """Logits of tokens behind a past, and the past with them."""

    def __init__(self, model: GPT, states: list[State]) -> None:
        super().__init__()
        self.model, self.kinds = model, [type(state) for state in states]

    def forward(self, input_ids: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        rest = iter(past)
        states = [kind([next(rest) for _ in kind.names]) for kind in self.kinds]
        # A graph does not know where its context ends.
        cache = ModelCache(states, max_tokens=sys.maxsize, length=past[0].shape[2])
        logits_BTV = self.model.logits(self.model(input_ids, cache=cache))
        return logits_BTV, [tensor for state in states for tensor in state.tensors]


class Prompt(nn.Module):
    """Logits of whole texts, for models without a cache."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.model.logits(self.model(input_ids))


def forget_sources(graph: Any) -> None:
    """Remove what the exporter notes at every node: lines of code, with their paths on this machine."""
    graph.metadata_props.clear()
    for function in (graph.graph, *graph.functions.values()):
        function.metadata_props.clear()
        for value in (*function.inputs, *getattr(function, "initializers", {}).values()):
            value.metadata_props.clear()
        for node in function.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what the exporter tells its own developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)


def _trace(graph: nn.Module, args: tuple[Any, ...], model: GPT, **settings: Any) -> Any:
    try:
        return torch.onnx.export(graph, args, dynamo=True, verbose=False, opset_version=OPSET, **settings)
    except torch.onnx.errors.OnnxExporterError as error:
        kinds = ", ".join(dict.fromkeys(type(mixer).__name__ for mixer in model.mixers()))
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise UnsupportedError(
            f"this model cannot become an ONNX file: torch.onnx does not follow its layers ({kinds}) for every length "
            f"of text ({reason}); an INT8 folder (export=int8) and Bulba's own checkpoint folder hold it."
        ) from error


def _certify(folder: Path, name: str, checkpoint: Path, model: GPT, tokenizer: Tokenizer) -> None:
    certificate = certify_onnx(folder / "model.onnx", checkpoint, model, tokenizer)
    write_json(folder / "onnx.certificate.json", certificate)
    print(
        f"{name} in onnxruntime: the logits of {certificate['num_positions']} positions differ by at most "
        f"{certificate['max_logit_difference']:.1e}, and {certificate['num_prompts']} greedy texts are equal"
    )
