"""The positions of the outputs of all modules on the image plane, from one traced forward pass."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from attnviz._compat import without_dispatch_modes
from attnviz.core.token_layout import Tokens
from attnviz.instrumentation.dispatch import disabled
from attnviz.instrumentation.operations import LEARNED, SLICING, TRANSPARENT
from attnviz.tracing.find import trace
from attnviz.tracing.graph import Node, input_tensors
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
    """The positions of the output of each call of a module, for images of one size.

    The account is that of the layouts of attention sites: a value whose positions depend on the data has none.

    Args:
        model: Any PyTorch model; it runs once, in eval mode.
        inputs: Its positional inputs.
        image: The images among the inputs; by default the first tensor of 4 or 5 axes.
        kwargs: Its named inputs.

    Raises:
        CaptureError: the model has parts whose operations cannot be traced.
    """

    def __init__(self, model: nn.Module, *inputs: Any, image: Tensor | None = None, **kwargs: Any) -> None:
        tensors = input_tensors((inputs, kwargs))
        number = next((n for n, tensor in enumerate(tensors) if tensor is image), None)
        graph = trace(model, *inputs, **kwargs)
        with disabled(), without_dispatch_modes():
            self._tracker = PositionTracker(graph, number)
        self._nodes = graph.outputs

    def _node(self, path: str, call: int) -> Node | None:
        calls = self._nodes.get(path, [])
        return calls[call] if call < len(calls) else None

    def _of(self, path: str, call: int) -> Positions | None:
        """The positions of the output of a call; ``None`` if they are unknown."""
        node = self._node(path, call)
        with disabled(), without_dispatch_modes():
            return None if node is None else self._tracker.of(node)

    def has_none(self, path: str, call: int = 0) -> bool:
        """Whether the output of a call is known to have no positions, such as class tokens or a pooled vector."""
        positions = self._of(path, call)
        return positions is not None and positions.plane is None

    def is_embedding(self, path: str, call: int = 0) -> bool:
        """Whether the output of a call is an embedding of patches: one learned, linear operation on each patch."""
        learned = []
        start = self._node(path, call)
        for node in () if start is None else ancestors(start):
            if node.name in LEARNED:
                learned.append(node)
            elif node.name not in _LINEAR:
                return False
        return len(learned) == 1 and _embeds_patches(learned[0])

    def is_plane(self, path: str, first: int, last: int, call: int = 0) -> bool:
        """Whether the output of a call holds the image, or the volume, in the axes from ``first`` to ``last``."""
        positions = self._of(path, call)
        if positions is None or positions.plane is None:
            return False
        flat = Positions(positions.code.flatten(first, last), positions.plane)
        tokens = tokens_of_output(flat, first)
        size = tuple(positions.code.shape[first : last + 1])
        return tokens is not None and tokens.grid == (1, *size)[-3:] and tokens.is_whole and tokens.prefix == 0

    def tokens(self, path: str, axis: int, call: int = 0) -> Tokens | None:
        """The tokens of the output of a call along an axis; ``None`` if they have no positions."""
        return tokens_of_output(self._of(path, call), axis)
