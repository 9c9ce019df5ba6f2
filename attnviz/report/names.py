"""How names that others chose, such as those of files, are shown."""

from __future__ import annotations

import re

_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def visible(text: str) -> str:
    r"""A name whose letters all show: what breaks lines, turns the direction of text or has no width is spelt out.

    Otherwise a name may look like another one, such as ``cat<U+202E>gnp.exe``, which looks like ``catexe.png``.

    >>> visible("a\nb\u202egnp.exe"), visible("\u732b.jpg") == "\u732b.jpg"
    ('a\\nb\\u202egnp.exe', True)
    """
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
