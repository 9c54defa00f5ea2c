"""Libraries that only the export needs."""

from __future__ import annotations

import importlib
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
