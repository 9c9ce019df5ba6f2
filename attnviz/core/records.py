"""Sites, records, heatmaps and scores: frozen dataclasses that are validated when they are created.

Axes, in all of attnviz: ``N`` images, ``C`` channels, ``H W`` rows and columns, ``T`` frames, ``B`` branches,
``Q K`` queries and keys, ``S`` samples.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from attnviz.core.kinds import Kind
from attnviz.core.uses import HasExtent, Operand, Use
from attnviz.errors import CaptureError, ReconstructionError

__all__ = ["ChildReturn", "Heatmap", "Kind", "Record", "Score", "Site"]

if TYPE_CHECKING:
    from torch import Tensor

    from attnviz.core.regions import Region, Threshold, ThresholdOf
    from attnviz.core.token_layout import Layout


@dataclass(frozen=True, slots=True)
class ChildReturn:
    """The first return of a child module in a call of its parent.

    Attributes:
        child: Path of the child.
        counts: Number of operations of each name in the call before the return.
    """

    child: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Site:
    """An operation of a model that applies attention; found once per model and input shape, and reused.

    Attributes:
        module: Dotted path of the innermost module whose ``forward`` applies ``g``; ``""`` is the root.
        ordinal: Index among the attention operations in one call of that module, from 0.
        kind: What ``g`` weighs.
        operation: Name of the operation that applies ``g``, for example ``"mul"``.
        position: Index among the operations of this name in one call of the module, children included, from 0. It
            identifies the site in later calls.
        use: ``f``, and how to read ``g`` and ``x`` from the operands of the operation.
        type_name: Class name of the module, for display only.
        source: ``file:line`` of the operation.
        squash: Name of the function that bounds ``g``, for example ``"sigmoid"``; ``None`` if ``g`` is unbounded.
        overwritten: Those of ``g``, ``x``, ``y`` that the model overwrites in place later; a record copies them.
        implied: Whether the model never computes ``g``. The output of linear attention equals that of such a map, which
            is computed from the operands; :meth:`Record.verify` proves it, but it was no step of the model.
        patchable: Whether the model looks the operation's function up in ``torch.nn.functional`` at each call, so that
            patching this function is enough and no function mode is needed. Not part of equality.
        starts_after: When a capture must begin to intercept the operations of the module; ``None``: at the start of
            the call. Not part of equality.
        layouts: For each call of the module in a forward pass, how to split the map into images, windows and heads, and
            the positions of its queries and keys (of a gate: of the positions of ``x``); ``None`` for a call whose
            positions are unknown or depend on the data. They hold for maps of the size with which the site was found:
            see :attr:`Record.layout`. Empty for other kinds. Not part of equality.
        size_bytes: Estimated memory of the records of one forward pass, for inputs like those with which the site was
            found, by what a capture keeps: ``"full"``, ``"rows"`` or ``"summary"``. Not part of equality.
    """

    module: str
    ordinal: int
    kind: Kind
    operation: str
    position: int
    use: Use
    type_name: str = ""
    source: str = ""
    squash: str | None = None
    overwritten: frozenset[str] = frozenset()
    implied: bool = False
    patchable: bool = field(default=False, compare=False, repr=False)
    starts_after: ChildReturn | None = field(default=None, compare=False, repr=False)
    layouts: tuple[Layout | None, ...] = field(default=(), compare=False, repr=False)
    size_bytes: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The module's path, with the ordinal if it is not 0: ``blocks.2.se``, ``cbam#1``."""
        path = self.module or "(root)"
        return path if self.ordinal == 0 else f"{path}#{self.ordinal}"

    @property
    def layout(self) -> Layout | None:
        """The layout of the first call, for inputs of the size with which the site was found; ``None`` if unknown."""
        return self.layouts[0] if self.layouts else None

    def matches(self, pattern: str) -> bool:
        """Whether a shell pattern matches the site's name, its module or its kind.

        >>> from attnviz.tracing import Gate
        >>> Site("blocks.2.se", 0, Kind.CHANNEL, "mul", 0, Gate(Kind.CHANNEL, 1, 1)).matches("blocks.*")
        True
        """
        return any(fnmatch.fnmatchcase(text, pattern) for text in (self.name, self.module, self.kind.value))


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """The attention of one site in one forward call: ``y = f(g, x)``.

    Attributes:
        site: The site.
        call: Index among the calls of the site in this capture, from 0.
        g: The attention, in the canonical axes of ``site.kind``.
        x: The operand to which ``g`` is applied, in the operation's own layout.
        y: The output of the operation.
        images: Number of images of the forward call; ``None`` if unknown, as in a call of another method.
    """

    site: Site
    call: int
    g: Tensor
    x: Operand
    y: Tensor
    images: int | None = None

    def __post_init__(self) -> None:
        if self.g.ndim not in self.site.kind.ranks:
            wanted = " or ".join(f"{len(axes)} axes ({', '.join(axes)})" for axes in self.site.kind.axes)
            raise ReconstructionError(
                f"{self.site.name}: a {self.site.kind.value} map has {wanted}, got g of shape {tuple(self.g.shape)}"
            )

    @property
    def name(self) -> str:
        """The site's name, with the index of the call if it is not 0: ``shared.se``, ``shared.se@1``."""
        return self.site.name if self.call == 0 else f"{self.site.name}@{self.call}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the canonical ``g``, also if ``g`` is not kept."""
        return tuple(self.g.shape)

    @property
    def layout(self) -> Layout | None:
        """The layout of this call's map; ``None`` if it is unknown, or if the map has another size than when found."""
        layouts = self.site.layouts
        layout = layouts[self.call % len(layouts)] if layouts else None
        if layout is None:
            return None
        if isinstance(self.site.use, HasExtent):
            maps, keys = self.site.use.extent(self.x)
            return layout if layout.fits(maps, None, keys, self.images) else None
        shape = self.shape
        queries = shape[-2] if len(shape) == 4 else None
        return layout if layout.fits(shape[0] * shape[1], queries, shape[-1], self.images) else None

    def rows(self, queries: int | slice | Tensor | list[int]) -> Tensor:
        """Rows of a pairwise map, ``(N, heads, R, K)``, whether the map or its queries and keys were kept.

        Raises:
            CaptureError: the attention is not pairwise, or ``g`` was not kept.
        """
        if self.site.kind is not Kind.PAIRWISE:
            raise CaptureError(f"{self.site.name}: {self.site.kind.value} attention has no queries")
        return self.g[:, :, [queries] if isinstance(queries, int) else queries]

    def reconstruct(self) -> Tensor:
        """``f(g, x)`` from the canonical ``g``; equal to ``y`` within rounding."""
        return self.site.use(self.g, self.x)

    def verify(self, tolerance: float = 1e-5) -> float:
        """Compare :meth:`reconstruct` with the output of the model.

        Args:
            tolerance: Largest allowed difference.

        Returns:
            The largest absolute difference, relative to the largest absolute value of ``y``.

        Raises:
            ReconstructionError: the difference is above ``tolerance``, or a shape differs.
        """
        rebuilt = self.reconstruct().detach()
        if rebuilt.shape != self.y.shape:
            raise ReconstructionError(
                f"{self.site.name}: f(g, x) has shape {tuple(rebuilt.shape)}, the model's y {tuple(self.y.shape)}"
            )
        if rebuilt.numel() == 0:
            return 0.0
        scale = self.y.detach().abs().max().clamp_min(1e-30)
        error = float((rebuilt - self.y.detach()).abs().max() / scale)
        if not error <= tolerance:
            raise ReconstructionError(
                f"{self.site.name}: f(g, x) differs from the model's y by {error:.1e} relative, allowed {tolerance:.0e}"
            )
        return error


@dataclass(frozen=True, slots=True, eq=False)
class Heatmap:
    """Signed values on the image plane, not scaled for display.

    Attributes:
        values: ``(N, H, W)``; ``(N, D, H, W)`` for volumes.
        method: Name of a projection (``"channel-energy"``) or of an attribution method (``"gradcam"``).
        source: Name of the site, or of the layer of an attribution.
        kind: ``"attention"`` for a map of ``g``; ``"attribution"`` for an explanation of a target class.
    """

    values: Tensor
    method: str
    source: str
    kind: Literal["attention", "attribution"]

    def __post_init__(self) -> None:
        if self.values.ndim not in {3, 4}:
            raise ValueError(
                f"{self.name}: a heatmap is (N, H, W) or (N, D, H, W), got shape {tuple(self.values.shape)}"
            )

    @property
    def name(self) -> str:
        """A short label: the site of attention, the method of an attribution."""
        return self.source if self.kind == "attention" else self.method

    def mask(self, threshold: Threshold = 0.5, of: ThresholdOf = "maximum") -> Tensor:
        """The positions with large values, of each image by itself.

        Positions whose value is 0 or negative are in no mask: they are no evidence. The mask of a map with a value that
        is not finite is empty.

        Args:
            threshold: With ``of="maximum"``, the share of the map's maximum from which a value is large, above 0 and at
                most 1. With ``of="quantile"``, the quantile of the map, with negative values as 0, above which a value
                is large: 0.95 selects at most 5 % of the positions. ``"otsu"``: Otsu's threshold, which separates the
                map into two groups of the least variance, on 256 levels from 0 to the maximum.
            of: What a number is a share of.

        Returns:
            Bool, of the shape of ``values``.

        Raises:
            ValueError: an unknown ``of``, or a threshold outside its range.

        Source: 0.5 of the maximum is a common choice for localisation; Zhou et al., CVPR 2016, section 3.2, use 0.2.
        Otsu, IEEE Transactions on Systems, Man and Cybernetics 9 (1979).

        >>> import torch
        >>> heatmap = Heatmap(torch.tensor([[[4.0, 2.0, 1.0, -4.0]]]), "gradcam", "layer4", "attribution")
        >>> heatmap.mask(0.5).tolist(), heatmap.mask(0.9, of="quantile").tolist()
        ([[[True, True, False, False]]], [[[True, False, False, False]]])
        """
        from attnviz.core.regions import mask_of

        return mask_of(self.values, threshold, of)

    def boxes(
        self, threshold: Threshold = 0.5, of: ThresholdOf = "maximum", *, min_area: int = 1
    ) -> tuple[tuple[Region, ...], ...]:
        """The connected parts of the mask of each image, with their boxes; those with the largest values first.

        Args:
            threshold: As for :meth:`mask`.
            of: As for :meth:`mask`.
            min_area: Smallest number of pixels of a part.

        Returns:
            For each image its regions. A box is left, top, right, bottom in pixels of the map, right and bottom
            exclusive. Pixels that touch at a corner are connected.

        Raises:
            ValueError: as for :meth:`mask`; a map of volumes.

        >>> import torch
        >>> heatmap = Heatmap(torch.tensor([[[4.0, 2.0, 1.0, 3.0]]]), "gradcam", "layer4", "attribution")
        >>> [region.box for region in heatmap.boxes(0.5)[0]]
        [(0, 0, 2, 1), (3, 0, 4, 1)]
        """
        from attnviz.core.regions import regions_of

        if self.values.ndim != 3:
            raise ValueError(f"{self.name}: boxes are those of maps (N, H, W), got shape {tuple(self.values.shape)}")
        pairs = zip(self.values, self.mask(threshold, of), strict=True)
        arrays = ((values.detach().float().cpu().numpy(), mask.cpu().numpy()) for values, mask in pairs)
        return tuple(regions_of(values, mask, min_area) for values, mask in arrays)


@dataclass(frozen=True, slots=True)
class Score:
    """A measured number.

    Attributes:
        measure: Name of the measure: ``"spearman"``.
        subject: Names of the measured objects: a site, a map, or a pair of maps.
        value: The number; NaN if the measure is undefined.
        higher_is: The meaning of a larger value, in a word or two: ``"sparser"``.
        low: Smallest possible value.
        high: Largest possible value.
        why: The reason why the value is NaN; empty otherwise.
    """

    measure: str
    subject: tuple[str, ...]
    value: float
    higher_is: str
    low: float
    high: float
    why: str = ""
