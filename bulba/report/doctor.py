"""What goes wrong in a training, told from its logged figures: one sentence and one setting to try for each finding.

The rules are plain thresholds, set so that a healthy run gives none. The same code reads a run while it trains
(callbacks/doctor.py) and after it ended (`python -m bulba doctor run=RUN`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from bulba.report.records import Row, read_metrics
from bulba.runs import find_run

# A loss this far above the lowest so far is a spike.
SPIKE_RATIO, SPIKE_NATS = 1.25, 0.5
# A loss that falls by less than this share within so many readings stands still. Late in any training it does; it is a
# fault above this share of the first loss, which is about where the frequencies of tokens alone bring it.
PLATEAU_READINGS, PLATEAU_SHARE, PLATEAU_ABOVE = 20, 0.01, 0.6
# A validation loss this far above its lowest, for two validations, while the training loss fell.
OVERFIT_RATIO = 1.02
# A layer whose gradient is this much smaller than the largest, or larger than the median of all layers.
DEAD_RATIO, EXPLODING_RATIO = 1e-4, 30.0
# The share of time spent waiting for data, at so many readings in a row.
STARVED_FRAC, STARVED_READINGS = 0.2, 5


@dataclass(frozen=True)
class Finding:
    """kind: spike, plateau, overfit, dead_layer, exploding_layer or starved. step: when it was seen."""

    kind: str
    step: int
    sentence: str
    override: str

    def __str__(self) -> str:
        return f"doctor: step {self.step}: {self.sentence}; try {self.override}"


class Doctor:
    """Takes the figures of a run as they come and gives each kind of finding once."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._first, self._lowest = math.nan, math.inf
        self._peak_lr = 0.0
        self._losses: deque[float] = deque(maxlen=PLATEAU_READINGS)
        self._train_loss = math.nan
        self._best_val, self._best_step, self._train_at_best, self._worse = math.inf, 0, math.nan, 0
        self._starved = 0

    def see(self, step: int, figures: Mapping[str, float]) -> list[Finding]:
        """What these figures newly show."""
        known = len(self.findings)
        self._peak_lr = max(self._peak_lr, figures.get("train/lr", 0.0))
        if "train/loss" in figures:
            self._see_loss(step, figures["train/loss"], figures.get("train/lr", 0.0))
        if "layers/max_grad_norm" in figures:
            self._see_layers(step, figures)
        if "perf/data_wait_frac" in figures:
            self._see_waiting(step, figures["perf/data_wait_frac"])
        if "val/loss" in figures:
            self._see_validation(step, figures["val/loss"])
        return self.findings[known:]

    def _see_loss(self, step: int, loss: float, lr: float) -> None:
        if not loss <= SPIKE_RATIO * self._lowest + SPIKE_NATS:
            shown = f"rose to {loss:.3g} from {self._lowest:.3g}" if math.isfinite(loss) else f"became {loss}"
            self._find("spike", step, f"the training loss {shown}", f"optimizer.lr={self._peak_lr / 3:.2g}")
        self._train_loss, self._lowest = loss, min(loss, self._lowest)
        self._losses.append(loss)
        self._first = loss if math.isnan(self._first) else self._first
        third = PLATEAU_READINGS // 3
        losses = list(self._losses)
        # While the learning rate is let down to its floor, a loss may stand still.
        if len(losses) == PLATEAU_READINGS and lr >= self._peak_lr / 2:
            before, now = fmean(losses[:third]), fmean(losses[-third:])
            if abs(before - now) < PLATEAU_SHARE * abs(before) and now > PLATEAU_ABOVE * self._first:
                sentence = f"the training loss stands still at {now:.3g} over {PLATEAU_READINGS} readings"
                self._find("plateau", step, sentence, f"optimizer.lr={self._peak_lr * 10:.2g}")

    def _see_layers(self, step: int, figures: Mapping[str, float]) -> None:
        low, middle, high = (figures[f"layers/{name}_grad_norm"] for name in ("min", "median", "max"))
        if low < DEAD_RATIO * high:
            layer = int(figures["layers/min_layer"])
            sentence = f"layer {layer} learns nothing: its gradient is {low:.2g}, the largest of a layer {high:.2g}"
            self._find("dead_layer", step, sentence, "optimizer.weight_decay=0")
        if high > EXPLODING_RATIO * middle:
            layer = int(figures["layers/max_layer"])
            sentence = f"layer {layer} explodes: its gradient is {high:.2g}, that of the median layer {middle:.2g}"
            self._find("exploding_layer", step, sentence, "trainer.grad_clip_norm=0.1")

    def _see_waiting(self, step: int, frac: float) -> None:
        self._starved = self._starved + 1 if frac > STARVED_FRAC else 0
        if self._starved >= STARVED_READINGS:
            sentence = f"{100 * frac:.0f} % of the time goes by waiting for data, as on a slow disk or network"
            self._find("starved", step, sentence, "data.cache_dir=FOLDER on a fast local disk")

    def _see_validation(self, step: int, loss: float) -> None:
        if loss < self._best_val:
            self._best_val, self._best_step, self._train_at_best, self._worse = loss, step, self._train_loss, 0
            return
        self._worse += 1
        if self._worse >= 2 and loss > OVERFIT_RATIO * self._best_val and self._train_loss < self._train_at_best:
            sentence = (
                f"the validation loss rose to {loss:.3g} from {self._best_val:.3g} at step {self._best_step} while the "
                "training loss fell: the model learns the texts by heart"
            )
            self._find("overfit", step, sentence, f"trainer.max_steps={max(self._best_step, 1)}, or give more text")

    def _find(self, kind: str, step: int, sentence: str, override: str) -> None:
        if all(finding.kind != kind for finding in self.findings):
            self.findings.append(Finding(kind, step, sentence, override))


def diagnose(rows: Mapping[int, Row]) -> list[Finding]:
    """The findings of a whole run."""
    doctor = Doctor()
    for step in sorted(rows):
        doctor.see(step, rows[step])
    return doctor.findings


def doctor_command(run: str = "last") -> None:
    """Print the findings of a run from its metrics.csv."""
    folder: Path = find_run(run)
    rows = read_metrics(folder)
    findings = diagnose(rows)
    for finding in findings:
        print(finding)
    if not findings:
        print(f"doctor: nothing wrong in {len(rows)} readings of {folder}")
