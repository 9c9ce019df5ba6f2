"""The parts of an axis, such as the rows and columns of ``(H W)``, and what each part runs over."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TypeAlias


class Meaning(enum.Enum):
    """What an axis runs over."""

    BATCH = "images"
    CHANNELS = "channels"
    GROUPS = "groups of channels: heads, radix"
    POSITIONS = "positions"
    FRAMES = "frames"
    BRANCHES = "stacked values"
    SAMPLES = "sampled points, or the neighbours of a position"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an axis.

    Attributes:
        of: What it runs over; an axis number of the value at which the search stopped.
        size: Its length, more than 1.
    """

    of: Meaning | int
    size: int


Parts: TypeAlias = tuple[Part, ...]
"""The parts of one axis, the slowest first; empty for an axis of size 1."""


def heads_in(parts: Parts) -> int:
    """Number of heads or groups per image in a batch axis ``(N heads)``; 1 if the axis holds anything else.

    Windows (Swin) and frames (TimeSformer) in the batch axis are no heads.
    """
    heads = {Meaning.GROUPS, Meaning.CHANNELS}
    if any(part.of not in heads | {Meaning.BATCH} for part in parts):
        return 1
    return math.prod(part.size for part in parts if part.of in heads)
