"""What the viewer of a page needs of each map: its words, its colours, and its numbers under a cursor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attnviz.report.core import glossary
from attnviz.report.core.colours import gradient_css, lookup, map_uri, palette
from attnviz.report.core.document import Document, SiteView, shows_bounded_gate
from attnviz.report.core.formatting import number, scale_ends
from attnviz.report.core.map_view import MapView
from attnviz.report.core.packing import packed

GROUPS = {"attention": "Attention g(x)", "attribution": "Attribution"}
"""What the kinds of maps are called over the list to choose from."""


def views_of(document: Document) -> list[dict[str, Any]]:
    """Every map of a document, as the viewer takes it."""
    sites = {site.name: (number, site) for number, site in enumerate(document.sites, 1)}
    return [_view(view, *sites.get(view.name, (0, None))) for view in document.maps]


def _view(view: MapView, place: int, site: SiteView | None) -> dict[str, Any]:
    attribution = view.kind == "attribution"
    about = glossary.method(view.name) if attribution or site is None else glossary.kind(site.kind)
    return {
        "name": view.name,
        "title": title_of(view),
        "subtitle": _subtitle(view, site, about.title),
        "kind": view.kind,
        "weighs": "" if attribution or site is None else site.kind,
        "uri": map_uri(view),
        "gradient": gradient_css(view),
        "means": about.means,
        "not_means": about.not_means,
        "more": f"site-{place}" if site is not None and site.components else "",
        **scale_of(view),
    }


def scale_of(view: MapView) -> dict[str, Any]:
    """The colour scale: words at its ends, and how a step of it becomes a number again."""
    low, middle, high = scale_ends(view)
    return {
        "low": low,
        "middle": middle,
        "high": high,
        "from": float(f"{view.low:.6g}"),
        "to": float(f"{view.high:.6g}"),
        "signed": view.signed,
        "clipped": view.clipped,
        "palette": palette(view),
    }


def palettes(views: Iterable[MapView]) -> dict[str, str]:
    """The colour scales that the maps use: 256 colours of three bytes each, in base64."""
    one_of_each = {palette(view): view for view in views}
    return {name: packed(lookup(view)) for name, view in one_of_each.items()}


def title_of(view: MapView) -> str:
    """What people call a map."""
    return glossary.method(view.name).title if view.kind == "attribution" else view.name


def _subtitle(view: MapView, site: SiteView | None, kind: str) -> str:
    """What a map describes, and how much of a gate's range its colours span."""
    if view.kind == "attribution":
        return "at the pixels" if view.source in {"", "input"} else f"at {view.source}"
    if shows_bounded_gate(view, site):
        return f"{kind}; the colours span {number(view.low)} to {number(view.high)} of its 0 to 1"
    return kind
