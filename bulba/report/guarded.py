"""A logger that may die without taking the training with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch.loggers.logger import Logger


class GuardedLogger(Logger):
    """Passes everything on to `logger` until that raises; then says so once and is silent for the rest of the run.

    A full disk, no network, a spent quota: figures are lost, the training is not. name: what the config calls it.
    """

    def __init__(self, name: str, logger: Logger) -> None:
        super().__init__()
        self.label, self.logger, self.is_off = name, logger, False

    @property
    def name(self) -> str | None:
        return self._ask(lambda: self.logger.name)

    @property
    def version(self) -> int | str | None:
        return self._ask(lambda: self.logger.version)

    @property
    def save_dir(self) -> str | None:
        return self._ask(lambda: self.logger.save_dir)

    @property
    def experiment(self) -> Any:
        """What the logger writes to; asking for it may be what opens a connection."""
        return self._ask(lambda: getattr(self.logger, "experiment", None))

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._ask(lambda: self.logger.log_metrics(metrics, step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self._ask(lambda: self.logger.log_hyperparams(params, *args, **kwargs))

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        self._ask(lambda: self.logger.log_graph(model, input_array))

    def save(self) -> None:
        self._ask(self.logger.save)

    def finalize(self, status: str) -> None:
        self._ask(lambda: self.logger.finalize(status))

    def _ask(self, action: Callable[[], Any]) -> Any:
        if self.is_off:
            return None
        try:
            return action()
        except Exception as error:
            self.is_off = True
            reason = " ".join(str(error).split()) or type(error).__name__
            print(
                f"warning: logger.{self.label} failed and is switched off for the rest of the run, the training goes "
                f"on ({type(error).__name__}: {reason})",
                flush=True,
            )
            return None
