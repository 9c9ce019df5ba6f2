"""Write ``reference/names.md`` from the registries: every name with its meaning, range and direction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Rows = Iterator[tuple[str, ...]]


def write(folder: Path) -> Path:
    """Write the page and return its path."""
    path = folder / "reference" / "names.md"
    path.write_text(page(), encoding="utf-8")
    return path


def page() -> str:
    """Return the page in Markdown."""
    parts = [
        "# All names",
        "Generated from the registrations. A package adds entries by "
        "[entry points](https://packaging.python.org/specifications/entry-points/); see `CONTRIBUTING.md`.",
        *(f"## {title}\n\n{table(head, rows)}" for title, head, rows in sections()),
    ]
    return "\n\n".join(parts) + "\n"


def sections() -> Iterator[tuple[str, tuple[str, ...], Rows]]:
    """Yield the title, the column titles and the rows of each table."""
    from attnviz.attribution import METHODS
    from attnviz.core.glossary import meaning
    from attnviz.edits import EDITS
    from attnviz.heatmaps.projection import PROJECTIONS
    from attnviz.metrics.agreement import AGREEMENT
    from attnviz.metrics.faithfulness import FAITHFULNESS
    from attnviz.metrics.localisation import LOCALISATION
    from attnviz.metrics.sparsity import SPARSITY
    from attnviz.models.mechanism import MODELS
    from attnviz.report.kinds.base import KIND_RENDERERS

    texts = ("name", "title", "what it means", "what it does not mean")
    measures: Any = (("sparsity", SPARSITY), ("agreement", AGREEMENT), ("faithfulness", FAITHFULNESS),
                     ("localisation", LOCALISATION))  # fmt: skip
    for what, registry in measures:
        yield f"Measures of {what}", (*texts, "range", "higher is", "NaN if"), map(_measure, _values(registry))
    yield "Attribution methods", texts, (_texts(one.name, one.meaning) for one in _values(METHODS))
    projections = ((*_texts(one.name, one.meaning), one.kind.value) for one in _values(PROJECTIONS))
    yield "Projections", (*texts, "kind"), projections
    yield "Kinds of attention", texts, (_texts(kind, meaning("kind", kind)) for kind in KIND_RENDERERS)
    yield "Edits of g", texts, (_texts(one.name, one.meaning) for one in _values(EDITS))
    models = ((f"`{name}`", MODELS[name].summary, MODELS[name].source) for name in MODELS)
    yield "Built-in models", ("name", "mechanism", "source"), models


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    r"""Return a table in Markdown.

    >>> print(table(("a", "b"), [("1", "x | y")]))
    | a | b |
    |---|---|
    | 1 | x \| y |
    """
    lines = [tuple(head)]
    lines += [tuple(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows]
    written = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([written[0], "|" + "---|" * len(lines[0]), *written[1:]])


def _values(registry: Any) -> list[Any]:
    return [registry[name] for name in registry]


def _texts(name: str, about: Any) -> tuple[str, str, str, str]:
    return f"`{name}`", about.title, about.means, about.not_means


def _measure(one: Any) -> tuple[str, ...]:
    bounds = " to ".join(f"{end:g}".replace("inf", "∞") for end in (one.low, one.high))
    return (*_texts(one.name, one.meaning), bounds, one.higher_is, one.nan_when)
