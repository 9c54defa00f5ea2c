"""The parts of a model from their names in config.json: those classes that came with this folder, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bulba.errors import ConfigError


def build(node: Mapping[str, Any], *, path: str = "", allowed: tuple[str, ...] = (), **extra: Any) -> Any:
    """Make the part that `_target_` of `node` names, from its other keys and from `extra`.

    path: where the node stands in the config, for the message. allowed: what names may begin with. Raises ConfigError
    for a name that is not in this folder.
    """
    # Here, because the parts import this file.
    from bulba.export.hf_code.targets import TARGETS

    options = dict(node)
    name = options.pop("_target_", None)
    if name not in TARGETS or not name.startswith(allowed):
        where = f"{path}._target_" if path else "_target_"
        raise ConfigError(f"{where}={name} of config.json is not in this folder, which has {', '.join(TARGETS)}.")
    return TARGETS[name](**options, **extra)
