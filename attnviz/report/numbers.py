"""How numbers are written for people."""

import math


def number(value: float) -> str:
    """Three digits, with a true minus sign; a dash for what is undefined.

    >>> number(0.12345), number(0.0000123), number(-2.0), number(float("nan"))
    ('0.123', '1.2e-05', '−2', '–')
    """
    if not math.isfinite(value):
        return "–"
    text = f"{value:.1e}" if 0 < abs(value) < 1e-3 or abs(value) >= 1e5 else f"{value:.3g}"
    return text.replace("-", "−", 1) if value < 0 else text
