"""A comparison in sentences: the best map of each metric, groups of maps that agree, and caveats."""

import math
from collections.abc import Mapping, Sequence

from attnviz.core.comparison_results import Metric, Row
from attnviz.core.glossary import title
from attnviz.core.intervals import Interval

ALIKE = 0.6
"""Rank correlation from which two maps belong to a group."""


def summary_of(
    rows: Sequence[Row],
    metrics: Sequence[Metric],
    names: Sequence[str],
    agreement: Sequence[Sequence[float]],
    beside: Mapping[str, float],
    images: int,
) -> tuple[str, ...]:
    """Sentences about the numbers of a comparison.

    Args:
        rows: Maps and baselines.
        metrics: Columns.
        names: Names of the maps, in the order of ``agreement``.
        agreement: Rank correlations.
        beside: Means of the maps and of the baselines.
        images: Number of images.
    """
    found = [_best(rows, metric, images) for metric in metrics]
    found.append(_groups(names, agreement))
    if beside:
        found.append(
            f"The mean rank correlation of two maps is {beside['value']:.2f}; of a map with the centre of the image "
            f"{beside['centre']:.2f}, and with another map shifted at random {beside['random']:.2f}."
        )
    return tuple(text for text in found if text)


def _best(rows: Sequence[Row], metric: Metric, images: int) -> str:
    sign = 1 if metric.higher_is == "better" else -1
    known = [row for row in rows if not math.isnan(row.cells[metric.name].value)]
    maps = [row for row in known if row.kind != "baseline"]
    if not maps:
        return f"{title('measure', metric.name)}: undefined for every map."
    best = max(maps, key=lambda row: sign * row.cells[metric.name].value)
    cell = best.cells[metric.name]
    beaten = [row for row in known if row.kind == "baseline" and row.model == best.model]
    direction = "higher" if sign > 0 else "lower"
    text = f"{title('measure', metric.name)} ({direction} is better): {best.name} is best with {_with_interval(cell)}"
    better_than = [row.name for row in beaten if sign * (cell.value - row.cells[metric.name].value) > 0]
    if images < 2:
        return f"{text}. One image is not enough for a claim."
    others = [row.cells[metric.name] for row in beaten]
    apart = [other for other in others if (cell.low > other.high if sign > 0 else cell.high < other.low)]
    if len(apart) == len(beaten):
        return f"{text}, clearly better than the centre of the image and than a random map."
    if math.isnan(cell.low) and len(better_than) == len(beaten):
        return f"{text}; too few images for an interval."
    if len(better_than) == len(beaten):
        return f"{text}, but its interval overlaps with that of a baseline."
    worse = ", ".join(sorted({row.name.split(": ")[-1] for row in beaten} - {n.split(": ")[-1] for n in better_than}))
    return f"{text}, no better than {worse}: by this test no map can be trusted."


def _with_interval(cell: Interval) -> str:
    interval = "" if math.isnan(cell.low) else f" [{cell.low:.3f}, {cell.high:.3f}]"
    return f"{cell.value:.3f}{interval}"


def _groups(names: Sequence[str], agreement: Sequence[Sequence[float]]) -> str:
    """Groups of maps that rank the positions alike, each with another one of its group."""
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
    joined = [" with ".join(names[k] for k in group) for group in groups if len(group) > 1]
    alone = [names[group[0]] for group in groups if len(group) == 1]
    if not joined:
        return f"No two maps rank the positions alike (rank correlation of {ALIKE} or more)." if len(names) > 1 else ""
    rest = f"; on their own are {', '.join(alone)}" if alone else ""
    return f"Maps that rank the positions alike (rank correlation of {ALIKE} or more): {'; '.join(joined)}{rest}."


def caveats_of(rows: Sequence[Row], metrics: Sequence[Metric], images: int) -> tuple[str, ...]:
    """What must not be concluded."""
    found = [
        "Agreement is not truth: maps can agree because all follow edges, or the centre of the image.",
        "Tests of faithfulness use images outside the training distribution. They can disagree with each other, and a "
        "metric is not a proof.",
    ]
    if any(row.kind == "attention" for row in rows):
        found.append(
            "Attention does not depend on the target: its map can be faithful only to the extent that the target is "
            "the prediction of the model."
        )
    if images < 10:
        found.append(
            f"{images} image{'s' * (images > 1)}: intervals over so few images are too narrow; use more for a claim."
        )
    if len({row.model for row in rows}) > 1:
        found.append(
            "Different models have different predictions: compare the maps of a model with its own baselines first."
        )
    if any(metric.name in {"pointing", "energy", "iou", "auc"} for metric in metrics):
        found.append("A map that misses the object can be right about a model that uses something else.")
    return tuple(found)
