"""Libraries that only the export needs."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from types import ModuleType

from bulba.errors import ExportError


def need(module: str, purpose: str, extra: str = "export") -> ModuleType:
    """Import an optional library, or say how to install it; extra: the one of Bulba's that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ExportError(
            f"{purpose} needs the Python package {module}, which is not installed: uv pip install 'bulba[{extra}]'."
        ) from error


def is_installed(module: str) -> bool:
    """Whether an optional library is there; it is not imported."""
    return find_spec(module) is not None
