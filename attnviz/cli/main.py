"""The command line: a table of commands, each imported when it is used.

``attnviz --help`` imports only Click, so that it is fast.
"""

import importlib
import sys
from typing import NoReturn

import click

from attnviz import __version__
from attnviz.cli.errors import INTERRUPTED, error_lines

COMMANDS: dict[str, tuple[str, str]] = {
    "explain": ("attnviz.cli.explain", "Explain images: attention maps, CAM and saliency."),
    "sparsity": (
        "attnviz.cli.sparsity",
        "Measure how sparse attention is over many images, and how much of it is needed.",
    ),
    "compare": ("attnviz.cli.compare", "Compare maps: which agree with which, and which of them to believe."),
    "report": ("attnviz.cli.report", "Report on a folder or a list of images, on this machine or on a cluster."),
    "inspect": ("attnviz.cli.inspect", "List a model's attention sites, and prove them."),
    "open": ("attnviz.cli.open", "Open a report in the browser."),
    "models": ("attnviz.cli.models", "List the models, with their evaluation figures."),
    "train": ("attnviz.cli.train", "Train the attention of a built-in model."),
    "evaluate": ("attnviz.cli.evaluate", "Evaluate built-in models on held-out scenes and photographs."),
    "info": ("attnviz.cli.info", "Show versions, devices and live kernels."),
    "completion": ("attnviz.cli.completion", "Print the completion script of a shell."),
}
"""Name -> (module that holds ``command``, one-line help)."""


class LazyGroup(click.Group):
    """A group that imports a command only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; ``None`` for an unknown name."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As Click does, with the nearest names for an unknown one."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches

            close = get_close_matches(name, COMMANDS)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; what it raises on purpose becomes one line and exit code 1, Ctrl-C becomes 130."""
        with error_lines():
            return super().invoke(ctx)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 success, 1 error, 2 wrong usage, 130 interrupted.",
)
@click.version_option(__version__, prog_name="attnviz", message="%(prog)s %(version)s")
def cli() -> None:
    """Find, prove, show and measure the attention of any PyTorch vision model."""


def main() -> NoReturn:
    """Entry point of the ``attnviz`` command."""
    try:
        sys.exit(cli.main(prog_name="attnviz"))
    except KeyboardInterrupt:  # while a command was being imported
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
