"""The tables of a sparsity study, for the terminal and the page."""

from operator import add
from typing import NamedTuple

from attnviz.core.glossary import title
from attnviz.core.intervals import Interval
from attnviz.core.sparsity_results import ModelFinding, SiteFinding


class Table(NamedTuple):
    """A table of texts.

    Attributes:
        title: Title.
        head: Column titles; the first column names the row.
        rows: Rows of the length of ``head``.
        note: How to read the table.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(model: ModelFinding) -> list[Table]:
    """Return the tables for which the model has data."""
    made = [_sparsity(model), _heads(model), _needed(model), _replaced(model), _activations(model)]
    return [table for table in made if table is not None]


def value(one: Interval | None, digits: int = 2) -> str:
    """Format a mean with its interval, if there is one: ``0.52 [0.48, 0.55]``.

    >>> value(Interval(0.5, 0.4, 0.6, 9)), value(Interval(0.5, float("nan"), float("nan"), 1)), value(None)
    ('0.50 [0.40, 0.60]', '0.50', '–')
    """
    if one is None or one.value != one.value:
        return "–"
    text = f"{one.value:.{digits}f}"
    if one.low == one.low:
        text += f" [{one.low:.{digits}f}, {one.high:.{digits}f}]"
    return text.replace("-", "−").replace("−0.00", "0.00")


def _sparsity(model: ModelFinding) -> Table:
    names = list(dict.fromkeys(key for site in model.sites for key in site.measures if key.startswith("g.")))
    titles = (title("measure", key.removeprefix("g.")) for key in names)
    head = ("site", "kind", *titles, "input share", "dead", "open", "unused")
    rows = tuple(
        (site.name, site.kind, *(value(site.measures.get(key)) for key in names), *_gate(site)) for site in model.sites
    )
    note = (
        "Means over images with 95 % intervals. Input share: share of the variance of g that the input explains. Dead "
        "and open: entries that are at most 0.01, or at least 0.99, for every image. Unused: channels whose output is "
        "nearly 0 for every image."
    )
    return Table("Sparsity of g", head, rows, note)


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
        "Distinct: clusters of heads with a mean cosine of 0.9 or more. Sink: a key that receives more than 0.3 of the "
        "attention of the mean query."
    )
    return Table("Heads and sinks", head, tuple(tuple(c.replace("nan", "–") for c in row) for row in rows), note)


def _needed(model: ModelFinding) -> Table | None:
    scopes = [one for one in model.causal if one.needed is not None]
    if not scopes:
        return None
    head = ("site", "needed", "strong", "gap", "area, strongest", "area, random", "area, weakest")
    note = (
        "Needed: smallest share of g, strongest first, that keeps 95 % of the predicted class's probability, or of the "
        "score of another target. Strong: "
        "share of g that holds 95 % of the strength. Gap: strong − needed. Areas are under the probability curves."
    )
    areas = [tuple(value(one.areas.get(order)) for order in ("strongest", "random", "weakest")) for one in scopes]
    rows = ((one.scope, value(one.needed), value(one.looks), value(one.gap)) for one in scopes)
    return Table("Share of g that is needed", head, tuple(map(add, rows, areas)), note)


def _replaced(model: ModelFinding) -> Table | None:
    scopes = [one for one in model.causal if one.replaced]
    if not scopes:
        return None
    names = dict.fromkeys(key.partition(".")[0] for one in scopes for key in one.replaced)
    titles = {"kl": "KL", "top1": "top-1", "score": "score"}
    found = [what for what in titles if any(key.endswith(f".{what}") for one in scopes for key in one.replaced)]
    columns = [(name, what) for name in names for what in found]
    head = ("site", *(f"{name}: {titles[what]}" for name, what in columns))
    rows = tuple((one.scope, *(value(one.replaced.get(f"{name}.{what}")) for name, what in columns)) for one in scopes)
    note = (
        "Change of the predictions if g is replaced: uniform by a uniform g, mean by its mean over the images, other "
        "by the g of another image. KL in nats. A KL of 0 and a top-1 of 1, or a score of 1, mean that g is not needed."
    )
    return Table("Effect of replacing g", head, rows, note)


def _activations(model: ModelFinding) -> Table | None:
    found = {**{site.name: site.measures for site in model.sites}, **model.activations}
    columns = [(part, name) for name in ("gini", "near_zero_share") for part in ("before", "after")]
    keys = [f"{part}.{name}" for part, name in columns]
    rows = tuple(
        (name, *(value(m.get(key)) for key in keys)) for name, m in found.items() if any(key in m for key in keys)
    )
    if not rows:
        return None
    titles = (f"{title('measure', name)}, {part}" for part, name in columns)
    note = "From 4,096 evenly spaced values of each image."
    return Table("Activations", ("site or nonlinearity", *titles), rows, note)
