"""The progress display of all commands, on the standard error stream."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with the name of a step, the number of finished steps and their total; 0 for an unknown total."""


class StepTimes:
    """Seconds that each step takes.

    Attributes:
        seconds: Step -> seconds.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._step, self._since = "start", time.perf_counter()

    def begin(self, step: str) -> None:
        """End the running step and start another one. Text after a comma is a counter and not part of the name."""
        step, now = step.partition(", ")[0], time.perf_counter()
        self.seconds[self._step] = self.seconds.get(self._step, 0.0) + now - self._since
        self._step, self._since = step, now

    def stop(self) -> None:
        """End the running step."""
        self.begin("")


@contextmanager
def progress_bar(*, shown: bool, label: str = "", times: StepTimes | None = None, unit: str = "") -> Iterator[Progress]:
    """A progress bar after a ``label``, removed when the work is done; nothing is displayed if not ``shown``.

    ``times`` receives the duration of each step. With a ``unit``, such as ``"images"``, the speed is displayed.
    """

    def begin(step: str) -> None:
        if times is not None:
            times.begin(step)

    if not shown:
        yield lambda step, _done, _total: begin(step)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:.1f} {unit}/s" if unit and task.speed else "")

    text = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), TextColumn(label, markup=False), BarColumn(24), MofNCompleteColumn(), text, Speed(),
               TimeRemainingColumn(elapsed_when_finished=True))  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=120) as bar:
        task, running = bar.add_task("start", total=None), ""

        def update(step: str, done: int, total: int) -> None:
            nonlocal running
            begin(step)
            if step != running and unit:  # work of an earlier run must not count as speed
                bar.reset(task, description=step, completed=done, total=total or None)
            running = step
            bar.update(task, description=step, completed=done, total=total if total > 1 else None)

        yield update
