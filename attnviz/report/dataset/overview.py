"""The overview of a run: accuracy and agreement of each model, and the agreement of its maps."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.glossary import meaning
from attnviz.core.intervals import mean_intervals
from attnviz.core.outliers import AGREEMENT
from attnviz.report.core.formatting import number, table_cell
from attnviz.report.dataset.columns import Columns, subject_title
from attnviz.report.dataset.predictions import CORRECT, FAILED, WRONG, Predictions
from attnviz.report.dataset.run_folder import Run


def model_rows(run: Run, columns: Columns, predictions: Predictions) -> list[dict[str, Any]]:
    """Return a row for each model: numbers of images, accuracy, probability, and agreement of its maps."""
    by_model = zip(run.models, predictions.states, predictions.probability, strict=True)
    return [_model_row(name, states, probability, columns) for name, states, probability in by_model]


def _model_row(name: str, states: Array, probability: Array, columns: Columns) -> dict[str, Any]:
    correct, labelled = int((states == CORRECT).sum()), int((states >= WRONG).sum())
    at = mean_column(columns, name, "pair", AGREEMENT)
    agreement = np.full(3, np.nan) if at is None else mean_intervals(columns.sample([at]))[0]
    return {
        "model": name,
        "ok": int((states > FAILED).sum()),
        "failed": int((states == FAILED).sum()),
        "labelled": labelled,
        "accuracy": "–" if not labelled else f"{correct / labelled:.0%}",
        "accuracy_range": "" if not labelled else "{:.0%} to {:.0%}".format(*wilson(correct, labelled)),
        "probability": number(float(np.nanmean(probability))) if np.isfinite(probability).any() else "–",
        "agreement": number(float(agreement[0])),
        "agreement_range": _range(agreement),
    }


def mean_column(columns: Columns, model: str, kind: str, measure: str) -> int | None:
    """Return the index of the column with the mean over all subjects of a kind, or of its only subject."""
    indices = columns.where(model=model, kind=kind, measure=measure)
    means = [at for at in indices if columns.keys[at].of_all]
    return next(iter(means or indices), None)


def wilson(count: int, total: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a proportion.

    >>> [round(end, 3) for end in wilson(8, 10)]
    [0.49, 0.943]
    """
    z = 1.959964
    share, spread = count / total, z * z / total
    centre = share + spread / 2
    half_width = math.sqrt(share * (1 - share) * spread + spread * spread / 4)
    return max(0.0, (centre - half_width) / (1 + spread)), min(1.0, (centre + half_width) / (1 + spread))


def agreement(columns: Columns, run: Run) -> Iterator[dict[str, Any]]:
    """Yield the matrix of maps by maps, with intervals over images, for each model and measure of pairs."""
    for model in run.models:
        pairs = [at for at in columns.where(model=model, kind="pair") if not columns.keys[at].of_all]
        for measure in dict.fromkeys(columns.keys[at].measure for at in pairs):
            members = [at for at in pairs if columns.keys[at].measure == measure]
            means = mean_intervals(columns.sample(members))
            cells = {
                (columns.keys[at].subject, columns.keys[at].other): mean
                for at, mean in zip(members, means, strict=True)
            }
            names = list(dict.fromkeys([*[a for a, _ in cells], *[b for _, b in cells]]))
            yield {
                "model": model,
                "meaning": meaning("measure", measure),
                "names": list(map(subject_title, names)),
                "rows": [[_cell(cells, a, b) for b in names] for a in names],
            }


def _cell(cells: dict[tuple[str, str], Array], a: str, b: str) -> dict[str, str] | None:
    interval = cells.get((a, b), cells.get((b, a)))
    if a == b or interval is None:
        return None
    return table_cell(float(interval[0])) | {"range": _range(interval)}


def _range(interval: Array) -> str:
    if math.isnan(interval[1]):
        return ""
    return f"{interval[1]:.2f} to {interval[2]:.2f}".replace("-", "−")
