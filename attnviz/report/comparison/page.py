"""``comparison.html``: a comparison as one self-contained page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attnviz.core.comparison_results import Comparison
from attnviz.core.glossary import Category
from attnviz.report.core.glossary_view import glossary_groups
from attnviz.report.core.study_report import ReportFigure
from attnviz.report.core.templating import settings_rows, template


def render(comparison: Comparison, figures: Iterable[tuple[ReportFigure, str]]) -> str:
    """Return the page.

    Args:
        comparison: The comparison.
        figures: Figures with their ``data:`` URIs.
    """
    targets = [(f"target classes of {model}", ", ".join(labels)) for model, labels in comparison.targets.items()]
    return template("comparison.html.j2").render(
        comparison=comparison,
        figures=figures,
        glossary=glossary_groups(_names(comparison)),
        settings=targets + settings_rows(comparison.settings),
    )


def _names(comparison: Comparison) -> Iterator[tuple[Category, str]]:
    for row in comparison.compared:
        yield "method" if row.kind == "attribution" else "map", row.name.rpartition(": ")[2]
    yield from (("measure", metric.name) for metric in comparison.metrics)
    yield from (("measure", name) for name in comparison.agreement)
