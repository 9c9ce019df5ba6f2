"""Names of registered measures and methods for ``--help``, without importing the packages that register them.

Registrations have literal names and titles, so they can be read from the source files. Importing these files would
import PyTorch, which takes seconds.
"""

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
        registry: Name of the registry, if it is the first argument of the decorator, or of a ``partial`` of it; the
            entry then has the name of the decorated function, and otherwise the name is the first argument.
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
        body = ast.parse(path.read_text(encoding="utf-8")).body
        with_facts = f"partial({self.decorator}, {self.registry}, "  # a decorator that several measures of a file share
        assigned = [node for node in body if isinstance(node, ast.Assign)]
        shared = {ast.unparse(a.targets[0]) for a in assigned if ast.unparse(a.value).startswith(with_facts)}
        for node in (one for one in body if isinstance(one, ast.FunctionDef)):
            for call in (one for one in node.decorator_list if isinstance(one, ast.Call)):
                function, first = ast.unparse(call.func), ast.unparse(call.args[0]) if call.args else ""
                title = next((ast.literal_eval(word.value) for word in call.keywords if word.arg == "title"), "")
                if function in shared or (function == self.decorator and first == self.registry):
                    yield node.name, title
                elif function == self.decorator and not self.registry:
                    yield ast.literal_eval(first), title


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
