"""How a layer's output lies on the image plane: channels first, channels last, or tokens with a prefix."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnviz.tracing.output_positions import OutputPositions

Grid = tuple[int, ...]
"""``(h, w)``, or ``(d, h, w)`` of a volume."""


_AXES = {2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}


@dataclass(frozen=True, slots=True)
class FeatureLayout:
    """Which axes of a layer's output are channels and positions.

    Attributes:
        axes: ``"NCHW"``, ``"NHWC"``, ``"NLC"`` or ``"NCL"``; ``L`` are tokens. Of volumes ``"NCDHW"`` and ``"NDHWC"``.
        grid: ``(h, w)``, positions in rows and columns, or ``(d, h, w)``; tokens are in row-major order.
        start: Number of tokens before the first position: class, distillation and register tokens.
    """

    axes: str
    grid: Grid
    start: int = 0

    @property
    def channel_axis(self) -> int:
        """Which axis holds the channels."""
        return self.axes.index("C")

    def as_map(self, values: Tensor) -> Tensor:
        """The layer's output as a feature map, a view where that is possible.

        Args:
            values: ``(n, ...)`` in this layout.

        Returns:
            ``(n, C, h, w)`` or ``(n, C, d, h, w)``; tokens that are no position are left out.
        """
        values = values.movedim(self.channel_axis, 1)
        if "L" not in self.axes:
            return values
        return values.narrow(2, self.start, math.prod(self.grid)).reshape(*values.shape[:2], *self.grid)

    def __str__(self) -> str:
        before = f", {self.start} tokens before them" if self.start else ""
        return f"{self.axes} with {' × '.join(map(str, self.grid))} positions{before}"


def feature_layout(
    path: str, shape: Sequence[int], positions: OutputPositions, call: int = 0, dims: int = 2
) -> FeatureLayout | None:
    """The layout of the output of a module.

    Args:
        path: Path of the module.
        shape: ``(n, ...)`` of its output.
        positions: The positions of the outputs of all modules.
        call: Number of the call of the module.
        dims: Axes of the image: 2, or 3 for a volume.

    Returns:
        The layout; ``None`` if the output holds no positions, only one, or positions that are unknown or depend on the
        data.
    """
    if len(shape) == 2 + dims:
        for axes, first in ((_AXES[dims][0], 2), (_AXES[dims][1], 1)):
            grid = tuple(shape[first : first + dims])
            if math.prod(grid) > 1 and positions.is_plane(path, first, first + dims - 1, call):
                return FeatureLayout(axes, grid)
    for axes, axis in (("NLC", 1), ("NCL", 2)) if len(shape) == 3 else ():
        tokens = positions.tokens(path, axis, call)
        if tokens is None or tokens.size == 1 or (dims == 2 and tokens.grid[0] > 1):
            continue
        start, end = tokens.prefix, tokens.prefix + tokens.size
        row = tokens.positions[0]
        if torch.equal(row[start:end], torch.arange(tokens.size)) and not bool((row[end:] >= 0).any()):
            return FeatureLayout(axes, tokens.grid[-dims:], start)
    return None
