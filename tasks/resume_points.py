"""When training's resume checkpoints are written, and how: in the background, one at a time."""

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from infra.output import Output
from models.train import Trainer

LARGEST_SHARE = 0.05
"""Of the training time that copying for resume checkpoints may take."""


class BackgroundCheckpoints:
    """Writes checkpoints while training goes on, one at a time; what went wrong with one is raised at the next."""

    def __init__(self, trainer: Trainer[Any], output: Output, more: Callable[[Path], None], every_s: float) -> None:
        """`more` may add files to each."""
        self.trainer, self.output, self.more = trainer, output, more
        self._clock = CheckpointClock(every_s)
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None
        self._step_began = time.monotonic()

    def __enter__(self) -> "BackgroundCheckpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        if kind is None:
            self._finish()

    def after_step(self) -> None:
        """Write one where it is time; the last step needs none."""
        if self.trainer.totals.step < self.trainer.plan.steps:
            self._save_if(self._clock.due())
        self._step_began = time.monotonic()

    def after_round(self) -> None:
        """The same inside a step, where that has itself gone on for so long; its last round needs none."""
        if self.trainer.mid_step:
            self._save_if(self._clock.due(self._step_began))

    def _save_if(self, due: bool) -> None:
        if self.trainer.workers.agree(due):
            self._clock.time(self._save)

    def _save(self) -> None:
        self._finish()
        folder = self.output.scratch_folder()
        self.more(folder)
        written = self.trainer.save(folder)

        def keep(target: Path) -> None:
            written()
            for path in folder.iterdir():
                path.rename(target / path.name)

        self._last = self._thread.submit(self.output.save_checkpoint, self.trainer.totals.step, keep)

    def _finish(self) -> None:
        if self._last is not None:
            self._last.result()


class CheckpointClock:
    """Says when to write a checkpoint: after so many seconds, but never for a large share of the time."""

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self._cost_s = 0.0
        self._last = time.monotonic()

    def due(self, since: float = -math.inf) -> bool:
        """`since`: a moment from which the seconds count where no checkpoint came later."""
        return time.monotonic() - max(self._last, since) >= max(self.every_s, self._cost_s / LARGEST_SHARE)

    def time(self, save: Callable[[], None]) -> None:
        started = time.monotonic()
        save()
        self._last = time.monotonic()
        self._cost_s = self._last - started
