"""The tables of a study of sparsity: the same rows for the terminal and the page."""

from __future__ import annotations

from typing import NamedTuple

from attnviz.core.sparsity_results import CausalFinding, Estimate, ModelFinding, SiteFinding
from attnviz.report.core import glossary


class Table(NamedTuple):
    """A table of texts.

    Attributes:
        title: What it shows.
        head: Of its columns; the first names the row.
        rows: Of the same length.
        note: How to read it.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(model: ModelFinding) -> list[Table]:
    """All tables that the model has something for."""
    made = [_looks(model), _heads(model), _needs(model), _replaced(model), _activations(model)]
    return [table for table in made if table is not None]


def value(one: Estimate | None, digits: int = 2) -> str:
    """A mean with its interval where there is one: ``0.52 [0.48, 0.55]``.

    >>> value(Estimate(0.5, 0.4, 0.6, 9)), value(Estimate(0.5, float("nan"), float("nan"), 1)), value(None)
    ('0.50 [0.40, 0.60]', '0.50', '–')
    """
    if one is None or one.value != one.value:
        return "–"
    text = f"{one.value:.{digits}f}"
    if one.low == one.low:
        text += f" [{one.low:.{digits}f}, {one.high:.{digits}f}]"
    return text.replace("-", "−").replace("−0.00", "0.00")


def _looks(model: ModelFinding) -> Table:
    names = list(dict.fromkeys(key for site in model.sites for key in site.measures if key.startswith("g.")))
    head = (
        "site",
        "kind",
        *(glossary.measure(key[2:], "").title for key in names),
        "input share",
        "dead",
        "open",
        "unused",
    )
    rows = tuple(
        (site.name, site.kind, *(value(site.measures.get(key)) for key in names), *_gate(site)) for site in model.sites
    )
    note = (
        "Means over images, 95 % intervals. Input share: how much of the variance of g the input explains. Dead and "
        "open: entries that are at most 0.01, or at least 0.99, for every image. Unused: channels that carry nothing."
    )
    return Table("How sparse it looks", head, rows, note)


def _gate(site: SiteFinding) -> tuple[str, str, str, str]:
    share = "–" if site.input_share != site.input_share else f"{site.input_share:.2f}"
    return share, _of(site.dead, site.entries), _of(site.saturated, site.entries), _of(site.never_used, site.channels)


def _of(part: int | None, whole: int | None) -> str:
    return "–" if part is None or whole is None else f"{part}/{whole}"


def _heads(model: ModelFinding) -> Table | None:
    rows = tuple(
        (
            site.name, str(h.count), str(h.distinct), f"{h.cosine:.2f}", f"{h.jensen_shannon:.2f}", f"{h.cka:.2f}",
            f"{h.sinks}/{h.count}", f"{h.strongest_key:.2f}",
        )
        for site in model.sites
        if (h := site.heads) is not None
    )  # fmt: skip
    if not rows:
        return None
    head = ("site", "heads", "distinct", "cosine", "JS, bits", "CKA", "with a sink", "strongest key")
    note = (
        "Distinct: clusters of heads with a mean cosine of 0.9 or more. A sink takes more than 0.3 of the mean query."
    )
    return Table("Heads and sinks", head, tuple(tuple(c.replace("nan", "–") for c in row) for row in rows), note)


def _needs(model: ModelFinding) -> Table | None:
    scopes = [one for one in model.causal if one.needed is not None]
    if not scopes:
        return None
    head = ("site", "needed", "looks", "gap", "area, strongest", "area, random", "area, weakest")
    note = (
        "Needed: smallest share of g, strongest first, that keeps 95 % of the answer's probability. Looks: share that "
        "holds 95 % of the strength. Gap: looks − needed. Areas under the curve of the probability."
    )
    return Table("How sparse it may be", head, tuple(map(_need, scopes)), note)


def _need(one: CausalFinding) -> tuple[str, ...]:
    areas = (value(one.areas.get(order)) for order in ("strongest", "random", "weakest"))
    return (one.scope, value(one.needed), value(one.looks), value(one.gap), *areas)


def _replaced(model: ModelFinding) -> Table | None:
    scopes = [one for one in model.causal if one.replaced]
    if not scopes:
        return None
    keys = [f"{name}.{what}" for name in ("uniform", "mean", "other") for what in ("kl", "top1")]
    titles = {"kl": "KL", "top1": "top-1"}
    head = ("site", *(f"{key.split('.')[0]}: {titles[key.split('.')[1]]}" for key in keys))
    rows = tuple((one.scope, *(value(one.replaced.get(key)) for key in keys)) for one in scopes)
    note = (
        "g replaced by one without preference, by its mean over the images, by another image's. KL in nats; a KL of 0 "
        "and a top-1 of 1 mean that it was not needed."
    )
    return Table("Is it needed as it is?", head, rows, note)


def _activations(model: ModelFinding) -> Table | None:
    found = {**{site.name: site.measures for site in model.sites}, **model.activations}
    keys = [f"{part}.{name}" for name in ("gini", "near_zero_share") for part in ("before", "after")]
    rows = tuple(
        (name, *(value(m.get(key)) for key in keys)) for name, m in found.items() if any(key in m for key in keys)
    )
    if not rows:
        return None
    titles = (f"{glossary.measure(key.split('.')[1], '').title}, {key.split('.')[0]}" for key in keys)
    return Table(
        "Activations", ("site or nonlinearity", *titles), rows, "From 4,096 evenly spread values of each image."
    )
