"""Where the tokens of an attention map stand on the image plane, so that nobody has to guess a reshape.

A canonical map ``g`` is ``(N · windows, heads, Q, K)``, or in another order where the model computes it so. A
:class:`Layout` says how to take it apart, and for each query and key which place of which grid it stands for: class
tokens, shifted and padded windows, reduced keys and frames need no special case.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

NO_POSITION = -1
PADDING = -2


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """The places of one image's tokens.

    Attributes:
        grid: The plane that they stand on: ``(frames, rows, columns)``; 1 frame for a still image. The plane covers
            the whole image: a token of an 14 × 14 grid stands for the part of the image under its cell.
        places: ``(windows, tokens)`` int64 on the CPU: the place of each token as a flat index into ``grid``, frames
            slowest. :data:`NO_POSITION` (-1) for a token that stands nowhere: class, distillation and register tokens,
            learned queries, a mean over the image. :data:`PADDING` (-2) for what only fills a window.

    Raises:
        ValueError: ``places`` do not fit ``grid``.

    >>> tokens = Tokens((1, 2, 2), torch.tensor([[-1, 0, 1, 2, 3]]))
    >>> tokens.prefix, tokens.is_whole
    (1, True)
    """

    grid: tuple[int, int, int]
    places: Tensor

    def __post_init__(self) -> None:
        if self.places.ndim != 2 or self.places.dtype != torch.int64:
            raise ValueError(
                f"places are (windows, tokens) int64, got {self.places.dtype} of {tuple(self.places.shape)}"
            )
        if self.places.numel() and not PADDING <= int(self.places.min()) <= int(self.places.max()) < self.size:
            raise ValueError(f"places of the grid {self.grid} are below {self.size}, got {int(self.places.max())}")

    @property
    def size(self) -> int:
        """How many places the grid has."""
        return math.prod(self.grid)

    @property
    def prefix(self) -> int:
        """How many tokens that stand nowhere come first in every window: class, distillation and register tokens."""
        nowhere = (self.places == NO_POSITION).all(0).long()
        return int(nowhere.cumprod(0).sum())

    @property
    def is_whole(self) -> bool:
        """Whether one window holds every place once, in the order of the grid, after its prefix and nothing else."""
        rest = self.places[:, self.prefix :]
        return len(rest) == 1 and torch.equal(rest[0], torch.arange(self.size))

    def lay(self, values: Tensor, empty: float = float("nan")) -> Tensor:
        """Values of tokens on their grid; tokens that stand nowhere or are padding are left out.

        Args:
            values: ``(N, windows, *, tokens)``, one number per token.
            empty: For places that no token stands on.

        Returns:
            ``(N, *, frames, rows, columns)``; the mean where several windows hold a place.

        >>> shifted = Tokens((1, 1, 4), torch.tensor([[1, 2], [3, 0]]))
        >>> shifted.lay(torch.tensor([[[10.0, 20.0], [30.0, 0.0]]]))
        tensor([[[[ 0., 10., 20., 30.]]]])
        """
        if values.ndim < 3 or (values.shape[1], values.shape[-1]) != tuple(self.places.shape):
            raise ValueError(
                f"values are (N, windows, …, tokens) with windows and tokens {tuple(self.places.shape)}, "
                f"got {tuple(values.shape)}"
            )
        flat = values.movedim(1, -2).flatten(-2)
        places = self.places.flatten().to(values.device)
        there = places >= 0
        total = flat.new_zeros(*flat.shape[:-1], self.size).index_add(-1, places[there], flat[..., there])
        count = flat.new_zeros(self.size).index_add(0, places[there], torch.ones_like(places[there], dtype=flat.dtype))
        laid = torch.where(count > 0, total / count.clamp_min(1), torch.full_like(total, empty))
        return laid.reshape(*laid.shape[:-1], *self.grid)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How a canonical pairwise or pooling map comes apart, and where its queries and keys stand.

    Attributes:
        windows: Into how many parts an image is cut that do not see each other: windows, or the places at which a
            temporal attention looks along frames, or the frames in each of which a spatial attention looks; else 1.
        heads: How many maps there are of each.
        queries: Where the queries stand; ``None`` where they are no places (channels) or could not be followed.
        keys: Where the keys stand, likewise. Their grid may be coarser than that of the queries.
        order: How the first two axes of ``g`` come apart: ``"images"``, ``"windows"`` and ``"heads"``, slowest first.

    A pooling map ``(N, heads, HW)`` has one query, which stands nowhere.

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
            raise ValueError(f"an order names images, windows and heads, got {self.order}")
        for name, tokens in (("queries", self.queries), ("keys", self.keys)):
            if tokens is not None and len(tokens.places) != self.windows:
                raise ValueError(f"{name} have places in {len(tokens.places)} windows, the layout has {self.windows}")

    def split(self, g: Tensor) -> Tensor:
        """The canonical ``g`` as ``(N, windows, heads, Q, K)``; a pooling map has ``Q`` = 1.

        Raises:
            ValueError: the numbers of windows and heads do not divide what ``g`` holds.
        """
        g = g.unsqueeze(-2) if g.ndim == 3 else g
        maps, each = g.shape[0] * g.shape[1], self.windows * self.heads
        if maps % each:
            raise ValueError(
                f"{self.windows} windows of {self.heads} heads do not divide {maps} maps of {tuple(g.shape)}"
            )
        sizes = {"images": maps // each, "windows": self.windows, "heads": self.heads}
        apart = g.reshape(*(sizes[name] for name in self.order), *g.shape[2:])
        return apart.permute([self.order.index(name) for name in ("images", "windows", "heads")] + [3, 4])
