"""Names for things: a name is taken once, and an unknown name lists the known ones."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from attnviz.errors import UnknownNameError

T = TypeVar("T")
U = TypeVar("U")


class Registry(Generic[T]):
    """A table of named objects that modules fill while they are imported.

    Args:
        kind: What the names stand for, in the singular: ``"model"``.
        home: The module whose import fills the table. It is imported on the first look-up, so that
            a registry can be declared low in the house and filled by a room above it.

    >>> shapes = Registry[int]("shape")
    >>> @shapes.register("square")
    ... def corners(): return 4
    >>> shapes["square"]()
    4
    >>> shapes["squar"]
    Traceback (most recent call last):
    attnviz.errors.UnknownNameError: unknown shape 'squar': did you mean square?
    """

    def __init__(self, kind: str, home: str | None = None) -> None:
        self.kind = kind
        self._home = home
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[U], U]:
        """Decorator that enters an object under ``name``.

        Raises:
            ValueError: the name is taken by another object.
        """

        def enter(entry: U) -> U:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered already: {self._entries[name]!r}")
            self._entries[name] = entry  # type: ignore[assignment]  # a decorator hands back what it got
            return entry

        return enter

    def entries(self) -> Mapping[str, T]:
        """All names with what they stand for, as a live view."""
        if self._home is not None:
            importlib.import_module(self._home)
        return MappingProxyType(self._entries)

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
