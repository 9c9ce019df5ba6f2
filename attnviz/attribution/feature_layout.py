"""How a layer's output lies on the image plane: channels first, channels last, or tokens with a prefix."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

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


def feature_layout(
    shape: Sequence[int], size: Grid, grids: Sequence[Grid], fixed: Sequence[bool] | None = None
) -> FeatureLayout | None:
    """The layout of an output, from its shape and from what came before it.

    Args:
        shape: ``(n, ...)`` of the output.
        size: ``(H, W)`` of the image.
        grids: Positions of the feature maps that the model made before, the last one last.
        fixed: For each token, whether it was the same for every image where it first appeared.

    Returns:
        The layout; ``None`` where the output holds no positions, or only one.
    """
    if len(shape) == 4:
        return _of_map(shape, size, grids)
    return _of_tokens(shape, size, grids, fixed) if len(shape) == 3 else None


def _of_map(shape: Sequence[int], size: Grid, grids: Sequence[Grid]) -> FeatureLayout | None:
    first, last = (shape[2], shape[3]), (shape[1], shape[2])
    if first in grids[-1:] or (_in_proportion(first, size) and first[0] * first[1] > 1):
        return FeatureLayout("NCHW", first) if first[0] * first[1] > 1 else None
    return FeatureLayout("NHWC", last) if _in_proportion(last, size) and last[0] * last[1] > 1 else None


def _of_tokens(
    shape: Sequence[int], size: Grid, grids: Sequence[Grid], fixed: Sequence[bool] | None
) -> FeatureLayout | None:
    start, count = _positions(fixed, shape[1])
    for grid in (*reversed(grids), *_grids(count, size)):
        if grid[0] * grid[1] == count > 1 and _in_proportion(grid, size):
            return FeatureLayout("NLC", grid, start)
    seen = [grid for grid in reversed(grids) if grid[0] * grid[1] == shape[2] > 1]
    if seen:
        return FeatureLayout("NCL", seen[0])
    if fixed is not None and not all(fixed):
        return None
    behind = [g for g in reversed(grids) if 1 < g[0] * g[1] < shape[1] <= g[0] * g[1] + _MOST_EXTRA]
    return FeatureLayout("NLC", behind[0], shape[1] - behind[0][0] * behind[0][1]) if behind else None


_MOST_EXTRA = 16


def _positions(fixed: Sequence[bool] | None, length: int) -> tuple[int, int]:
    """Where the positions start, and how many there are: all tokens but those at either end that ignore the image."""
    if fixed is None or len(fixed) != length or all(fixed):
        return 0, length
    start = list(fixed).index(False)
    end = length - list(fixed)[::-1].index(False)
    return start, end - start


def _grids(count: int, size: Grid) -> list[Grid]:
    """Rows and columns that make ``count`` positions, the squarest patches first."""
    pairs = [(h, count // h) for h in range(1, count + 1) if count % h == 0]
    return sorted(pairs, key=lambda grid: abs(grid[0] * size[1] - grid[1] * size[0]))


def _in_proportion(grid: Grid, size: Grid) -> bool:
    """Whether positions are the image's, made fewer by one stride, give or take one at the border."""
    lowest, highest = zip(
        *((whole / (part + 1), whole / max(part - 1, 0.5)) for whole, part in zip(size, grid, strict=True)), strict=True
    )
    return bool(max(lowest) <= min(highest))
