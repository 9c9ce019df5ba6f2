"""The report of a sparsity study: ``sparsity.html``, one self-contained page, figures and a JSON file."""

from collections.abc import Iterable, Iterator

from attnviz.core.glossary import Category
from attnviz.core.sparsity_results import SparsityStudy
from attnviz.report.core.study_report import ReportFigure, StudyReport
from attnviz.report.core.templating import glossary_groups, settings_rows, template
from attnviz.report.sparsity.figures import draw
from attnviz.report.sparsity.tables import tables

__all__ = ["REPORT", "check", "write"]


def _render(study: SparsityStudy, figures: Iterable[tuple[ReportFigure, str]]) -> str:
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


REPORT: StudyReport[SparsityStudy] = StudyReport("study", "sparsity", draw, _render)
check, write = REPORT.check, REPORT.write
