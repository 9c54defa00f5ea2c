"""Where the texts of a run come from: the embedded tales, your own folder, or a Hugging Face dataset."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from bulba.data.datamodule import TextData
from bulba.data.hub import download
from bulba.data.prepare import Source
from bulba.data.tales import PROMPTS, write_tales
from bulba.errors import ConfigError
from bulba.files import atomic_folder, remove_leftovers


class TalesData(TextData):
    """Tales in Belarusian, Russian, Ukrainian and English, made here: `size_mb` megabytes from `tales_seed`."""

    def __init__(self, *, size_mb: float, tales_seed: int, **rows: Any) -> None:
        super().__init__(**rows)
        self.size_bytes, self.tales_seed = round(size_mb * 1e6), tales_seed

    def sources(self) -> list[Source]:
        folder = self.cache_dir / f"tales-{self.size_bytes}-{self.tales_seed}-{_generator_version()}"
        if not folder.is_dir():
            self.cache_dir.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.cache_dir)
            with atomic_folder(folder) as temporary:
                write_tales(temporary, self.size_bytes, self.tales_seed)
        return [Source(folder)]

    def prompts(self) -> dict[str, list[str]]:
        return PROMPTS


class FolderData(TextData):
    """Your own texts: `path` (a file, a folder, or a list of them), or `sources` with weights."""

    def __init__(self, *, path: str | list[str] | None, sources: list[dict[str, Any]] | None, **rows: Any) -> None:
        super().__init__(**rows)
        if (path is None) == (sources is None):
            raise ConfigError("data=folder needs your texts: set either data.path=FOLDER or data.sources, not both.")
        if sources is None:
            self._sources = [Source(Path(item)) for item in ([path] if isinstance(path, str) else path or [])]
        else:
            self._sources = [_source(item) for item in sources]

    def sources(self) -> list[Source]:
        return self._sources


class HubData(TextData):
    """A Hugging Face dataset, downloaded once into the cache as shards of .jsonl."""

    def __init__(
        self,
        *,
        name: str,
        config_name: str | None,
        split: str,
        column: str,
        max_documents: int | None,
        **rows: Any,
    ) -> None:
        super().__init__(**rows)
        self.fetch = partial(
            download,
            name,
            config_name=config_name,
            split=split,
            column=column,
            max_documents=max_documents,
            cache_dir=self.cache_dir,
        )

    def sources(self) -> list[Source]:
        return [Source(self.fetch())]


def _source(item: dict[str, Any]) -> Source:
    unknown = set(item) - {"path", "weight", "language"}
    if unknown or "path" not in item:
        raise ConfigError(f"data.sources holds {item}: each source is {{path: ..., weight: ..., language: ...}}.")
    weight = item.get("weight")
    if weight is not None and not (isinstance(weight, int | float) and 0 < weight < float("inf")):
        raise ConfigError(f"data.sources: the weight {weight!r} of {item['path']} must be a number above 0.")
    return Source(Path(item["path"]), None if weight is None else float(weight), item.get("language"))


def _generator_version() -> str:
    """A hash of the generator's own source, so that an improved generator makes new tales."""
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parent / "tales").glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
