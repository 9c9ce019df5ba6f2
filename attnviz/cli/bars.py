"""A progress bar for commands that do one thing after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Told = Callable[[str, int, int], None]
"""Told which step is running, its number and the number of steps."""


@contextmanager
def bar(*, shown: bool) -> Iterator[Told]:
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

        def told(step: str, done: int, total: int) -> None:
            """Move the bar."""
            progress.update(task, description=step, completed=done, total=total if total > 1 else None)

        yield told
