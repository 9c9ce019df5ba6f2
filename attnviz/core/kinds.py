"""Kinds of attention: what ``g`` weighs, and its canonical axes. Another package can define more."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any, ClassVar, NoReturn, TypeAlias

Axes: TypeAlias = tuple[str, ...]

_KINDS: dict[str, Kind] = {}


class _KindType(type):
    """Iteration over :class:`Kind` gives all kinds, in the order of their definition."""

    def __iter__(cls) -> Iterator[Kind]:
        return iter(_KINDS.values())


class Kind(metaclass=_KindType):
    """What ``g`` weighs, which fixes its axes.

    ``Kind.CHANNEL``, ``SPATIAL``, ``DENSE``, ``BRANCH``, ``TEMPORAL``, ``PAIRWISE``, ``POOLING`` and ``SAMPLING`` are
    built in. There is one object per kind: kinds are compared by identity, also after pickling.

    Attributes:
        value: Its name: ``"channel"``.
        axes: The canonical axes of ``g``; several choices if the literature has several.

    >>> Kind.CHANNEL.axes
    (('N', 'C'),)
    """

    __slots__ = ("axes", "value")

    value: str
    axes: tuple[Axes, ...]

    CHANNEL: ClassVar[Kind]
    SPATIAL: ClassVar[Kind]
    DENSE: ClassVar[Kind]
    BRANCH: ClassVar[Kind]
    TEMPORAL: ClassVar[Kind]
    PAIRWISE: ClassVar[Kind]
    POOLING: ClassVar[Kind]
    SAMPLING: ClassVar[Kind]

    @staticmethod
    def define(value: str, *axes: Axes) -> Kind:
        """Define a kind of attention.

        Args:
            value: Its name, in lower case.
            axes: The canonical axes of ``g``, the images first; several choices differ in their number of axes.

        Raises:
            ValueError: the name is taken, or no axes are given.

        >>> Kind.define("channel", ("N", "C"))
        Traceback (most recent call last):
        ValueError: the kind 'channel' is defined already
        """
        if value in _KINDS:
            raise ValueError(f"the kind {value!r} is defined already")
        if not axes:
            raise ValueError(f"the kind {value!r}: wanted the axes of g, got none")
        kind = object.__new__(Kind)
        object.__setattr__(kind, "value", value)
        object.__setattr__(kind, "axes", axes)
        _KINDS[value] = kind
        return kind

    @staticmethod
    def named(value: str) -> Kind:
        """The kind of this name.

        Raises:
            ValueError: there is none.
        """
        if value not in _KINDS:  # for example, of a record that was unpickled in another process
            for entry_point in entry_points(group="attnviz.kinds"):
                entry_point.load()
        if value not in _KINDS:
            raise ValueError(f"unknown kind of attention {value!r}: wanted one of {', '.join(_KINDS)}")
        return _KINDS[value]

    @property
    def ranks(self) -> frozenset[int]:
        """The possible numbers of axes of ``g``."""
        return frozenset(map(len, self.axes))

    def __init__(self) -> None:
        raise TypeError("a kind is defined by Kind.define, or found by Kind.named")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a kind is immutable: {name}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Kind.named, (self.value,)

    def __repr__(self) -> str:
        return f"Kind.{self.value.upper()}"


Kind.CHANNEL = Kind.define("channel", ("N", "C"))
Kind.SPATIAL = Kind.define("spatial", ("N", "H", "W"), ("N", "L"), ("N", "D", "H", "W"))
Kind.DENSE = Kind.define("dense", ("N", "C", "H", "W"), ("N", "C", "L"), ("N", "C", "D", "H", "W"))
Kind.BRANCH = Kind.define("branch", ("N", "B", "C"))
Kind.TEMPORAL = Kind.define("temporal", ("N", "T"), ("N", "heads", "T", "T"))
Kind.PAIRWISE = Kind.define("pairwise", ("N", "heads", "Q", "K"))
Kind.POOLING = Kind.define("pooling", ("N", "heads", "HW"))
Kind.SAMPLING = Kind.define("sampling", ("N", "S", "H", "W", "2"))
