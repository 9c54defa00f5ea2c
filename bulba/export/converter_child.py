"""llama.cpp's own converter, run with one method wrapped: `python -m bulba.export.converter_child SCRIPT ARGUMENTS...`.

The converter names the splitter of a byte-level BPE by the hash of the ids of one text, which no tokenizer trained here
can match, and raises NotImplementedError. Wrapped, the method is asked first; only where it raises that, and the
tokenizer.json in the folder really is what llama.cpp calls `llama-bpe`, is this answered. No file of the converter is
touched. It runs in a process of its own, so that its imports, sys.path and sys.argv are nobody else's.

At the end a JSON file, ARGUMENTS' --outfile with `.json` behind it, says what was wrapped and what was asked.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from bulba.errors import BulbaError, ExportError
from bulba.export.vocab import PRE_TOKENIZER, check_llama_bpe

METHOD = "get_vocab_base_pre"
MODULE = "convert_hf_to_gguf"
PACKAGE = "conversion"  # where newer converters keep their classes


@dataclass
class Patch:
    """What was wrapped, and how often it was asked. num_answered: asked where the original raised."""

    class_name: str
    num_asked: int = 0
    num_answered: int = 0


def run(script: Path, folder: Path, out: Path, type: str) -> Patch:
    """Convert a Hugging Face folder; ExportError where the converter is of another kind than this one expects."""
    module = load_script(script)
    patch = wrap(module, folder / "tokenizer.json")
    convert(module, folder, out, type)
    if not patch.num_asked:
        raise ExportError(
            f"{script} wrote a file without asking {METHOD} which splitter its tokenizer has, so it took the tokenizer "
            "for one of another kind: use a newer llama.cpp."
        )
    return patch


def convert(module: ModuleType, folder: Path, out: Path, type: str) -> None:
    """Call the converter as its command line does."""
    sys.argv = [str(module.__file__), str(folder), "--outfile", str(out), "--outtype", type]
    module.main()


def load_script(script: Path) -> ModuleType:
    """The converter as a module, its folder first on the path as if it had been started itself."""
    sys.path.insert(0, str(script.parent))
    spec = importlib.util.spec_from_file_location(MODULE, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    spec.loader.exec_module(module)
    return module


def wrap(module: ModuleType, tokenizer_json: Path) -> Patch:
    """Wrap the method in the one class that defines it; ExportError where that is none or several."""
    found = classes_with_method(module)
    if len(found) != 1:
        names = ", ".join(sorted(cls.__name__ for cls in found)) or "no class"
        raise ExportError(
            f"{module.__file__} defines {METHOD} in {names} where exactly one class is expected, so nothing was "
            "wrapped: use another version of llama.cpp."
        )
    (cls,) = found
    patch = Patch(cls.__name__)
    setattr(cls, METHOD, wrapped(getattr(cls, METHOD), tokenizer_json, patch))
    return patch


def classes_with_method(module: ModuleType) -> set[type]:
    """Classes of the script, and of the package beside it, that define the method themselves."""
    modules = [module, *(found for name, found in sys.modules.items() if name.split(".")[0] == PACKAGE)]
    return {
        value for each in modules for value in vars(each).values() if isinstance(value, type) and METHOD in vars(value)
    }


def wrapped(original: Callable[[Any, Any], str], tokenizer_json: Path, patch: Patch) -> Callable[[Any, Any], str]:
    """The method that asks the original first."""

    def get_vocab_base_pre(self: Any, tokenizer: Any) -> str:
        patch.num_asked += 1
        try:
            return original(self, tokenizer)
        except NotImplementedError:
            check_llama_bpe(json.loads(tokenizer_json.read_text(encoding="utf-8")), tokenizer_json)
            patch.num_answered += 1
            return PRE_TOKENIZER

    return get_vocab_base_pre


def main() -> None:
    """Run it; what the user can mend is one sentence on the last line of the error output."""
    script, folder, out, type = sys.argv[1:]
    try:
        patch = run(Path(script), Path(folder), Path(out), type)
    except BulbaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    Path(f"{out}.json").write_text(json.dumps(asdict(patch)), encoding="utf-8")


if __name__ == "__main__":
    main()
