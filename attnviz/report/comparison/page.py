"""``comparison.html``: a comparison as one self-contained page."""

from __future__ import annotations

from collections.abc import Iterable

from attnviz.core.comparison_results import Comparison
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
        comparison=comparison, figures=figures, settings=targets + settings_rows(comparison.settings)
    )
