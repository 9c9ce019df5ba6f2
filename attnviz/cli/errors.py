"""Errors as the command line reports them: one line and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from attnviz.errors import AttnvizError

INTERRUPTED = 130


class _OneLineError(click.ClickException):
    """An :class:`AttnvizError` as one line, with exit code 1."""

    def format_message(self) -> str:
        return " ".join(self.message.split())


@contextmanager
def error_lines() -> Iterator[None]:
    """Turn an :class:`AttnvizError` into one line and exit code 1, and Ctrl-C into exit code 130."""
    try:
        yield
    except AttnvizError as error:
        raise _OneLineError(str(error)) from error
    except KeyboardInterrupt:
        click.echo("Interrupted: no partial output remains.", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
