"""Numbers and names as text."""

import math
import re

from attnviz.report.core.map_view import MapView

_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def number(value: float) -> str:
    """Format a number with three digits or as an integer, with a true minus sign; a dash if it is not finite.

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


def table_cell(value: float, *, bounded: bool = True) -> dict[str, str]:
    """Format a number for a table cell that is tinted by its size.

    Args:
        value: The number; NaN becomes a dash.
        bounded: Whether the number lies in [-1, 1]. Other numbers get no tint.

    Returns:
        ``text``, ``tint`` (0 to 1) and ``sign`` (``"up"`` or ``"down"``).

    >>> table_cell(-0.25), table_cell(-0.001)["text"]
    ({'text': '−0.25', 'tint': '0.25', 'sign': 'down'}, '0.00')
    """
    if math.isnan(value):
        return {"text": "–", "tint": "0", "sign": "up"}
    text = f"{value:.2f}".replace("-", "−")
    tint = min(1.0, abs(value)) if bounded else 0.0
    return {
        "text": text.lstrip("−") if value > -0.005 else text,
        "tint": f"{tint:.2f}",
        "sign": "down" if value < 0 else "up",
    }


def scale_ends(view: MapView) -> tuple[str, str, str]:
    """Return the labels at the low end, the middle and the high end of a map's colour scale."""
    low, high = number(view.low), number(view.high)
    if low == high:
        return "", f"{low} everywhere", ""
    if not view.clipped:
        return low, "0" if view.signed else "", high
    return (f"≤ {low}", "0", f"≥ {high}") if view.signed else (low, "", f"≥ {high}")


def cut_start(name: str, most: int = 24) -> str:
    """Shorten a long name to its last characters.

    >>> cut_start("blocks.5.3.attention", 10)
    '….attention'
    """
    return name if len(name) <= most else "…" + name[-most:]


def cut_middle(text: str, most: int = 44) -> str:
    """Shorten a long text to its first and last characters, with single spaces.

    >>> cut_middle("blocks.5.3.attention.spatial", 16)
    'blocks.….spatial'
    """
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most // 2 - 1]}…{flat[-(most - most // 2) :]}"


def visible(text: str) -> str:
    r"""Escape characters that break lines, change the text direction or have no width.

    Otherwise two names can look the same: ``cat<U+202E>gnp.exe`` is displayed as ``catexe.png``.

    >>> visible("a\nb\u202egnp.exe"), visible("\u732b.jpg") == "\u732b.jpg"
    ('a\\nb\\u202egnp.exe', True)
    """
    return _INVISIBLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
