"""Data of the map viewer of a page: titles, colour scales, and how colours convert to values."""

from collections.abc import Iterable
from typing import Any

from attnviz.core.glossary import meaning, meaning_of_map, title
from attnviz.report.core.colours import gradient_css, lookup, map_uri, palette
from attnviz.report.core.document import Document, SiteView, shows_bounded_gate
from attnviz.report.core.formatting import number, scale_ends
from attnviz.report.core.map_view import MapView
from attnviz.report.core.packing import packed

GROUPS = {"attention": "Attention g(x)", "attribution": "Attribution"}
"""Headings of the kinds of maps."""


def views_of(document: Document) -> list[dict[str, Any]]:
    """Return the viewer's data of every map of a document."""
    sites = {site.name: (number, site) for number, site in enumerate(document.sites, 1)}
    return [_view(view, *sites.get(view.name, (0, None))) for view in document.maps]


def _view(view: MapView, site_number: int, site: SiteView | None) -> dict[str, Any]:
    attribution = view.kind == "attribution"
    about = meaning_of_map(view.name, view.kind) if attribution or site is None else meaning("kind", site.kind)
    return {
        "name": view.name,
        "title": title_of(view),
        "subtitle": _subtitle(view, site, about.title),
        "kind": view.kind,
        "site_kind": "" if attribution or site is None else site.kind,
        "uri": map_uri(view),
        "gradient": gradient_css(view),
        "means": about.means,
        "not_means": about.not_means,
        "more": f"site-{site_number}" if site is not None and site.components else "",
        **scale_of(view),
    }


def scale_of(view: MapView) -> dict[str, Any]:
    """Return the colour scale of a map: the labels of its ends, and the values between which its 256 steps lie."""
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
    """Return the colour scales of the maps: 256 RGB colours each, as base64."""
    one_of_each = {palette(view): view for view in views}
    return {name: packed(lookup(view)) for name, view in one_of_each.items()}


def title_of(view: MapView) -> str:
    """Return the title of a map: the name of the attribution method, or of the site."""
    return title("method", view.name) if view.kind == "attribution" else view.name


def _subtitle(view: MapView, site: SiteView | None, kind: str) -> str:
    if view.kind == "attribution":
        return "at the pixels" if view.source in {"", "input"} else f"at {view.source}"
    if shows_bounded_gate(view, site):
        return f"{kind}; the colours span {number(view.low)} to {number(view.high)} of the range 0 to 1"
    return kind
