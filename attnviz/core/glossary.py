"""Meanings of names in reports, filled by the registrations of measures, methods, projections, kinds and edits.

Reports depend on this table only, so that they can show the meaning of a measure that another package registered.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

Category: TypeAlias = Literal["measure", "method", "map", "kind", "edit"]
"""A number, an attribution method, a map of one or several sites, a kind of attention, and an edit of ``g``."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """How to interpret a number or a map.

    Attributes:
        title: Display name.
        means: Meaning, in one or two sentences.
        not_means: What it does not mean, but is often taken for.
        group: For a map of several sites: the kind of attention that it is shown with.
    """

    title: str
    means: str = ""
    not_means: str = ""
    group: str = ""


_MEANINGS: dict[tuple[Category, str], Meaning] = {}


def define(category: Category, name: str, meaning: Meaning) -> None:
    """Set the meaning of a name."""
    _MEANINGS[category, name] = meaning


def is_defined(category: Category, name: str) -> bool:
    """Whether a name has a meaning."""
    return (category, name) in _MEANINGS


def meaning(category: Category, name: str) -> Meaning:
    """The meaning of a name; for an unknown one the title only.

    >>> meaning("measure", "not_a_measure")
    Meaning(title='not a measure', means='', not_means='', group='')
    """
    return _MEANINGS.get((category, name)) or Meaning(name.replace("_", " ").replace("-", " "))


def meaning_of_map(name: str, kind: str) -> Meaning:
    """The meaning of a map: of an attribution method, or of the attention of several sites.

    Args:
        name: Name of the map.
        kind: ``"attribution"`` or ``"attention"``.
    """
    return meaning("method" if kind == "attribution" else "map", name)


def title(category: Category, name: str) -> str:
    """The display name."""
    return meaning(category, name).title


def entries(names: Iterable[tuple[Category, str]]) -> dict[str, dict[str, str]]:
    """The meanings of some names as plain data, to be stored with results."""
    known = {(category, name) for category, name in names if (category, name) in _MEANINGS}
    return {f"{category}:{name}": asdict(_MEANINGS[category, name]) for category, name in sorted(known)}


def restore(stored: Mapping[str, Mapping[str, str]]) -> None:
    """Define the stored meanings of names that have none in this process."""
    for key, texts in stored.items():
        category, _, name = key.partition(":")
        _MEANINGS.setdefault((category, name), Meaning(**texts))  # type: ignore[arg-type]  # as it was stored
