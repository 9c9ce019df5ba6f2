"""A comparison in plain words: what was best, what agrees with what, and what that does not say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from attnviz.core.comparison_results import Metric, Row, words
from attnviz.core.intervals import Interval

ALIKE = 0.6
"""Maps with a rank correlation of at least this are told as a group."""


def summary_of(
    rows: Sequence[Row],
    metrics: Sequence[Metric],
    names: Sequence[str],
    agreement: Sequence[Sequence[float]],
    beside: Mapping[str, float],
    images: int,
) -> tuple[str, ...]:
    """Sentences, each of which rests on numbers of the comparison.

    Args:
        rows: Maps and baselines.
        metrics: Columns.
        names: Of the maps, in the order of ``agreement``.
        agreement: Rank correlations.
        beside: What chance and the middle give.
        images: How many there were.
    """
    found = [_best(rows, metric, images) for metric in metrics]
    found.append(_groups(names, agreement))
    if beside:
        found.append(
            f"The mean rank correlation of two maps is {beside['value']:.2f}; of a map with the middle of the picture "
            f"{beside['centre']:.2f}, and with another map moved at random {beside['random']:.2f}."
        )
    return tuple(text for text in found if text)


def _best(rows: Sequence[Row], metric: Metric, images: int) -> str:
    sign = 1 if metric.higher_is == "better" else -1
    known = [row for row in rows if not math.isnan(row.cells[metric.name].value)]
    maps = [row for row in known if row.kind != "baseline"]
    if not maps:
        return f"{_title(metric)}: no map has a number."
    best = max(maps, key=lambda row: sign * row.cells[metric.name].value)
    cell = best.cells[metric.name]
    beaten = [row for row in known if row.kind == "baseline" and row.model == best.model]
    text = f"{_title(metric)} ({'higher' if sign > 0 else 'lower'} is better): {best.name} is best with {_told(cell)}"
    better_than = [row.name for row in beaten if sign * (cell.value - row.cells[metric.name].value) > 0]
    if images < 2:
        return f"{text}. One image tells nothing about others."
    apart = [row for row in beaten if _apart(cell, row.cells[metric.name], sign)]
    if len(apart) == len(beaten):
        return f"{text}, clearly better than the middle of the picture and than chance."
    if math.isnan(cell.low) and len(better_than) == len(beaten):
        return f"{text}; too few images have a number for an interval."
    if len(better_than) == len(beaten):
        return f"{text}, but its interval overlaps with that of a map that knows nothing."
    worse = ", ".join(sorted({row.name.split(": ")[-1] for row in beaten} - {n.split(": ")[-1] for n in better_than}))
    return f"{text}, no better than {worse}: by this test no map is worth believing."


def _apart(one: Interval, other: Interval, sign: int) -> bool:
    low, high = (one.low, other.high) if sign > 0 else (other.low, one.high)
    return low > high


def _told(cell: Interval) -> str:
    interval = "" if math.isnan(cell.low) else f" [{cell.low:.3f}, {cell.high:.3f}]"
    return f"{cell.value:.3f}{interval}"


def _title(metric: Metric) -> str:
    title = words(metric.name)
    return title[:1].upper() + title[1:]


def _groups(names: Sequence[str], agreement: Sequence[Sequence[float]]) -> str:
    """Groups of maps that rank places alike: each with another of its group."""
    left, groups = list(range(len(names))), []
    while left:
        group, stack = [], [left[0]]
        while stack:
            one = stack.pop()
            if one in left:
                left.remove(one)
                group.append(one)
                stack += [other for other in left if agreement[one][other] >= ALIKE]
        groups.append(sorted(group))
    told = [" with ".join(names[k] for k in group) for group in groups if len(group) > 1]
    alone = [names[group[0]] for group in groups if len(group) == 1]
    if not told:
        return f"No two maps rank the places alike (rank correlation of {ALIKE} or more)." if len(names) > 1 else ""
    rest = f"; alone are {', '.join(alone)}" if alone else ""
    return f"Maps that rank the places alike (rank correlation of {ALIKE} or more): {'; '.join(told)}{rest}."


def caveats_of(rows: Sequence[Row], metrics: Sequence[Metric], images: int) -> tuple[str, ...]:
    """What a reader must not conclude."""
    found = [
        "Agreement is not truth: maps may agree since all follow edges, or the middle of the picture.",
        "Each test of faithfulness shows the model images that it never saw in training; they may disagree with each "
        "other, and a metric is not a proof.",
    ]
    if any(row.kind == "attention" for row in rows):
        found.append(
            "Attention does not know which class is asked about: its map can be faithful only as far as the class is "
            "the model's own first answer."
        )
    if images < 10:
        found.append(
            f"{images} image{'s' * (images > 1)}: intervals over so few are too narrow; take more for a claim."
        )
    if len({row.model for row in rows}) > 1:
        found.append(
            "Numbers of different models are of different answers: compare a model's maps with its own baselines first."
        )
    if any(metric.name in {"pointing", "energy", "iou", "auc"} for metric in metrics):
        found.append("A map that misses the object may be right about the model, which may look beside the object.")
    return tuple(found)
