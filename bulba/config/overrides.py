"""The command line of train.py, checked before Hydra runs: unknown choices and keys in one sentence.

Hydra composes the config; this module only looks first, so that a mistake is answered with the nearest valid name
and the file to look in. It also knows four short forms: `data.path=FOLDER` alone means `data=folder`,
`attention.pattern=[standard,tropical]` and `attention.inner=tropical` take the attentions from their files, and
`resume=RUN` takes the config from that run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bulba.config.build import nearest
from bulba.errors import ConfigError

CONF = Path(__file__).resolve().parents[2] / "conf"
FOLDER_KEYS = ("data.path", "data.sources")


@dataclass(frozen=True)
class Source:
    """Where the primary config comes from: conf/config.yaml, or the config.yaml of a run that is repeated."""

    folder: Path = CONF
    name: str = "config"

    @property
    def is_run(self) -> bool:
        return self.folder != CONF

    def describe(self) -> str:
        return f"{self.folder / self.name}.yaml" if self.is_run else "conf/config.yaml"


def groups(source: Source | None = None) -> dict[str, list[str]]:
    """The groups that a program chooses from, with their choices; files that begin with `_` are parts of others."""
    primary = yaml.safe_load((CONF / f"{(source or Source()).name}.yaml").read_text(encoding="utf-8"))
    names = [key for entry in primary["defaults"] if isinstance(entry, dict) for key in entry]
    return {
        name: sorted(path.stem for path in (CONF / name).glob("*.yaml") if not path.name.startswith("_"))
        for name in names
        if not name.startswith("override ")
    }


def attention_names() -> list[str]:
    """The files of conf/attention that name one mechanism; hybrid.yaml has a pattern of them."""
    nodes = {
        name: yaml.safe_load((CONF / "attention" / f"{name}.yaml").read_text(encoding="utf-8"))
        for name in groups()["attention"]
    }
    return [name for name, node in nodes.items() if "_target_" in node]


def parse(words: list[str]) -> list[Override]:
    """Hydra's reading of `key=value` words; ConfigError for what is not one."""
    for word in words:
        if "=" not in word and not word.startswith("~"):
            raise ConfigError(f"{word!r} is not understood: write settings as key=value, such as model=krolik.")
    try:
        return OverridesParser.create().parse_overrides(words)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"the command line is not understood ({reason}): put values with commas, "
            "spaces or brackets in quotes, such as 'data.path=\"my texts\"'."
        ) from error


def expand(words: list[str]) -> list[str]:
    """Spell out the short forms.

    `data.path=X` (and `data.sources=X`) without a choice of data is `data=folder data.path=X`, and
    `attention.pattern=[a,b]` is `attention=hybrid` with the files of a and b as its mixers. `attention.inner=a` is the
    file of a as the inner attention of another.
    """
    keys = [word.lstrip("+").split("=", 1)[0] for word in words]
    if any(key in FOLDER_KEYS for key in keys) and "data" not in keys:
        words = ["data=folder", *words]
    files = groups()["attention"]
    inner = {f"attention.inner={name}": f"+attention@attention.inner={name}" for name in files}
    words = [inner.get(word, word) for word in words]
    if "attention.pattern" in keys and "attention" not in keys:
        pattern = next(word for word in words if word.startswith("attention.pattern="))
        named = [name for name in dict.fromkeys(re.findall(r"\w+", pattern.partition("=")[2])) if name in files]
        return ["attention=hybrid", *(f"+attention@attention.mixers.{name}={name}" for name in named), *words]
    return words


def check(words: list[str], source: Source | None = None) -> DictConfig:
    """Refuse unknown groups, choices and keys; return the composed config of the first value of every sweep."""
    source = source or Source()
    overrides = parse(words)
    known_groups = {} if source.is_run else groups(source)
    for override in overrides:
        if override.key_or_group in known_groups:
            check_choice(override, known_groups[override.key_or_group])
        elif source.is_run and override.key_or_group in groups():
            raise ConfigError(
                f"{override.key_or_group}={override.value()} cannot be changed when a run is repeated or resumed from "
                f"its own config: set single values, or edit {source.describe()}."
            )
    chosen = [first_value(o) for o in overrides if is_choice(o, known_groups)]
    config = compose_config(chosen, source)
    for override in overrides:
        if not is_choice(override, known_groups):
            check_key(override, config, source)
    return compose_config([first_value(override) for override in overrides], source)


def is_choice(override: Override, known_groups: dict[str, list[str]]) -> bool:
    """Whether an override picks a file (`model=zubr`, `hydra/launcher=joblib`) rather than sets a value."""
    return override.key_or_group in known_groups or "/" in override.key_or_group


def check_choice(override: Override, choices: list[str]) -> None:
    """Every value of a group override must be a file of the group."""
    group = override.key_or_group
    for value in values(override):
        if value not in (*choices, "null"):
            raise ConfigError(
                f"{group}={value} is not a choice{nearest(value, choices)}; the choices are the files in "
                f"conf/{group}/: {', '.join(choices)}."
            )


def check_key(override: Override, config: DictConfig, source: Source) -> None:
    """The key must stand in the composed config; `+key` adds one, which its target's signature checks later."""
    if override.is_add() or override.is_force_add():
        return
    node: Any = config
    walked: list[str] = []
    for part in override.key_or_group.split("."):
        # list(node) also holds the keys that are still to be set (???), `in node` does not.
        if not isinstance(node, DictConfig) or part not in list(node):
            if override.key_or_group in FOLDER_KEYS:
                raise ConfigError(
                    f"{override.key_or_group} belongs to data=folder, and another choice of data is set: "
                    "leave that choice out."
                )
            keys = [str(key) for key in node] if isinstance(node, DictConfig) else []
            within = f" of {'.'.join(walked)}" if walked else ""
            raise ConfigError(
                f"{override.key_or_group} is not a setting: {part}{within} does not exist{nearest(part, keys)}; "
                f"look in {file_of(walked[0] if walked else '', source)}."
            )
        walked.append(part)
        node = node._get_node(part) if OmegaConf.is_missing(node, part) else node[part]


def file_of(group: str, source: Source) -> str:
    """The file or folder that holds the settings of a group."""
    if source.is_run or group not in groups(source):
        return source.describe() if group != "hydra" else "Hydra's documentation"
    return f"conf/{group}/"


def values(override: Override) -> list[str]:
    """The values of an override as text: one, or all of a sweep."""
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    value = override.value()
    if isinstance(value, list):
        return [str(item) for item in value]
    return [override.get_value_element_as_str()]


def first_value(override: Override) -> str:
    """The override as a word, with the first value of its sweep."""
    word = override.input_line or ""
    if not override.is_sweep_override():
        return word
    return f"{word.split('=', 1)[0]}={values(override)[0]}"


def compose_config(words: list[str], source: Source) -> DictConfig:
    """Hydra's composed config, with the `hydra` node; its errors as one sentence."""
    try:
        with initialize_config_dir(str(source.folder.absolute()), version_base="1.3"):
            return compose(source.name, overrides=words, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"the settings do not fit together: {str(error).splitlines()[0]}.") from error
