"""``sparsity.html``: a study as one page that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

from attnviz.report.sparsity.figures import Drawn
from attnviz.report.sparsity.tables import tables
from attnviz.studies import SparsityStudy


def render(study: SparsityStudy, figures: Iterable[tuple[Drawn, Path]]) -> str:
    """The page, with its figures inside.

    Args:
        study: What was found.
        figures: Each with its PNG file.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("attnviz.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("sparsity.html.j2").render(
        study=study,
        models=[(model, tables(model)) for model in study.models],
        figures=[(drawn, _uri(path)) for drawn, path in figures],
        settings=[(key.replace("_", " "), str(value)) for key, value in study.settings.items()],
    )


def _uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
