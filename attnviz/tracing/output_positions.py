"""The positions of the outputs of all modules on the image plane, from one traced forward pass."""

from __future__ import annotations

from typing import Any

from torch import nn

from attnviz._compat import without_dispatch_modes
from attnviz.core.token_layout import Tokens
from attnviz.instrumentation.dispatch import disabled
from attnviz.instrumentation.operations import LEARNED, SLICING, TRANSPARENT
from attnviz.tracing.find import trace
from attnviz.tracing.graph import Node
from attnviz.tracing.position_codes import Positions
from attnviz.tracing.provenance import ancestors
from attnviz.tracing.site_layouts import tokens_of_output
from attnviz.tracing.token_positions import PositionTracker

_NORMS = frozenset("layer_norm rms_norm batch_norm group_norm".split())
_LINEAR = TRANSPARENT | SLICING | _NORMS | {"input", "add", "sub", "cat", "pad", "unfold"}


def _embeds_patches(node: Node) -> bool:
    """Whether a learned operation has one result for each patch of the image."""
    if node.name == "linear":
        return True  # its operand are patches: an image has no features in its last axis
    before, kernel = node.parents[0].shape[2:], node.parents[1].shape[2:]
    strides = tuple(whole // part for whole, part in zip(before, node.shape[2:], strict=False))
    return len(strides) == len(kernel) > 0 and strides == kernel != (1,) * len(kernel)


class OutputPositions:
    """The positions of the output of the last call of each module, for images of one size.

    The account is that of the layouts of attention sites: a value whose positions depend on the data has none.

    Args:
        model: Any PyTorch model; it runs once, in eval mode.
        inputs: Its inputs.

    Raises:
        CaptureError: the model has parts whose operations cannot be traced.
    """

    def __init__(self, model: nn.Module, *inputs: Any) -> None:
        graph = trace(model, *inputs)
        with disabled(), without_dispatch_modes():
            tracker = PositionTracker(graph)
            self._found: dict[str, Positions | None] = {path: tracker.of(node) for path, node in graph.outputs.items()}
        self._nodes = graph.outputs

    def has_none(self, path: str) -> bool:
        """Whether the output of a module is known to have no positions, such as class tokens or a pooled vector."""
        positions = self._found.get(path)
        return positions is not None and positions.plane is None

    def is_embedding(self, path: str) -> bool:
        """Whether the output of a module is an embedding of patches: one learned, linear operation on each patch."""
        learned = []
        for node in ancestors(self._nodes[path]) if path in self._nodes else ():
            if node.name in LEARNED:
                learned.append(node)
            elif node.name not in _LINEAR:
                return False
        return len(learned) == 1 and _embeds_patches(learned[0])

    def is_plane(self, path: str, rows: int, columns: int) -> bool:
        """Whether the output of a module holds a plane of the image in two axes, row by row."""
        positions = self._found.get(path)
        if positions is None or positions.plane is None:
            return False
        flat = Positions(positions.code.flatten(rows, columns), positions.plane)
        tokens = tokens_of_output(flat, rows)
        size = tuple(positions.code.shape[axis] for axis in (rows, columns))
        return tokens is not None and tokens.grid == (1, *size) and tokens.is_whole and tokens.prefix == 0

    def tokens(self, path: str, axis: int) -> Tokens | None:
        """The tokens of the output of a module along an axis; ``None`` if they have no positions."""
        return tokens_of_output(self._found.get(path), axis)
