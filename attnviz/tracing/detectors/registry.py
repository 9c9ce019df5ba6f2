"""The table of recognisers: each looks at one operation of a forward pass and says whether it applies a ``g``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attnviz.core.records import Kind
from attnviz.core.registry import Registry
from attnviz.core.uses import Use
from attnviz.tracing.graph import Graph, Node


@dataclass(frozen=True, slots=True)
class Finding:
    """An operation that applies a ``g``.

    Attributes:
        kind: What ``g`` weighs.
        use: How ``g`` and ``x`` are read from the operation, and used.
        g: The node of ``g``'s operand.
        x: The node of ``x``.
        squash: The bounded function that ``g`` comes from.
        hidden: What else ``g`` is made from, where the operation makes it inside and ``g`` names the queries.
        implied: Whether the model never computes ``g``, also not inside: its result is only that of such a map.
    """

    kind: Kind
    use: Use
    g: Node
    x: Node
    squash: str | None = None
    hidden: tuple[Node, ...] = ()
    implied: bool = False


Recogniser = Callable[[Graph, Node], Finding | None]

RECOGNISERS: Registry[Recogniser] = Registry("recogniser", home="attnviz.tracing.detectors", group="attnviz.detectors")
