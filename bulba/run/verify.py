"""`python -m bulba verify file=FILE run=RUN`: a GGUF file held against a run and tried in llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bulba.checkpoint_folder import check_whole, find_checkpoint
from bulba.errors import ConfigError, ExportError
from bulba.export.importance import read_imatrix
from bulba.export.optional import need
from bulba.export.run import find_tokenizer
from bulba.export.types import GGUF_TYPES, GgufType, file_types
from bulba.export.verify import certify, tell
from bulba.runs import find_run


def verify_command(file: str, run: str = "last") -> None:
    """Write the certificate beside `file` and say what it says; ExportError where the file is not the run's model.

    run: a run, whose newest checkpoint is meant, or a checkpoint folder.
    """
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f"there is no file {path}: name the GGUF file with file=PATH.")
    checkpoint = find_checkpoint(find_run(run))
    check_whole(checkpoint.folder)
    type, imatrix = made_with(path)
    importances = read_imatrix(path.with_name(imatrix)) if imatrix else {}
    certificate = certify(path, path.name, checkpoint.folder, find_tokenizer(checkpoint), type, importances)
    page = certificate.write(path)
    if certificate.fault:
        raise ExportError(
            f"{path.name} is not the model of {checkpoint.folder}: {certificate.fault}; {page.name} has the figures."
        )
    tell(certificate, page)


def made_with(path: Path) -> tuple[GgufType, str | None]:
    """How the file says that its matrices are stored, and the file of its importance matrix, None where it has none.

    ConfigError for types that Bulba does not write.
    """
    gguf: Any = need("gguf", "the check of a GGUF file")
    try:
        fields = gguf.GGUFReader(path).fields
        number = fields["general.file_type"].contents()
    except (ValueError, KeyError, IndexError) as error:
        raise ExportError(f"{path} is not a GGUF file that can be read ({error}): export the run again.") from error
    stored = {number: type for type, number in file_types().items()}
    if number not in stored:
        raise ConfigError(
            f"{path} has general.file_type {number}, and Bulba knows what rounding does only in "
            f"{', '.join(GGUF_TYPES)}: verify a file of such a type."
        )
    imatrix = fields.get("quantize.imatrix.file")
    return stored[number], imatrix and Path(imatrix.contents()).name
