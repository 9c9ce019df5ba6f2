"""How numbers are written for people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnviz.report.core.map_view import MapView
import re


def number(value: float) -> str:
    """Three digits or the whole part, with a true minus sign; a dash for what is undefined.

    >>> number(0.12345), number(0.0000123), number(-2.0), number(1234.5), number(float("nan"))
    ('0.123', '1.2e-05', '−2', '1234', '–')
    """
    if not math.isfinite(value):
        return "–"
    if 0 < abs(value) < 1e-3 or abs(value) >= 1e5:
        text = f"{value:.1e}"
    else:
        text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−", 1) if value < 0 else text


def scale_ends(view: MapView) -> tuple[str, str, str]:
    """What stands at the low end, in the middle and at the high end of a map's colour scale."""
    low, high = number(view.low), number(view.high)
    if low == high:
        return "", f"{low} everywhere", ""
    if not view.clipped:
        return low, "0" if view.signed else "", high
    return (f"≤ {low}", "0", f"≥ {high}") if view.signed else (low, "", f"≥ {high}")


_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def visible(text: str) -> str:
    r"""A name whose letters all show: what breaks lines, turns the direction of text or has no width is spelt out.

    Otherwise a name may look like another one, such as ``cat<U+202E>gnp.exe``, which looks like ``catexe.png``.

    >>> visible("a\nb\u202egnp.exe"), visible("\u732b.jpg") == "\u732b.jpg"
    ('a\\nb\\u202egnp.exe', True)
    """
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
