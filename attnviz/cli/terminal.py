"""Parts of the output that several commands print."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text


def console_of(width: int = 140) -> Console:
    """Return a console as wide as the terminal; ``width`` columns for a pipe or a file."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=width)


def table_of(*heads: str, title: str | None = None, space: int = 2) -> Table:
    """Return a table without lines; the first column is aligned to the left, the others to the right."""
    table = Table(box=None, padding=(0, space, 0, 0), header_style="dim", title=title, title_justify="left")
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left")
    return table


def print_end(console: Console, notes: Iterable[str], files: Iterable[object]) -> None:
    """Print notes and the paths of written files."""
    for note in notes:
        console.print(Text(f"note: {note}", style="yellow"))
    for path in files:
        console.print(Text(str(path), style="green"), soft_wrap=True)
