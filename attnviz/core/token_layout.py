"""The positions of the tokens of an attention map on the image plane.

A canonical map ``g`` is ``(N · windows, heads, Q, K)``, or another order of the first axes. A :class:`Layout` describes
how to split it, and gives the grid position of each query and key. Class tokens, shifted and padded windows, reduced
keys and frames need no special case.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

NO_POSITION = -1
PADDING = -2


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """The positions of one image's tokens.

    Attributes:
        grid: ``(frames, rows, columns)``; 1 frame for a still image. The grid covers the whole image: a token of a
            14 × 14 grid represents the part of the image under its cell.
        positions: ``(windows, tokens)`` int64 on the CPU: the position of each token as a flat index into ``grid``,
            frames slowest. :data:`NO_POSITION` (-1) for a token without a position: class, distillation and register
            tokens, learned queries, a mean over the image. :data:`PADDING` (-2) for the padding of a window.

    Raises:
        ValueError: ``positions`` do not fit ``grid``.

    >>> tokens = Tokens((1, 2, 2), torch.tensor([[-1, 0, 1, 2, 3]]))
    >>> tokens.prefix, tokens.is_whole
    (1, True)
    """

    grid: tuple[int, int, int]
    positions: Tensor

    def __post_init__(self) -> None:
        positions = self.positions
        if positions.ndim != 2 or positions.dtype != torch.int64:
            raise ValueError(
                f"positions are (windows, tokens) int64, got {positions.dtype} of {tuple(positions.shape)}"
            )
        if positions.numel() and not PADDING <= int(positions.min()) <= int(positions.max()) < self.size:
            raise ValueError(f"positions on the grid {self.grid} are below {self.size}, got {int(positions.max())}")

    @property
    def size(self) -> int:
        """Number of positions of the grid."""
        return math.prod(self.grid)

    @property
    def prefix(self) -> int:
        """Number of leading tokens without a position in every window: class, distillation and register tokens."""
        is_prefix = (self.positions == NO_POSITION).all(0).long()
        return int(is_prefix.cumprod(0).sum())

    @property
    def is_whole(self) -> bool:
        """Whether the tokens after the prefix are every position once, in the order of the grid, in one window."""
        rest = self.positions[:, self.prefix :]
        return len(rest) == 1 and torch.equal(rest[0], torch.arange(self.size))

    def to_grid(self, values: Tensor, empty: float = float("nan")) -> Tensor:
        """Put values of tokens on their grid; tokens without a position and padding are left out.

        Args:
            values: ``(N, windows, *, tokens)``, one number per token.
            empty: Value of positions without a token.

        Returns:
            ``(N, *, frames, rows, columns)``; the mean if several windows contain a position.

        Raises:
            ValueError: ``values`` have other numbers of windows or tokens.

        >>> shifted = Tokens((1, 1, 4), torch.tensor([[1, 2], [3, 0]]))
        >>> shifted.to_grid(torch.tensor([[[10.0, 20.0], [30.0, 0.0]]]))
        tensor([[[[ 0., 10., 20., 30.]]]])
        """
        if values.ndim < 3 or (values.shape[1], values.shape[-1]) != tuple(self.positions.shape):
            raise ValueError(
                f"values are (N, windows, …, tokens) with windows and tokens {tuple(self.positions.shape)}, "
                f"got {tuple(values.shape)}"
            )
        flat = values.movedim(1, -2).flatten(-2)
        positions = self.positions.flatten().to(values.device)
        is_valid = positions >= 0
        index = positions[is_valid]
        total = flat.new_zeros(*flat.shape[:-1], self.size).index_add(-1, index, flat[..., is_valid])
        count = flat.new_zeros(self.size).index_add(0, index, torch.ones_like(index, dtype=flat.dtype))
        mean = torch.where(count > 0, total / count.clamp_min(1), torch.full_like(total, empty))
        return mean.reshape(*mean.shape[:-1], *self.grid)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How to split a canonical pairwise or pooling map, and the positions of its queries and keys.

    Attributes:
        windows: Number of parts of an image that do not attend to each other: windows, the positions of a temporal
            attention along frames, or the frames of a spatial attention inside each frame; else 1.
        heads: Number of heads per window.
        queries: Positions of the queries; ``None`` if they have none (channels) or they are unknown.
        keys: Positions of the keys, likewise. Their grid can be coarser than that of the queries.
        order: Order of ``"images"``, ``"windows"`` and ``"heads"`` in the first two axes of ``g``, slowest first.

    A pooling map ``(N, heads, HW)`` has one query, without a position.

    >>> layout = Layout(windows=4, heads=3, queries=None, keys=None)
    >>> layout.split(torch.zeros(8, 3, 49, 49)).shape
    torch.Size([2, 4, 3, 49, 49])
    """

    windows: int
    heads: int
    queries: Tokens | None
    keys: Tokens | None
    order: tuple[str, str, str] = ("images", "windows", "heads")

    def __post_init__(self) -> None:
        if sorted(self.order) != ["heads", "images", "windows"]:
            raise ValueError(f"an order has images, windows and heads, got {self.order}")
        for name, tokens in (("queries", self.queries), ("keys", self.keys)):
            if tokens is not None and len(tokens.positions) != self.windows:
                raise ValueError(
                    f"{name} have positions in {len(tokens.positions)} windows, the layout has {self.windows}"
                )

    def fits(self, maps: int, queries: int | None, keys: int, images: int | None) -> bool:
        """Whether this number of maps, with these numbers of queries and keys, can have this layout.

        Without a number of images, more windows of the same size could be more images: only one window is accepted.
        """
        counts = ((self.queries, queries), (self.keys, keys))
        sizes_agree = all(t is None or count is None or t.positions.shape[1] == count for t, count in counts)
        each = self.windows * self.heads
        return sizes_agree and (maps == images * each if images else self.windows == 1 and maps % each == 0)

    def split(self, g: Tensor) -> Tensor:
        """The canonical ``g`` as ``(N, windows, heads, Q, K)``; a pooling map has ``Q`` = 1.

        Raises:
            ValueError: the number of maps is no multiple of windows times heads.
        """
        g = g.unsqueeze(-2) if g.ndim == 3 else g
        maps, each = g.shape[0] * g.shape[1], self.windows * self.heads
        if maps % each:
            raise ValueError(
                f"{self.windows} windows of {self.heads} heads do not divide {maps} maps of {tuple(g.shape)}"
            )
        sizes = {"images": maps // each, "windows": self.windows, "heads": self.heads}
        split = g.reshape(*(sizes[name] for name in self.order), *g.shape[2:])
        return split.permute([self.order.index(name) for name in ("images", "windows", "heads")] + [3, 4])
