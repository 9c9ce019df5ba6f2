"""``report.html``: one file with everything inside, which opens anywhere without a network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2

from attnviz.core.records import Score
from attnviz.report.components import Backdrop, Component
from attnviz.report.components.base import name_of
from attnviz.report.core import glossary
from attnviz.report.core.colours import OPACITY, data_uri, gradient_css, jpeg_uri, overlay
from attnviz.report.core.document import ClipView, Document, SiteView, backdrop_of
from attnviz.report.core.formatting import number, scale_ends
from attnviz.report.core.map_view import CLIP_PERCENTILE
from attnviz.report.core.templating import template
from attnviz.report.core.viewer_data import GROUPS, palettes, title_of, views_of
from attnviz.report.explanation.gif import animated, picture_of

TILE_PX = 224
FRAME_TILE_PX = 112
_PARTS = {"g": "g", "x": "before", "y": "after"}


def write(document: Document, path: Path) -> None:
    """Write ``report.html``."""
    path.write_text(render(document), encoding="utf-8")


def render(document: Document) -> str:
    """The page."""
    views = views_of(document)
    return template("report.html.j2").render(
        document=document,
        picture=jpeg_uri(document.picture),
        views=views,
        first=_first(views),
        groups=_groups(document, views),
        data=_data(document, views),
        sites=[_site(site, document) for site in document.sites],
        site_measures=[glossary.measure(name, "") for name in document.measures_of_sites()],
        site_rows=_site_rows(document),
        parts=[part for part in _PARTS.values() if _has_part(document, part)],
        kinds=_kinds(document),
        clip=None if document.clip is None else _clip(document.clip),
        agreement=_agreement(document),
        glossary=_glossary(document),
        settings=_settings(document),
        command=_command(document),
        opacity=round(OPACITY * 100),
        clip_percentile=CLIP_PERCENTILE,
    )


def _data(document: Document, views: list[dict[str, Any]]) -> dict[str, Any]:
    """What the page's scripts read."""
    first = _first(views)
    return {
        "views": views,
        "first": first["name"] if first else "",
        "palettes": palettes(document.maps),
        "groups": GROUPS,
    }


def _first(views: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The map shown first: the last spatial attention, or else the first attribution."""
    spatial = [view for view in views if view["weighs"] == "spatial"]
    return next(iter(spatial[::-1] or [view for view in views if view["kind"] == "attribution"] or views), None)


def _groups(document: Document, views: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The maps of each kind, each with a small picture of it laid over the photograph."""
    picture = cv2.resize(document.picture, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA)
    tiles = [
        facts | {"tile": jpeg_uri(overlay(picture, view), 84)} for facts, view in zip(views, document.maps, strict=True)
    ]
    groups = [(title, [tile for tile in tiles if tile["kind"] == kind]) for kind, title in GROUPS.items()]
    return [(title, members) for title, members in groups if members]


def _site(site: SiteView, document: Document) -> dict[str, Any]:
    return {
        "name": site.name,
        "type_name": site.type_name,
        "kind": glossary.kind(site.kind).title,
        "shape": " × ".join(str(n) for n in site.shape[1:]),
        "range": f"{number(site.low)} … {number(site.high)}",
        "mean": number(site.mean),
        "squash": site.squash or "none",
        "error": f"{site.error:.0e}",
        "where": site.where,
    }


def _site_rows(document: Document) -> list[dict[str, Any]]:
    """For each site and measure: the values of ``g``, of the activations before and after."""
    table = document.measures_of_sites()
    return [
        {
            "name": site.name,
            "cells": [
                _cell(scores.get((site.name, part)))
                for scores in table.values()
                for part, title in _PARTS.items()
                if _has_part(document, title)
            ],
        }
        for site in document.sites
    ]


def _has_part(document: Document, title: str) -> bool:
    part = next(key for key, value in _PARTS.items() if value == title)
    return any(subject[1] == part for scores in document.measures_of_sites().values() for subject in scores)


def _cell(score: Score | None, digits: int = 2) -> dict[str, str]:
    """Text, tint and tooltip of a number in a table."""
    if score is None:
        return {"text": "", "tint": "0", "sign": "up", "why": ""}
    if math.isnan(score.value):
        return {"text": "–", "tint": "0", "sign": "up", "why": score.why or "undefined"}
    tint = min(1.0, abs(score.value)) if score.low >= -1 and score.high <= 1 else 0.0
    text = f"{score.value:.{digits}f}".replace("-", "−")
    text = text.lstrip("−") if float(score.value) > -0.5 * 10**-digits else text
    return {"text": text, "tint": f"{tint:.2f}", "sign": "down" if score.value < 0 else "up", "why": ""}


def _kinds(document: Document) -> list[dict[str, Any]]:
    """Each kind of attention, in the order of the forward pass, with what its sites put on display."""
    backdrop = backdrop_of(document)
    kinds: dict[str, dict[str, Any]] = {}
    for place, site in enumerate(document.sites, 1):
        if site.components:
            kind = kinds.setdefault(site.kind, {"name": site.kind, "meaning": glossary.kind(site.kind), "sites": []})
            shown = [_component(component, backdrop) for component in site.components]
            kind["sites"].append({**_site(site, document), "id": f"site-{place}", "components": shown})
    return list(kinds.values())


def _component(component: Component, backdrop: Backdrop) -> dict[str, Any]:
    facts = {
        "template": f"components/{name_of(component)}.html.j2",
        "title": component.title,
        "caption": component.caption,
    }
    return facts | component.view(backdrop)


def _clip(clip: ClipView) -> dict[str, Any]:
    """The animation, and for each map a row of frames."""
    small = [cv2.resize(frame, (FRAME_TILE_PX, FRAME_TILE_PX), interpolation=cv2.INTER_AREA) for frame in clip.frames]
    names = [f"{second:.2f} s" for second in clip.seconds]
    top = max(float(clip.weights.max(initial=0.0)), 1e-30)
    best = clip.best()
    return {
        "gif": data_uri(animated(clip), "image/gif"),
        "still": jpeg_uri(picture_of(clip, clip.shown)),
        "animated": "" if best is None else title_of(best),
        "total": clip.total,
        "names": names,
        "shown": clip.shown,
        "weighs": clip.weighs,
        "weights": [(number(float(one)), f"{100 * float(one) / top:.1f}") for one in clip.weights],
        "frames": [jpeg_uri(frame, 80) for frame in small],
        "rows": [
            {
                "title": title_of(maps),
                "kind": maps.kind,
                "uris": [jpeg_uri(overlay(frame, maps.of(at), 0.6), 78) for at, frame in enumerate(small)],
                "gradient": gradient_css(maps.of(0)),
                "ends": scale_ends(maps.of(0)),
            }
            for maps in clip.maps
        ],
    }


def _agreement(document: Document) -> list[dict[str, Any]]:
    """For each measure: the matrix of maps × maps."""
    matrices = []
    for measure, scores in document.measures_between_maps().items():
        any_score = next(iter(scores.values()))
        rows = [
            {
                "title": title_of(a),
                "cells": [None if a is b else _cell(scores.get((a.name, b.name))) for b in document.maps],
            }
            for a in document.maps
        ]
        meaning = glossary.measure(measure, any_score.higher_is)
        matrices.append({"id": measure, "meaning": meaning, "rows": rows, "low": any_score.low, "high": any_score.high})
    return matrices


def _glossary(document: Document) -> list[tuple[str, list[glossary.Meaning]]]:
    between = {score.measure: score.higher_is for score in document.scores}
    kinds = dict.fromkeys(site.kind for site in document.sites)
    groups = [
        ("Attribution methods", [glossary.method(view.name) for view in document.of_kind("attribution")]),
        ("Kinds of attention", [glossary.kind(kind) for kind in kinds]),
        ("Numbers", [glossary.measure(name, higher_is) for name, higher_is in between.items()]),
    ]
    return [(title, members) for title, members in groups if members]


def _settings(document: Document) -> list[tuple[str, str]]:
    rows = []
    for key, value in document.settings.items():
        if isinstance(value, dict):
            text = ", ".join(f"{name} {one}" for name, one in value.items())
        elif key == "image_size":
            text = f"{value[1]} × {value[0]} px"
        elif isinstance(value, list | tuple):
            text = ", ".join(str(one) for one in value)
        else:
            text = str(value)
        rows.append((key.replace("_", " "), text))
    return rows


def _command(document: Document) -> str:
    """The command that makes this report again; empty where there is none.

    None stands for pixels in place of a file, for a model that was given as an object, or for no attribution at all.
    """
    import shlex

    settings = document.settings
    if not (document.image and settings.get("model") and settings.get("methods", True)):
        return ""
    words = ["attnviz", "explain", document.image, "--model", settings["model"]]
    words += ["--target", str(document.target.index)]
    for key in ("weights", "sites", "seed", "frames"):
        if key in settings:
            words += [f"--{key}", str(settings[key])]
    if "methods" in settings:
        words += ["--methods", ",".join(settings["methods"])]
    return shlex.join(words)
