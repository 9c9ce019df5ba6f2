"""``comparison.html``: a comparison as one page that needs no network."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from attnviz.core.comparison_results import Comparison
from attnviz.report.core.templating import Drawn, embedded, settings_rows, template


def render(found: Comparison, figures: Iterable[tuple[Drawn, Path]]) -> str:
    """The page, with its figures inside.

    Args:
        found: The comparison.
        figures: Each with its PNG file.
    """
    return template("comparison.html.j2").render(
        found=found,
        figures=embedded(figures),
        names=[row.name for row in found.compared],
        settings=settings_rows(found.settings),
    )
