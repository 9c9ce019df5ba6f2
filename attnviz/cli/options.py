"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_SEED = click.IntRange(0, 2**63 - 1)


def running(decorated: Decorated) -> Decorated:
    """Options ``--weights``, ``--device`` and ``--seed``."""
    for option in (
        click.option("--seed", type=_SEED, default=0, show_default=True, help="Of everything random."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps."),
        click.option("--weights", default="default", show_default=True, help="default, none (random) or a file."),
    ):
        decorated = option(decorated)
    return decorated


class CommaList(click.ParamType["tuple[str, ...]"]):
    """Names with commas between them."""

    name = "names"

    def __init__(self, choices: Sequence[str] | None = None) -> None:
        self._choices = choices

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The names, each once; a usage error for none, or for one that is not a choice."""
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(part.strip() for part in str(value).split(",") if part.strip()))
        if not names:
            self.fail("wanted at least one name", param, ctx)
        for name in names:
            if self._choices and name not in self._choices:
                self.fail(f"{name!r} is not one of {', '.join(self._choices)}", param, ctx)
        return names
