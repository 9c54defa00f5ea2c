"""Jobs of a sweep that take several processes each: one program per job.

Lightning starts the other processes of a run by repeating the command line, and that of a sweep would repeat all of
it. So such a job is started anew, with its own values and folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from bulba.config.overrides import CONF
from bulba.errors import BulbaError
from bulba.report.summary import read_summary
from bulba.run.check import num_processes


def needs_a_program_of_its_own(config: DictConfig) -> bool:
    """Whether this is a job of a sweep whose processes are yet to be started."""
    several = num_processes(config) > 1
    started = "LOCAL_RANK" in os.environ
    return several and not started and HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def run_as_a_program(run: Path) -> dict[str, Any]:
    """Train the present job of a sweep in a new program and return its summary; BulbaError with its last words."""
    hydra = HydraConfig.get()
    source = next(item for item in hydra.runtime.config_sources if item.provider == "main").path
    command = [sys.executable, str(CONF.parent / "train.py"), *hydra.overrides.task, f"hydra.run.dir='{run}'"]
    if source != str(CONF):
        command += ["--config-path", source]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.stderr.write(done.stderr)
        last = done.stderr.strip().splitlines()[-1:] or [f"it ended with exit code {done.returncode}"]
        raise BulbaError(last[0].removeprefix("error: "))
    return read_summary(run)
