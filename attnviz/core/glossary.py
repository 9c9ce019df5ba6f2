"""What names in reports mean: filled by the registration of each measure, method, projection and kind of attention.

Reports depend on this table only, so that they can show the meaning of a measure that another package registered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Category: TypeAlias = Literal["measure", "method", "map", "kind", "edit"]
"""A number, an attribution method, a map of one or several sites, a kind of attention, and an edit of ``g``."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """How to interpret a number or a map.

    Attributes:
        title: Display name.
        means: What it says, in one or two sentences.
        not_means: What it is often taken for and does not say.
    """

    title: str
    means: str = ""
    not_means: str = ""


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
    Meaning(title='not a measure', means='', not_means='')
    """
    return _MEANINGS.get((category, name)) or Meaning(name.replace("_", " ").replace("-", " "))


def title(category: Category, name: str) -> str:
    """The display name."""
    return meaning(category, name).title
