"""Which attention each layer has: one for all, or a pattern of named ones that is cycled over the depth.

{_target_: ...}                                                       one attention
{pattern: [standard, tropical], mixers: {standard: ..., tropical: ...}}   layers 0, 2, 4 ... and 1, 3, 5 ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bulba.errors import ConfigError


def mixer_nodes(attention: Mapping[str, Any], num_layers: int) -> list[dict[str, Any]]:
    """The `_target_` node of the attention of every layer; ConfigError for a pattern that names what is not there."""
    if "pattern" not in attention:
        return [dict(attention)] * num_layers
    pattern, mixers = attention["pattern"], attention.get("mixers") or {}
    if not pattern:
        raise ConfigError("model.attention.pattern is empty: name attentions, such as [standard,ultrametric].")
    for name in pattern:
        if name not in mixers:
            raise ConfigError(
                f"attention.pattern names {name}, which is neither a file of conf/attention nor one of "
                f"attention.mixers ({', '.join(mixers) or 'empty'})."
            )
    return [dict(mixers[pattern[layer % len(pattern)]]) for layer in range(num_layers)]


def used_mixers(attention: Mapping[str, Any]) -> dict[str, Any]:
    """The same node without mixers that the pattern does not name, as plain dicts and lists."""
    if "pattern" not in attention:
        return dict(attention)
    pattern = list(attention["pattern"])
    mixers = {name: dict(node) for name, node in attention["mixers"].items() if name in pattern}
    return {"pattern": pattern, "mixers": mixers}
