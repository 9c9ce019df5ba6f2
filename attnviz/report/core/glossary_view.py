"""The glossary of a page: the meanings of what it shows, as their registrations give them."""

from __future__ import annotations

from collections.abc import Iterable

from attnviz.core.glossary import Category, Meaning, is_defined, meaning

_HEADINGS: dict[Category, str] = {
    "method": "Attribution methods",
    "map": "Maps of attention",
    "kind": "Kinds of attention",
    "measure": "Measures",
    "edit": "Replacements of g",
}


def glossary_groups(names: Iterable[tuple[Category, str]]) -> list[tuple[str, list[Meaning]]]:
    """Return headings and meanings, each name once; names without a meaning are left out."""
    known = dict.fromkeys(name for name in names if is_defined(*name))
    groups = [(title, [meaning(*name) for name in known if name[0] == key]) for key, title in _HEADINGS.items()]
    return [(title, members) for title, members in groups if members]
