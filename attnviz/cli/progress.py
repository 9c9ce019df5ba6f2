"""A progress bar for commands that do one thing after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


Progress = Callable[[str, int, int], None]
"""Told which step is running, its number and the number of steps."""


@contextmanager
def bar(*, shown: bool) -> Iterator[Progress]:
    """A bar on the error stream, which hands out who is told of every step; it is gone when the work is done."""
    if not shown:
        yield lambda _step, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    text = TextColumn("{task.description}", markup=False)
    columns = (
        SpinnerColumn(),
        BarColumn(24),
        MofNCompleteColumn(),
        text,
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("start", total=None)

        def on_progress(step: str, done: int, total: int) -> None:
            """Move the bar."""
            progress.update(task, description=step, completed=done, total=total if total > 1 else None)

        yield on_progress


class Clock:
    """Seconds of each step.

    Attributes:
        seconds: Step -> seconds.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._step, self._since = "start", time.perf_counter()

    def begin(self, step: str) -> None:
        """The next step begins, and the last one ends; behind a comma stands what a step has done so far."""
        step, now = step.partition(", ")[0], time.perf_counter()
        self.seconds[self._step] = self.seconds.get(self._step, 0.0) + now - self._since
        self._step, self._since = step, now

    def stop(self) -> None:
        """The last step ends."""
        self.begin("")


@contextmanager
def progress(image: str, clock: Clock, *, shown: bool) -> Iterator[Any]:
    """A progress display on the error stream, which hands out a listener for :func:`attnviz.explain`."""
    if not shown:
        yield lambda step, _done, _total: clock.begin(step)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.fields[image]}", markup=False), BarColumn(24),
               TextColumn("{task.description}", markup=False), TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("start", total=None, image=Path(image).name)

        def listener(step: str, done: int, total: int) -> None:
            clock.begin(step)
            bar.update(task, description=step, completed=done, total=total if total > 1 else None)

        yield listener
