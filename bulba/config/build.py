"""The one place that turns a config node with `_target_` into an object.

Only names under an allow-list are imported, because a config may come from somebody else's checkpoint. Keys are held
against the signature of the target before anything is built, and the error names the path and the nearest key.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bulba.errors import ConfigError

ALLOWED_TARGETS = ("bulba.", "callbacks.", "torch.optim.", "lightning.pytorch.loggers.")


def build(node: Mapping[str, Any], *, path: str = "", allowed: tuple[str, ...] = ALLOWED_TARGETS, **extra: Any) -> Any:
    """Instantiate `node`: call its `_target_` with its other keys and with `extra`.

    path: where the node stands in the config, for messages. Nested nodes are passed on as plain mappings; the target
    builds its own parts. Raises ConfigError for a target outside `allowed` and for keys that it does not take.
    """
    options = to_plain(node)
    target = locate(options.pop("_target_", None), path, allowed)
    check_keys(target, options, path, given=extra)
    return target(**options, **extra)


def to_plain(node: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved config node as plain dicts and lists."""
    if isinstance(node, DictConfig):
        return typing.cast("dict[str, Any]", OmegaConf.to_container(node, resolve=True))
    return dict(node)


def locate(name: str | None, path: str = "", allowed: tuple[str, ...] = ALLOWED_TARGETS) -> Callable[..., Any]:
    """The class or function behind a `_target_` name, if the name is allowed."""
    where = f"{path}._target_" if path else "_target_"
    if not isinstance(name, str) or "." not in name:
        raise ConfigError(f"{where} must name a class, such as bulba.model.gpt.GPT, and is {name!r}.")
    if not name.startswith(allowed):
        raise ConfigError(
            f"{where}={name} is not allowed: a config may only name {', '.join(p + '*' for p in allowed)}."
        )
    module_name, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where}={name} cannot be imported ({error}): check the name in the YAML file.") from error


def check_keys(
    target: Callable[..., Any], options: Mapping[str, Any], path: str, given: Iterable[str] | None = ()
) -> None:
    """Hold `options` against the signature of `target`: no unknown key, none missing, simple types right.

    given: names that the code passes itself; they may not also be set in the config. None: not known yet, so nothing
    is called missing.
    """
    parameters, hints, takes_any = signature_of(target)
    named = set(parameters)
    complete, given = given is not None, set(given or ())
    prefix = f"{path}." if path else ""
    for key in options:
        if key in given or (key not in named and not takes_any):
            raise ConfigError(f"{prefix}{key} is not an option of {target.__qualname__}{nearest(key, named - given)}.")
    for name, parameter in parameters.items():
        if complete and name in named - given and name not in options and parameter.default is parameter.empty:
            raise ConfigError(f"{prefix}{name} is not set, and {target.__qualname__} needs it.")
    for key, value in options.items():
        check_type(f"{prefix}{key}", value, hints.get(key, Any))


def signature_of(target: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], dict[str, Any], bool]:
    """Named parameters, their type hints, and whether any other key is taken too.

    A constructor with **options of our own passes them on to its base class, whose parameters then count as its own.
    """
    parameters: dict[str, inspect.Parameter] = {}
    hints: dict[str, Any] = {}
    passes_on = False
    chain: list[Any] = (
        [vars(cls)["__init__"] for cls in target.__mro__[:-1] if "__init__" in vars(cls)]
        if inspect.isclass(target)
        else [target]
    )
    for function in chain:
        own = inspect.signature(function).parameters
        parameters = {n: p for n, p in own.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)} | parameters
        hints = type_hints(function) | hints
        passes_on = any(p.kind is p.VAR_KEYWORD for p in own.values())
        if not (passes_on and function.__module__.startswith(("bulba.", "callbacks."))):
            break
    parameters.pop("self", None)
    return parameters, hints, passes_on


def type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The hints of a signature; none for a library that imports its types for type checkers alone (wandb's logger)."""
    try:
        return typing.get_type_hints(function)
    except NameError:
        return {}


def check_type(path: str, value: Any, hint: Any) -> None:
    """Refuse a value that cannot be what the signature says; hints beyond simple types are left to the target."""
    if value == "???":
        raise ConfigError(f"{path} must be set: add {path}=VALUE to the command.")
    if not _fits(value, hint):
        raise ConfigError(f"{path}={value!r} must be {_describe(hint)}.")


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if hint is bool or hint is str or hint is type(None):
        return isinstance(value, hint)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return True


def _describe(hint: Any) -> str:
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        type(None): "null",
    }
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_describe(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(str(choice) for choice in typing.get_args(hint))
    return names.get(hint, str(hint))


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` with the nearest known word, or the list of the known ones."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; it takes {', '.join(known)}" if known else ""
