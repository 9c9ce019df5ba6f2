"""How a layer's output lies on the image plane: channels first, channels last, or tokens with a prefix."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnviz.tracing.output_positions import OutputPositions

Grid = tuple[int, int]


@dataclass(frozen=True, slots=True)
class FeatureLayout:
    """Which axes of a layer's output are channels and positions.

    Attributes:
        axes: ``"NCHW"``, ``"NHWC"``, ``"NLC"`` or ``"NCL"``; ``L`` are tokens.
        grid: ``(h, w)``, positions in rows and columns; tokens are in row-major order.
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
            ``(n, C, h, w)``; tokens that are no position are left out.
        """
        values = values.movedim(self.channel_axis, 1)
        if "L" not in self.axes:
            return values
        h, w = self.grid
        return values.narrow(2, self.start, h * w).reshape(*values.shape[:2], h, w)

    def __str__(self) -> str:
        before = f", {self.start} tokens before them" if self.start else ""
        return f"{self.axes} with {self.grid[0]} × {self.grid[1]} positions{before}"


def feature_layout(path: str, shape: Sequence[int], positions: OutputPositions) -> FeatureLayout | None:
    """The layout of the output of a module.

    Args:
        path: Path of the module.
        shape: ``(n, ...)`` of its output.
        positions: The positions of the outputs of all modules.

    Returns:
        The layout; ``None`` if the output holds no positions, only one, or positions that are unknown or depend on the
        data.
    """
    if len(shape) == 4:
        for axes, rows in (("NCHW", 2), ("NHWC", 1)):
            if shape[rows] * shape[rows + 1] > 1 and positions.is_plane(path, rows, rows + 1):
                return FeatureLayout(axes, (shape[rows], shape[rows + 1]))
    for axes, axis in (("NLC", 1), ("NCL", 2)) if len(shape) == 3 else ():
        tokens = positions.tokens(path, axis)
        if tokens is None or tokens.size == 1 or tokens.grid[0] > 1:
            continue
        start, end = tokens.prefix, tokens.prefix + tokens.size
        row = tokens.positions[0]
        if torch.equal(row[start:end], torch.arange(tokens.size)) and not bool((row[end:] >= 0).any()):
            return FeatureLayout(axes, tokens.grid[1:], start)
    return None
