"""``sparsity.html``: a study as one page that needs no network."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from attnviz.core.sparsity_results import SparsityStudy
from attnviz.report.core.templating import Drawn, embedded, settings_rows, template
from attnviz.report.sparsity.tables import tables


def render(study: SparsityStudy, figures: Iterable[tuple[Drawn, Path]]) -> str:
    """The page, with its figures inside.

    Args:
        study: What was found.
        figures: Each with its PNG file.
    """
    return template("sparsity.html.j2").render(
        study=study,
        models=[(model, tables(model)) for model in study.models],
        figures=embedded(figures),
        settings=settings_rows(study.settings),
    )
