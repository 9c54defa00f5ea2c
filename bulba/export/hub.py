"""Putting what was exported on the Hugging Face Hub, in one commit: `export.push_to_hub=USER/NAME`.

The files of the first folder go to the top, where the Hub looks for the card and the model; other folders keep their
name, and files come with the certificates beside them. A repository that does not exist yet is made, private. The
account is that of `hf auth login` or HF_TOKEN, the address HF_ENDPOINT, as everywhere in huggingface_hub.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bulba.errors import ConfigError, ExportError
from bulba.export.optional import need

MESSAGE = "Upload a model trained with Bulba"


def check_hub(repository: str) -> None:
    """ConfigError for a name that the Hub does not take, ExportError where nobody is logged in."""
    hub: Any = need("huggingface_hub", "export.push_to_hub")
    try:
        need("huggingface_hub.utils", "export.push_to_hub").validate_repo_id(repository)
    except ValueError:
        repository = ""
    if repository.count("/") != 1:
        raise ConfigError("export.push_to_hub must be USER/NAME of Latin letters, digits, '-', '_' and '.'.")
    if hub.get_token() is None:
        raise ExportError(
            "export.push_to_hub needs an account, and nobody is logged in here: run `hf auth login`, or set HF_TOKEN."
        )


def push(written: list[Path], repository: str) -> str:
    """Upload and return the address; ExportError where the Hub refuses, and the files stay where they are."""
    hub, errors = (need(name, "export.push_to_hub") for name in ("huggingface_hub", "huggingface_hub.errors"))
    additions = [
        hub.CommitOperationAdd(path_in_repo=place, path_or_fileobj=file)
        for place, file in sorted(places(written).items())
    ]
    try:
        api = hub.HfApi()
        api.create_repo(repository, private=True, exist_ok=True)
        commit = api.create_commit(repository, additions, commit_message=MESSAGE)
    except errors.HfHubHTTPError.__bases__ as error:  # those of the HTTP library too, whichever it is
        reason = str(error).strip().splitlines()[0]
        raise ExportError(
            f"{repository} was not uploaded ({reason}); everything is written, so once that is mended: hf upload "
            f"{repository} {written[0]}."
        ) from error
    return str(commit.repo_url)


def places(written: list[Path]) -> dict[str, Path]:
    """Where each file goes; ExportError for two files at one place."""
    found: dict[str, Path] = {}
    folders = [path for path in written if path.is_dir()]
    for path in written:
        if path.is_dir():
            prefix = "" if path == folders[0] else f"{path.name}/"
            files = {f"{prefix}{file.relative_to(path).as_posix()}": file for file in path.rglob("*") if file.is_file()}
        else:
            files = {file.name: file for file in (path, *path.parent.glob(f"{path.stem}.*")) if file.is_file()}
        taken = sorted(found.keys() & files.keys())
        if taken:
            raise ExportError(f"{found[taken[0]]} and {files[taken[0]]} would both be {taken[0]} on the Hub.")
        found |= files
    return found
