"""``sparsity.html``: a sparsity study as one self-contained page."""

from __future__ import annotations

from collections.abc import Iterable

from attnviz.core.sparsity_results import SparsityStudy
from attnviz.report.core.study_report import ReportFigure
from attnviz.report.core.templating import settings_rows, template
from attnviz.report.sparsity.tables import tables


def render(study: SparsityStudy, figures: Iterable[tuple[ReportFigure, str]]) -> str:
    """Return the page.

    Args:
        study: The study.
        figures: Figures with their ``data:`` URIs.
    """
    return template("sparsity.html.j2").render(
        study=study,
        models=[(model, tables(model)) for model in study.models],
        figures=figures,
        settings=settings_rows(study.settings),
    )
