"""Finding one callback of a trainer from another, or from the end of the run."""

from __future__ import annotations

from typing import TypeVar

import lightning as L

Kind = TypeVar("Kind", bound=L.Callback)


def find_callback(trainer: L.Trainer, kind: type[Kind]) -> Kind | None:
    """The callback of this kind, or None where the config left it out."""
    return next((c for c in trainer.callbacks if isinstance(c, kind)), None)  # type: ignore[attr-defined]
