"""Templates of the pages, settings as rows of text, and the glossary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from attnviz.core.glossary import Category, Meaning, is_defined, meaning, title
from attnviz.report.core.formatting import number, visible

if TYPE_CHECKING:
    from jinja2 import Template

_HEADINGS: dict[Category, str] = {
    "method": "Attribution methods",
    "map": "Maps of attention",
    "kind": "Kinds of attention",
    "measure": "Measures",
    "edit": "Replacements of g",
}


def template(name: str) -> Template:
    """Load a template of the report. Values are escaped, and an undefined variable is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("attnviz.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    filters = {"number": number, "measure_title": partial(title, "measure"), "breaks": breaks, "visible": visible}
    environment.filters |= filters
    return environment.get_template(name)


def breaks(path: str) -> Markup:
    """Allow a line break after each dot of a dotted path.

    >>> breaks("blocks.5")
    Markup('blocks.<wbr>5')
    """
    return Markup(".<wbr>").join(path.split("."))


def settings_rows(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Convert settings to rows of name and text.

    >>> settings_rows({"image_side": 224, "methods": ["cam", "lrp"], "versions": {"torch": "2.14"}})
    [('image side', '224'), ('methods', 'cam, lrp'), ('versions', 'torch 2.14')]
    """
    return [(key.replace("_", " "), _text(value)) for key, value in settings.items()]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def glossary_groups(names: Iterable[tuple[Category, str]]) -> list[tuple[str, list[Meaning]]]:
    """Return headings and meanings, each name once; names without a meaning are left out."""
    known = dict.fromkeys(name for name in names if is_defined(*name))
    groups = [(heading, [meaning(*name) for name in known if name[0] == key]) for key, heading in _HEADINGS.items()]
    return [(heading, members) for heading, members in groups if members]
