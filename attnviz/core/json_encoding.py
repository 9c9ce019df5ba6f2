"""Results as what ``json`` can write."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def to_plain(value: Any, digits: int | None = None) -> Any:
    """Dataclasses, mappings and sequences as dictionaries and lists; a number that is not finite as ``None``.

    Args:
        value: Anything; what ``json`` cannot write becomes text.
        digits: Significant digits of floating-point numbers; all by default.

    >>> to_plain({"a": (1, float("nan"), 0.123456)}, digits=3)
    {'a': [1, None, 0.123]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_plain(getattr(value, item.name), digits) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(one, digits) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(one, digits) for one in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if digits is None else float(f"{value:.{digits}g}")
    return value if value is None or isinstance(value, bool | int | str) else str(value)
