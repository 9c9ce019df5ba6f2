"""Names of registered measures and methods for ``--help``, without importing the packages that register them.

Registrations have literal names and titles, so they can be read from the source files. Importing these files would
import PyTorch, which takes seconds.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

import click

import attnviz


class RegistryNames(NamedTuple):
    """Where the entries of a registry are found.

    Attributes:
        folder: Folder in attnviz whose files register entries.
        decorator: Name of the function that registers them.
        registry: Name of the registry, if it is the first argument of the decorator; the entry then has the name of the
            decorated function, and otherwise the name is the first argument.
        group: Entry-point group of other packages.
    """

    folder: str
    decorator: str
    registry: str
    group: str

    def entries(self) -> list[tuple[str, str]]:
        """Name and title of every entry, sorted; the value of the entry point for those of other packages."""
        folder = Path(attnviz.__file__).parent / self.folder
        found = dict(one for path in folder.glob("*.py") for one in self._registered(path))
        found |= {one.name: f"from {one.value}" for one in entry_points(group=self.group)}
        return sorted(found.items())

    def _registered(self, path: Path) -> Iterator[tuple[str, str]]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for call in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == self.decorator:
                    first = call.args[0]
                    title = next((word.value for word in call.keywords if word.arg == "title"), None)
                    if isinstance(first, ast.Constant):
                        yield str(first.value), _text(title)
                    elif (
                        isinstance(first, ast.Name) and first.id == self.registry and isinstance(node, ast.FunctionDef)
                    ):
                        yield node.name, _text(title)


def _text(node: ast.expr | None) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ""


METHODS = {"Attribution methods": RegistryNames("attribution/methods", "method", "", "attnviz.methods")}
METRICS = {
    "Faithfulness tests": RegistryNames("metrics", "measure", "FAITHFULNESS", "attnviz.faithfulness"),
    "Localisation measures, with masks or boxes": RegistryNames(
        "metrics", "measure", "LOCALISATION", "attnviz.localisation"
    ),
}
AGREEMENT = {"Agreement measures": RegistryNames("metrics", "measure", "AGREEMENT", "attnviz.agreement")}
SPARSITY = {"Measures": RegistryNames("metrics", "measure", "SPARSITY", "attnviz.sparsity")}


class RegistryCommand(click.Command):
    """A command whose ``--help`` lists the entries of registries, those of installed packages included."""

    def __init__(self, *args: object, registries: dict[str, RegistryNames], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._registries = registries

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List names and titles."""
        for heading, names in self._registries.items():
            with formatter.section(heading):
                formatter.write_dl(names.entries())
        super().format_epilog(ctx, formatter)
