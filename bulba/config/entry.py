"""The frame around a Hydra program: check the command line, give the run its folder, turn our errors into sentences.

What Hydra does (composing, sweeping, launchers) stays Hydra's.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from bulba.config.overrides import CONF, Source, check, expand, groups, parse, values
from bulba.errors import BulbaError, ConfigError
from bulba.files import disk_errors
from bulba.runs import find_run, new_folder

Task = Callable[[DictConfig, Path], None]
EXIT_CODE = 2
HYDRA_ONLY = {
    "--hydra-help",
    "--version",
    "--cfg",
    "-c",
    "--info",
    "-i",
    "--shell-completion",
    "-sc",
}


def run_hydra(task: Task, config_name: str = "config") -> None:
    """Run `task(config, run_folder)` once, or once per job of a sweep, from this process's command line."""
    try:
        flags, words, source = read_arguments(sys.argv[1:], config_name)
        if {"--help", "-h"} & set(flags):
            print(help_page(source))
            return
        sys.argv[1:] = arguments_for_hydra(flags, words, source)
        # Hydra would print its own traceback of our sentences.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        with disk_errors(Path(value_of("runs_dir", words) or "runs")), failures_file() as failures:
            hydra.main(version_base="1.3", config_path=str(source.folder.absolute()), config_name=source.name)(
                lambda config: run_job(task, config, failures)
            )()
            failed = failures.read_text(encoding="utf-8").splitlines() if failures.exists() else []
    except BulbaError as error:
        fail(str(error), error.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        fail(f"the settings do not fit together: {str(error).splitlines()[0]}")
    if failed:
        fail(f"{len(failed)} of the sweep's runs failed: {'; '.join(failed)}")


@contextmanager
def failures_file() -> Iterator[Path]:
    """Where the jobs of a sweep note that they failed: a launcher may run them in other processes or machines."""
    path = Path(".bulba") / f"failures-{uuid.uuid4().hex[:8]}.txt"
    try:
        yield path.absolute()
    finally:
        path.unlink(missing_ok=True)


def help_page(source: Source) -> str:
    """How the program is used (hydra.help in its config), and the choices of every group."""
    primary = yaml.safe_load((CONF / f"{source.name}.yaml").read_text(encoding="utf-8"))
    choices = "\n".join(f"  {group}: {', '.join(names)}" for group, names in groups(source).items())
    return f"{primary['hydra']['help']['template'].strip()}\n\nChoices (the files in conf/):\n{choices}"


def run_job(task: Task, config: DictConfig, failures: Path) -> None:
    """One job. In a sweep, a job that fails is told at once and the others still run."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())
    if hydra_config.mode == RunMode.MULTIRUN:
        print(f"--- run {hydra_config.job.num}: {' '.join(hydra_config.overrides.task)}", flush=True)
    try:
        with disk_errors(folder):
            task(config, folder)
    except BulbaError as error:
        if hydra_config.mode != RunMode.MULTIRUN:
            fail(str(error), error.exit_code)
        print(f"run {folder} failed: {error}", file=sys.stderr, flush=True)
        failures.parent.mkdir(parents=True, exist_ok=True)
        with failures.open("a", encoding="utf-8") as file:
            file.write(f"{folder} ({error})\n")


def fail(sentence: str, exit_code: int = EXIT_CODE) -> NoReturn:
    """Print one sentence and end the program."""
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(exit_code)


def read_arguments(arguments: list[str], config_name: str = "config") -> tuple[list[str], list[str], Source]:
    """Split the command line into Hydra's flags and `key=value` words, and find the primary config.

    `--config-path RUN` repeats a run from its stored config; `resume=RUN` goes on with it.
    """
    flags: list[str] = []
    words: list[str] = []
    source = Source(name=config_name)
    remaining = iter(arguments)
    for word in remaining:
        name, _, value = word.partition("=")
        if name in ("--config-path", "-cp"):
            source = run_source(value or next(remaining, ""))
        elif name in ("--config-name", "-cn"):
            source = Source(source.folder, (value or next(remaining, "")).removesuffix(".yaml"))
        elif word.startswith("-"):
            flags.append(word)
            if word in ("--cfg", "-c", "--package", "-p", "--config-dir", "-cd"):
                flags.append(next(remaining, ""))
        else:
            words.append(word)
    resumed = value_of("resume", words)
    if resumed:
        run = find_run(resumed, Path(value_of("runs_dir", words) or "runs"))
        source = run_source(str(run))
        words = [word for word in words if not word.startswith("resume=")]
        words += [f"resume='{run}'", f"hydra.run.dir='{run}'"]
    return flags, words if source.is_run else expand(words), source


def run_source(folder: str) -> Source:
    """The stored config of a run folder."""
    path = Path(folder)
    if not (path / "config.yaml").is_file():
        raise ConfigError(f"{folder!r} holds no config.yaml: give the folder of a run.")
    return Source(path.absolute())


def value_of(key: str, words: list[str]) -> str | None:
    """The last value that the command line gives to `key`, without its quotes; None for null and for none at all."""
    values = [override.value() for override in parse(words) if override.key_or_group == key]
    value = values[-1] if values else None
    return None if value is None else value.text if isinstance(value, QuotedString) else str(value)


def arguments_for_hydra(flags: list[str], words: list[str], source: Source) -> list[str]:
    """The checked command line, with a new folder for the run where none is named."""
    if HYDRA_ONLY & set(flags):
        return [*flags, *words]
    config = check(words, source)
    sweep = any(flag in ("-m", "--multirun") for flag in flags)
    swept = [o.key_or_group for o in parse(words) if o.is_sweep_override() and len(values(o)) > 1]
    if swept and not sweep:
        raise ConfigError(f"{swept[0]} has several values: add -m to run one after the other.")
    if sweep and config.get("resume"):
        raise ConfigError("resume goes on with one run and cannot be swept: leave out -m.")
    key = "hydra.sweep.dir" if sweep else "hydra.run.dir"
    if "runs_dir" in config and not any(word.startswith(f"{key}=") for word in words):
        check_started_alone(key)
        suffix = "sweep" if sweep else config_choice(config)
        folder = new_folder(Path(config.runs_dir), f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{suffix}")
        words = [*words, f"{key}='{folder}'"]
    return [*flags, *words]


def check_started_alone(key: str) -> None:
    """Processes that torchrun or SLURM starts side by side would each make a folder of their own."""
    for variable in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        if int(os.environ.get(variable) or 1) > 1:
            raise ConfigError(
                f"{variable}={os.environ[variable]} processes were started, and each would make a run folder of its "
                f"own: name one for all of them with {key}=FOLDER."
            )


def config_choice(config: DictConfig) -> str:
    """The name of the model preset, or `repeat` where the config is a stored one."""
    return str(config.hydra.runtime.choices.get("model", "repeat"))
