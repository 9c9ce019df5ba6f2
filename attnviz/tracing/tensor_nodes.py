"""The node of each tensor of a traced forward pass."""

from __future__ import annotations

import weakref

from torch import Tensor

from attnviz.tracing.graph import Node


class TensorNodes:
    """A mapping from tensors to nodes, by identity; it keeps no tensor alive.

    A trace looks up each operand of each operation several times, so the key is the plain ``id``. PyTorch's
    ``WeakTensorKeyDictionary`` creates a reference for each look-up, which is slower.
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Tensor], Node]] = {}

    def get(self, tensor: Tensor) -> Node | None:
        """The node of ``tensor``; ``None`` if it has none."""
        entry = self._entries.get(id(tensor))
        # The id of a tensor that was freed can be that of a new one.
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def __setitem__(self, tensor: Tensor, node: Node) -> None:
        self._entries[id(tensor)] = weakref.ref(tensor), node
