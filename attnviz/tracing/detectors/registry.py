"""The registry of recognisers: each decides whether one operation of a forward pass applies a ``g``."""

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
        use: How to read ``g`` and ``x`` from the operands, and ``f``.
        g: The node of the operand ``g``; the queries if the operation computes ``g`` internally.
        x: The node of ``x``.
        squash: Name of the bounded function that computed ``g``; ``None`` if ``g`` is unbounded.
        hidden: The other operands of ``g``, such as keys, if the operation computes ``g`` internally.
        implied: Whether the model never computes ``g``, as in linear attention, whose output equals that of such a map.
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
