"""Which duplicates of documents are removed."""

from dataclasses import dataclass

from bulba.errors import ConfigError


@dataclass(frozen=True)
class Dedup:
    """Of equal or almost equal documents the first is kept.

    `exact`: equal texts, after cleaning. `near`: texts whose sets of word 5-grams have a Jaccard similarity of at least
    `threshold`; candidates come from MinHash-LSH and are checked exactly. `memory_mb` bounds what the search holds in
    memory beside a few bytes per document.
    """

    exact: bool = True
    near: bool = True
    threshold: float = 0.8
    memory_mb: int = 256

    def __post_init__(self) -> None:
        if not 0.5 <= self.threshold <= 1.0:
            raise ConfigError(
                f"data.dedup.threshold={self.threshold} must lie between 0.5 and 1: below that, candidates are missed."
            )
        if self.memory_mb < 1:
            raise ConfigError(f"data.dedup.memory_mb={self.memory_mb} must be at least 1.")
        if self.near and not self.exact:
            raise ConfigError("data.dedup.near=true removes equal documents too: set data.dedup.exact=true with it.")
