"""The modelling code of a Hugging Face folder, for `trust_remote_code`: Bulba's own source, in files beside each other.

transformers loads code from a folder without packages, so every module that the model needs becomes one file
(`bulba.model.norm` -> bulba_model_norm.py) and its imports of Bulba become relative; nothing else in it changes. What
is needed is found by following imports from bulba/export/hf_code/modeling_bulba.py and from the classes that the
model's config names. Two modules have a stand-in in bulba/export/hf_code, without Hydra and psutil: `SUBSTITUTES`.
Kernels in Triton stay out: an import of one inside a function becomes an error, and nothing gets there.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bulba.errors import UnsupportedError

HERE = "bulba.export.hf_code."
ROOTS = (f"{HERE}modeling_bulba", f"{HERE}configuration_bulba")
TARGETS = f"{HERE}targets"  # made here
SUBSTITUTES = {"bulba.config.build": f"{HERE}build", "bulba.device": f"{HERE}device"}
LEFT_OUT = "bulba.kernels"
INSTALLED = frozenset({"torch", "transformers", *sys.stdlib_module_names})
HEADER = "# From {module} of Bulba, MIT licence. Made by its export: edit it there.\n"
NAMED = ("bulba.model.", "bulba.attention.")


def modelling_code(model_config: Mapping[str, Any]) -> dict[str, str]:
    """The source of every file, by its name; model_config: model.json, whose `_target_` names decide what is needed.

    Raises UnsupportedError for a name that is no part of Bulba's models.
    """
    made = {TARGETS: targets_source(sorted(set(targets(model_config))))}
    waiting, files = [*ROOTS], {}
    while waiting:
        module = waiting.pop()
        if file_name(module) in files:
            continue
        text, needed = flatten(module, made.get(module) or source_of(module))
        files[file_name(module)] = HEADER.format(module=module) + text
        waiting += needed
    return files


def targets(node: Any) -> Iterator[str]:
    """Every `_target_` in a config, however deep."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield value
            else:
                yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


def targets_source(names: list[str]) -> str:
    """A module with the table of the classes that config.json may name."""
    imports, rows = [], []
    for name in names:
        module, _, attribute = name.rpartition(".")
        if not name.startswith(NAMED):
            raise UnsupportedError(
                f"this model cannot become a Hugging Face folder: its part {name} is not Bulba's, and its code is not "
                "known to run elsewhere; the format that does hold it is Bulba's own checkpoint folder."
            )
        imports.append(f"from {module} import {attribute}")
        rows.append(f'    "{name}": {attribute},')
    lines = ['"""The classes that config.json may name."""', "", *imports, "", "TARGETS = {", *rows, "}", ""]
    return "\n".join(lines)


def source_of(module: str) -> str:
    """The source of a module that is not imported for it."""
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"{module} is there"
    assert spec.origin is not None, f"{module} has a file"
    return Path(spec.origin).read_text(encoding="utf-8")


def file_name(module: str) -> str:
    return f"{flat_name(module)}.py"


def flat_name(module: str) -> str:
    """What a module is called in the folder."""
    return module.removeprefix(HERE).replace(".", "_")


def flatten(module: str, source: str) -> tuple[str, list[str]]:
    """The text of a module for the folder, and the modules that it imports there."""
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    text, needed = source.encode(), []
    statements = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    # From the end, so that places before it stay where they are.
    for node in sorted(statements, key=lambda node: (node.lineno, node.col_offset), reverse=True):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        if not any(name.split(".")[0] == "bulba" for name in names):
            foreign = {name.split(".")[0] for name in names} - INSTALLED
            assert not foreign, f"{module} needs {foreign}, which a reader of the folder need not have"
            continue
        assert isinstance(node, ast.ImportFrom), f"{module} imports bulba as a whole"
        assert node.module
        assert node.end_lineno
        assert node.end_col_offset
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        if node.module.startswith(LEFT_OUT):
            assert node.col_offset, f"{module} imports {node.module} before it needs it"
            what = f"{node.module}: this folder has no Triton kernels".encode()
            text = text[:begin] + b'raise NotImplementedError("' + what + b'")' + text[end:]
            continue
        wanted = SUBSTITUTES.get(node.module, node.module)
        needed.append(wanted)
        statement = re.sub(r"^from\s+[\w.]+", f"from .{flat_name(wanted)}", text[begin:end].decode())
        text = text[:begin] + statement.encode() + text[end:]
    return text.decode(), needed
