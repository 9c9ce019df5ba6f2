"""Tables of named objects, which the files of a package and installed packages fill."""

import importlib
import pkgutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from types import MappingProxyType, ModuleType
from typing import Any, Generic, TypeVar

from attnviz.errors import UnknownNameError

T = TypeVar("T")
U = TypeVar("U")


class Registry(Generic[T]):
    """A table of named objects.

    Args:
        kind: Kind of the entries, in the singular: ``"model"``.
        home: The package or module that fills the table. On the first look-up it is imported, with every file of the
            package, so that a new entry is one new file.
        group: Entry-point group of installed packages that add entries, for example ``"attnviz.models"``. An entry
            point is either a module whose import registers entries, or an object that is registered under the entry
            point's name. One that cannot be loaded is a warning.

    >>> shapes = Registry[int]("shape")
    >>> @shapes.register("square")
    ... def corners(): return 4
    >>> shapes["square"]()
    4
    >>> shapes["squar"]
    Traceback (most recent call last):
    attnviz.errors.UnknownNameError: unknown shape 'squar': did you mean square?
    """

    def __init__(self, kind: str, home: str | None = None, group: str | None = None) -> None:
        self.kind = kind
        self._home = home
        self._group = group
        self._entries: dict[str, T] = {}
        self._is_filled = False

    def register(self, name: str) -> Callable[[U], U]:
        """Return a decorator that registers an object under ``name``.

        Raises:
            ValueError: another object has this name.
        """

        def enter(entry: U) -> U:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered already: {self._entries[name]!r}")
            self._entries[name] = entry  # type: ignore[assignment]  # a decorator returns what it is given
            return entry

        return enter

    def entries(self) -> Mapping[str, T]:
        """All entries by name, in the order of registration, as a live view."""
        if not self._is_filled:
            self._is_filled = True  # first, since the imported files can look up entries
            try:
                self._fill()
            except BaseException:
                self._is_filled = False
                raise
        return MappingProxyType(self._entries)

    def _fill(self) -> None:
        if self._home is not None:
            import_all(self._home)
        for entry_point in entry_points(group=self._group) if self._group else ():
            try:
                found: Any = entry_point.load()
            except Exception as error:  # noqa: BLE001  # whatever another package raises while it is imported
                warnings.warn(
                    f"{self.kind} {entry_point.name!r} of {entry_point.value} cannot be loaded: {error!r}", stacklevel=3
                )
                continue
            if not isinstance(found, ModuleType) and entry_point.name not in self._entries:
                self._entries.setdefault(entry_point.name, found)

    def __getitem__(self, name: str) -> T:
        entries = self.entries()
        if name not in entries:
            raise UnknownNameError(self.kind, name, entries)
        return entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self.entries()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.entries()))

    def __len__(self) -> int:
        return len(self.entries())


def import_all(name: str) -> None:
    """Import a module and, if it is a package, every file of it."""
    package = importlib.import_module(name)
    for module in pkgutil.iter_modules(getattr(package, "__path__", ())):
        importlib.import_module(f"{name}.{module.name}")
