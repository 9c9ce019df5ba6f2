"""What a figure shows, in bands: attributions, attention of each kind, and what a kind shows in its own terms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np

from attnviz.report.components import StaticImage
from attnviz.report.core import glossary
from attnviz.report.core.colours import overlay
from attnviz.report.core.document import ClipView, Document, backdrop_of, shows_bounded_gate
from attnviz.report.core.formatting import number
from attnviz.report.core.map_view import MapView

MOST_ATTENTION_MAPS = 16
MOST_IMAGES = 8


def bands_of(document: Document) -> list[tuple[str, list[MapView | None]]]:
    """The photograph and the attributions, then the attention of each kind."""
    bands: list[tuple[str, list[MapView | None]]] = [("Attribution", [None, *document.of_kind("attribution")])]
    sites = {site.name: site for site in document.sites}
    kinds = {name: glossary.kind(site.kind).title for name, site in sites.items()}
    attention = chosen(document.of_kind("attention"))
    for view in attention:
        kinds.setdefault(view.name, glossary.kind(glossary.JOINED.get(view.method, "")).title)
    for kind in dict.fromkeys(kinds[view.name] for view in attention):
        members = [view for view in attention if kinds[view.name] == kind]
        header = f"Attention g(x), {kind}" if kind else "Attention g(x)"
        if all(shows_bounded_gate(view, sites[view.name]) for view in members if view.name in sites):
            header += "; a gate lies between 0 and 1, each colour scale spans what it takes of that"
        bands.append((header, [*members]))
    return bands


def own_terms(document: Document) -> list[tuple[str, list[StaticImage]]]:
    """For each kind that has more to show than maps: the pictures of its last site."""
    last = {site.kind: site for site in document.sites}
    backdrop, bands = backdrop_of(document), []
    for kind, site in last.items():
        static_images = [
            static_image for component in site.components for static_image in component.static_images(backdrop)
        ][:MOST_IMAGES]
        if static_images:
            bands.append((f"{glossary.kind(kind).title.capitalize()} at {site.name}", static_images))
    return bands + ([] if document.clip is None else _frames(document.clip))


def _frames(clip: ClipView) -> list[tuple[str, list[StaticImage]]]:
    """The map that an animation shows, over each of up to :data:`MOST_IMAGES` frames."""
    maps = clip.best()
    if maps is None:
        return []
    chosen = np.unique(np.linspace(0, len(clip.frames) - 1, min(MOST_IMAGES, len(clip.frames))).round().astype(int))
    static_images = []
    for frame in chosen:
        note = f"{clip.weights[frame]:.3f}" if clip.weights.size else ""
        pixels = overlay(clip.frames[frame], maps.of(int(frame)), 0.6)
        static_images.append(StaticImage(f"{clip.seconds[frame]:.2f} s", pixels, note))
    title = glossary.method(maps.name).title if maps.kind == "attribution" else maps.name
    under = f"; under each its {clip.weighs}" if clip.weights.size else ""
    return [
        (f"Frame by frame: {title}, on one scale from {number(maps.low)} to {number(maps.high)}{under}", static_images)
    ]


def chosen(maps: tuple[MapView, ...]) -> list[MapView]:
    """At most sixteen attention maps, spread evenly from the first to the last.

    The page and the JSON file show all of them.
    """
    if len(maps) <= MOST_ATTENTION_MAPS:
        return list(maps)
    return [maps[i] for i in np.linspace(0, len(maps) - 1, MOST_ATTENTION_MAPS).round().astype(int)]


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Dotted paths without the parts that all of them share, so that they fit over a tile.

    >>> short_names(["blocks.4.0.gate.channel", "blocks.5.1.gate.spatial"])
    {'blocks.4.0.gate.channel': '4.0.channel', 'blocks.5.1.gate.spatial': '5.1.spatial'}
    >>> short_names(["se"])
    {'se': 'se'}
    """
    parts = [name.split(".") for name in names]
    if len(set(map(len, parts))) == 1 and len(parts) > 1:
        kept = [i for i, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
        return {name: ".".join(one[i] for i in kept) or name for name, one in zip(names, parts, strict=True)}
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False))
    shared = sum(1 for _ in alike) if len(parts) > 1 else 0
    return {name: ".".join(one[shared:]) or name for name, one in zip(names, parts, strict=True)}


def label(view: MapView, document: Document) -> str:
    """What a tile or a row is called."""
    if view.kind == "attribution":
        return glossary.method(view.name).title
    if view.method in glossary.JOINED:
        return "together"
    return cut(short_names([site.name for site in document.sites]).get(view.name, view.name))


def cut(name: str, most: int = 24) -> str:
    """The end of a long name."""
    return name if len(name) <= most else "…" + name[-most:]
