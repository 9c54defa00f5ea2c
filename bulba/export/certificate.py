"""What the gate saw of a GGUF file, for programs (`*.certificate.json`) and for readers (`*.certificate.md`)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bulba.export.types import GgufType
from bulba.files import write_text


@dataclass
class Divergence:
    """Where two continuations part: Bulba's logits prefer the one token, llama.cpp's the other."""

    prompt: str
    position: int
    bulba_token: str
    llama_cpp_token: str
    margin_sd: float


@dataclass
class Difference:
    """A key of the metadata as it stands in our file and in the converter's; None where it is absent.

    matters: llama.cpp behaves otherwise for it.
    """

    key: str
    ours: str | None
    theirs: str | None
    matters: bool

    def describe(self) -> str:
        if self.theirs is None:
            return f"it lacks {self.key}, which is {self.ours} in ours"
        if self.ours is None:
            return f"it adds {self.key}, {self.theirs}"
        return f"its {self.key} is {self.theirs} where ours is {self.ours}"


@dataclass
class Witness:
    """What llama.cpp's own converter made of the same checkpoint; `fault` is None where its file is ours.

    version, layout, sha256: which converter (bulba/export/converter.py). class_name: whose method was wrapped.
    splitter_named_by: `it`, or `Bulba` where the converter did not know the tokenizer.
    """

    version: str = ""
    layout: str = ""
    sha256: str = ""
    class_name: str = ""
    splitter_named_by: str = ""
    num_equal_tensors: int = 0
    differences: list[Difference] = field(default_factory=list)
    fault: str | None = None

    def to_markdown(self) -> list[str]:
        """Its lines of the page."""
        return [
            "",
            "## Second witness",
            "",
            f"The converter of {self.version} (SHA-256 of its files `{self.sha256}`) "
            + (f"is no witness: {self.fault}." if self.fault else "wrote the same model."),
            "",
            f"{self.num_equal_tensors} tensors are the same bytes. Its classes are in: {self.layout}; the splitter was "
            f"named by {'Bulba' if self.splitter_named_by == 'Bulba' else 'the converter'} (class {self.class_name}).",
            "",
            "| key that differs | here | there | llama.cpp behaves |",
            "| --- | --- | --- | --- |",
            *(
                f"| `{each.key}` | {each.ours or 'absent'} | {each.theirs or 'absent'} | "
                f"{'otherwise' if each.matters else 'alike'} |"
                for each in self.differences
            ),
        ]


@dataclass
class Certificate:
    """`fault` is None where the file passed; what comes behind the part that failed was not looked at."""

    file: str
    sha256: str
    checkpoint_sha256: str
    type: GgufType
    architecture: str
    bulba: str
    xllamacpp: str
    llama_cpp: str = ""
    difference: str | None = None  # what the file cannot say
    num_metadata: int = 0
    num_tensors: int = 0
    num_tokens: int = 0
    num_strings: int = 0
    num_special: int = 0  # special tokens as text, taken for themselves and for plain text
    num_splits: int = 0
    nfd_differences: int = 0  # texts whose ids differ where the caller leaves out NFC
    num_prompts: int = 0
    num_positions: int = 0
    max_difference_sd: float = 0.0
    limit_sd: float = 0.0
    rounding_noise_sd: float = 0.0
    divergences: list[Divergence] = field(default_factory=list)
    fault: str | None = None
    witness: Witness | None = None  # where one was asked for

    def to_json(self) -> str:
        """As JSON, which has no NaN: a figure that is none becomes null."""
        figures = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }
        return json.dumps(figures, indent=1, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """As a page."""
        verdict = f"**Rejected**: {self.fault}." if self.fault else "It behaves as the checkpoint does."
        lines = [
            f"# {self.file}",
            "",
            verdict,
            "",
            f"llama.cpp {self.llama_cpp or '(not reached)'}, xllamacpp {self.xllamacpp}, Bulba {self.bulba}.",
            "",
            "| what | seen |",
            "| --- | --- |",
            f"| architecture, type | {self.architecture}, {self.type} |",
            f"| metadata equal to the checkpoint's | {self.num_metadata} keys |",
            f"| tensors equal to the checkpoint's, as far as the type holds them | {self.num_tensors} |",
            f"| tokens with equal bytes | {self.num_tokens:,} |",
            f"| texts with equal ids | {self.num_strings} |",
            f"| special tokens, as themselves and as plain text | {self.num_special} |",
            f"| texts cut into equal pieces | {self.num_splits} |",
            f"| texts whose ids differ unless they are put into NFC first | {self.nfd_differences} |",
            f"| logits compared | {self.num_positions} positions of {self.num_prompts} prompts |",
            f"| largest difference of a logit | {self.max_difference_sd:.2g} sd, limit {self.limit_sd:.2g} sd |",
            f"| what rounding to {self.type} does by itself | {self.rounding_noise_sd:.2g} sd |",
            f"| continuations that part from Bulba's at a tie | {len(self.divergences)} |",
            f"| what the file cannot say | {self.difference or 'nothing'} |",
            f"| SHA-256 of the file | `{self.sha256}` |",
            f"| SHA-256 of model.safetensors | `{self.checkpoint_sha256}` |",
        ]
        return "\n".join([*lines, *(self.witness.to_markdown() if self.witness else [])]) + "\n"

    def write(self, path: Path) -> Path:
        """Both files beside `path`; returns the one for readers."""
        write_text(path.with_suffix(".certificate.json"), self.to_json())
        page = path.with_suffix(".certificate.md")
        write_text(page, self.to_markdown())
        return page
