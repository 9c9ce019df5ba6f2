"""The report of a comparison of maps: ``comparison.html``, one self-contained page, figures and a JSON file."""

from collections.abc import Iterable, Iterator

from attnviz.core.comparison_results import Comparison
from attnviz.core.glossary import Category
from attnviz.report.comparison.figures import draw
from attnviz.report.core.study_report import ReportFigure, StudyReport
from attnviz.report.core.templating import glossary_groups, settings_rows, template

__all__ = ["REPORT", "check", "write"]


def _render(comparison: Comparison, figures: Iterable[tuple[ReportFigure, str]]) -> str:
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


REPORT: StudyReport[Comparison] = StudyReport("comparison", "comparison", draw, _render)
check, write = REPORT.check, REPORT.write
