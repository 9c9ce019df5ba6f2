"""``sparsity.html``: a sparsity study as one self-contained page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attnviz.core.glossary import Category
from attnviz.core.sparsity_results import SparsityStudy
from attnviz.report.core.glossary_view import glossary_groups
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
        glossary=glossary_groups(_names(study)),
        settings=settings_rows(study.settings),
    )


def _names(study: SparsityStudy) -> Iterator[tuple[Category, str]]:
    for model in study.models:
        for site in model.sites:
            yield "kind", site.kind
            yield from (("measure", key.partition(".")[2]) for key in site.measures)
        for scope in model.causal:
            yield from (("edit", key.partition(".")[0]) for key in scope.replaced)
