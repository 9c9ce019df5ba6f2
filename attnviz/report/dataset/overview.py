"""The overview of a run: how many, how good, what failed, what is strange, and whether the maps agree."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.intervals import intervals
from attnviz.report.core import glossary
from attnviz.report.core.formatting import number, visible
from attnviz.report.dataset.columns import Columns
from attnviz.report.dataset.predictions import ABSENT, CORRECT, FAILED, WRONG, Answers
from attnviz.report.dataset.run_folder import Run
from attnviz.report.dataset.shard_data import thumbnail

MOST_SURPRISES = 8
AGREEMENT = "spearman"
FAITHFUL = {
    "insertion": 1, "road": 1, "comprehensiveness": 1, "deletion": -1, "average_drop": -1, "sufficiency": -1,
    "infidelity": -1,
}  # fmt: skip
"""Tests of faithfulness, the preferred first: 1 where higher is better."""

SURE = 0.5
"""Faithfulness is looked at where the answer has this probability at least: little can be taken from a weak answer."""


class Surprise(NamedTuple):
    """An image that stands out, and what is strange about it."""

    item: int
    model: int
    what: str


def model_rows(run: Run, columns: Columns, answers: Answers) -> list[dict[str, Any]]:
    """One row for each model: how many images, how good the answers are, how far its maps agree."""
    rows = []
    for at, name in enumerate(run.models):
        states, shares = answers.states[at], answers.probability[at]
        right, labelled = int((states == CORRECT).sum()), int((states >= WRONG).sum())
        agreement = _mean(columns, name, "pair", AGREEMENT)
        row = {
            "model": name,
            "ok": int((states > FAILED).sum()),
            "failed": int((states == FAILED).sum()),
            "labelled": labelled,
            "accuracy": "–" if not labelled else f"{right / labelled:.0%}",
            "accuracy_range": "" if not labelled else "{:.0%} to {:.0%}".format(*wilson(right, labelled)),
            "probability": number(float(np.nanmean(shares))) if np.isfinite(shares).any() else "–",
            "agreement": "–" if agreement is None else number(agreement[0]),
            "agreement_range": "" if agreement is None else _range(agreement),
        }
        rows.append(row)
    return rows


def wilson(right: int, of: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share.

    >>> [round(end, 3) for end in wilson(8, 10)]
    [0.49, 0.943]
    """
    z = 1.959964
    share, spread = right / of, z * z / of
    middle = share + spread / 2
    reach = math.sqrt(share * (1 - share) * spread + spread * spread / 4)
    return max(0.0, (middle - reach) / (1 + spread)), min(1.0, (middle + reach) / (1 + spread))


def surprises(run: Run, columns: Columns, answers: Answers) -> list[tuple[str, str, list[Surprise]]]:
    """Lists of strange images, each with a title and a few words; a list that has none is left out."""
    wrong = [
        Surprise(item, at, f"p = {answers.probability[at, item]:.2f}, and wrong")
        for item, at in _strongest(np.where(answers.states == WRONG, answers.probability, -np.inf))
    ]
    lists = [("Wrong, and sure", "Wrong answers with the highest probability.", wrong)]
    apart = _scores(run, columns, "pair", AGREEMENT)
    lists.append((
        "Methods disagree",
        "Maps of one image that agree least, by the mean Spearman correlation of all pairs.",
        [Surprise(item, at, f"agreement {apart[at, item]:.2f}") for item, at in _strongest(-apart)],
    ))  # fmt: skip
    for name, sign in FAITHFUL.items():
        scores = _scores(run, columns, "attribution", name)
        if np.isfinite(scores).any():
            known = np.where(answers.probability >= SURE, sign * scores, np.nan)
            known = known if np.isfinite(known).any() else sign * scores
            title = glossary.measure(name, "").title
            found = [
                Surprise(item, at, f"{title} {number(float(scores[at, item]))}") for item, at in _strongest(-known)
            ]
            text = (
                f"{'Lowest' if sign > 0 else 'Highest'} {title}, mean of all attributions, where p is {SURE} or more."
            )
            lists.append(("Attributions that matter least", text, found))
            break
    return [one for one in lists if one[2]]


def _scores(run: Run, columns: Columns, kind: str, measure: str) -> Array:
    """``(models, images)``: the mean over all subjects of a kind; NaN where there is none."""
    found = np.full((len(run.models), columns.values.shape[1]), np.nan, np.float32)
    for at, model in enumerate(run.models):
        place = _place(columns, model, kind, measure)
        if place is not None:
            found[at] = columns.values[place]
    return found


def _place(columns: Columns, model: str, kind: str, measure: str) -> int | None:
    """The column with the mean of a kind, or its only one."""
    places = columns.where(model=model, kind=kind, measure=measure)
    means = [at for at in places if columns.keys[at].of_all]
    return next(iter(means or places), None)


def _strongest(scores: Array) -> list[tuple[int, int]]:
    """Item and model of the largest numbers; each image once."""
    known = np.where(np.isfinite(scores), scores, -np.inf)
    best, model = known.max(0), known.argmax(0)
    order = np.argsort(-best, kind="stable")[:MOST_SURPRISES]
    return [(int(item), int(model[item])) for item in order if np.isfinite(best[item])]


def pictures(run: Run, found: list[Surprise]) -> Iterator[dict[str, Any]]:
    """Each strange image with its name, its answer and a small picture."""
    size = int(run.plan.get("shard_size", 1))
    for one in found:
        shard, model = one.item // size, run.models[one.model]
        rows = run.rows("answers", shard, ["item", "image", "model", "target_label", "label"])
        answer = next(row for row in rows if row["item"] == one.item and row["model"] == model)
        small = {row["model"] or "": row["jpeg"] for row in run.rows("thumbnails", shard) if row["item"] == one.item}
        jpeg = small.get(model) or small.get("")
        yield {
            "item": one.item,
            "what": one.what,
            "model": model if len(run.models) > 1 else "",
            "name": visible(answer["image"]),
            "target": answer["target_label"],
            "label": visible(answer["label"] or ""),
            "uri": thumbnail(jpeg) if jpeg else "",
        }


def agreement(columns: Columns, run: Run) -> Iterator[dict[str, Any]]:
    """For each model and measure of pairs: the matrix of maps by maps, with intervals over images."""
    for model in run.models:
        places = [at for at in columns.where(model=model, kind="pair") if not columns.keys[at].of_all]
        measures = list(dict.fromkeys(columns.keys[at].measure for at in places))
        for measure in measures:
            chosen = [at for at in places if columns.keys[at].measure == measure]
            pairs = {(columns.keys[at].subject, columns.keys[at].other): at for at in chosen}
            names = list(dict.fromkeys([*[a for a, _ in pairs], *[b for _, b in pairs]]))
            means = intervals(columns.sample(chosen))
            cells = {pair: means[n] for n, pair in enumerate(pairs)}
            meaning = glossary.measure(measure, "more alike")
            yield {
                "model": model,
                "meaning": meaning,
                "names": [glossary.method(name).title if name in glossary.METHODS else name for name in names],
                "rows": [[_cell(cells, a, b) for b in names] for a in names],
            }


def _cell(cells: dict[tuple[str, str], Array], a: str, b: str) -> dict[str, str] | None:
    found = cells.get((a, b), cells.get((b, a)))
    if a == b or found is None:
        return None
    mean = float(found[0])
    if math.isnan(mean):
        return {"text": "–", "range": "", "tint": "0", "sign": "up"}
    text = f"{mean:.2f}".replace("-", "−")
    sign = "down" if mean < 0 else "up"
    return {"text": text, "range": _range(found), "tint": f"{min(1.0, abs(mean)):.2f}", "sign": sign}


def _range(found: Array) -> str:
    if math.isnan(found[1]):
        return ""
    return f"{found[1]:.2f} to {found[2]:.2f}".replace("-", "−")


def _mean(columns: Columns, model: str, kind: str, measure: str) -> Array | None:
    place = _place(columns, model, kind, measure)
    if place is None:
        return None
    found: Array = intervals(columns.sample([place]))[0]
    return None if math.isnan(found[0]) else found


def there(answers: Answers) -> int:
    """How many images have an answer, or a failure."""
    return int((answers.states > ABSENT).any(0).sum())


def failed(answers: Answers) -> int:
    """How many images failed with one model at least."""
    return int((answers.states == FAILED).any(0).sum())
