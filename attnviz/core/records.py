"""The data that flows through attnviz: sites, records, heatmaps and scores; frozen, and valid once built.

Axes, here and everywhere: ``N`` images, ``C`` channels, ``H W`` rows and columns, ``T`` frames, ``B`` branches,
``Q K`` queries and keys, ``S`` samples.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from attnviz.core.kinds import Kind
from attnviz.core.uses import Operand, Use
from attnviz.errors import CaptureError, ReconstructionError

__all__ = ["ChildReturn", "Heatmap", "Kind", "Record", "Score", "Site"]

if TYPE_CHECKING:
    from torch import Tensor

    from attnviz.core.token_layout import Layout


@dataclass(frozen=True, slots=True)
class ChildReturn:
    """A moment in a call of a module: when a child of it has returned for the first time.

    Attributes:
        child: Path of the child.
        counts: How many operations of each name the call had seen by then.
    """

    child: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Site:
    """Where attention happens in a model: found once per model and input shape, kept for re-use.

    Attributes:
        module: Dotted path of the innermost module whose ``forward`` applies ``g``; ``""`` is the root.
        ordinal: Which attention operation inside one call of that module, from 0.
        kind: What ``g`` weighs.
        operation: The operation that applies ``g``, for example ``"mul"``.
        position: Which call of that operation inside one call of the module, children included, from 0:
            how a later run recognises the site again.
        use: ``f``, and how ``g`` and ``x`` are read from the operation's operands.
        type_name: Class of the module, for people only: nothing is decided by it.
        source: ``file:line`` of the operation.
        squash: The function that bounded ``g``, for example ``"sigmoid"``; ``None`` where ``g`` is unbounded.
        overwritten: Which of ``g``, ``x``, ``y`` the model overwrites in place later, so that a record needs a copy.
        implied: Whether the model never computes ``g``: linear attention only has the result of such a map, which is
            computed beside it and is as certain as :meth:`Record.verify` says, but not what the model looked at.
        patchable: Whether the model looks the operation's function up in ``torch.nn.functional`` at each call, so that
            patching this function is enough and no function mode is needed. Not part of equality.
        starts_after: When a capture must begin to intercept the operations of the module; ``None``: at the start of
            the call. Not part of equality.
        layout: How a pairwise or pooling map comes apart into images, windows and heads, and where on the image plane
            its queries and keys stand, for inputs of the size that the site was found with; ``None`` for other kinds
            and where it could not be followed. No part either.
        size_bytes: About how much memory its records of one forward pass keep alive, for inputs like those that it was
            found with: by what a capture is told to keep, ``"full"``, ``"rows"`` or ``"summary"``. No part either.
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
    layout: Layout | None = field(default=None, compare=False, repr=False)
    size_bytes: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The module's path, with the ordinal from its second site on: ``blocks.2.se``, ``cbam#1``."""
        path = self.module or "(root)"
        return path if self.ordinal == 0 else f"{path}#{self.ordinal}"

    def matches(self, pattern: str) -> bool:
        """Whether a shell pattern fits the site's name, its module or its kind.

        >>> from attnviz.tracing import Gate
        >>> Site("blocks.2.se", 0, Kind.CHANNEL, "mul", 0, Gate(Kind.CHANNEL, 1, 1)).matches("blocks.*")
        True
        """
        return any(fnmatch.fnmatchcase(text, pattern) for text in (self.name, self.module, self.kind.value))


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """What one site did in one forward call: ``y = f(g, x)``.

    Attributes:
        site: Where it happened.
        call: Which call of the site in this capture, from 0.
        g: The attention, in the canonical axes of ``site.kind``.
        x: What ``g`` was applied to, as the operation saw it.
        y: What the operation gave.
    """

    site: Site
    call: int
    g: Tensor
    x: Operand
    y: Tensor

    def __post_init__(self) -> None:
        if self.g.ndim not in self.site.kind.ranks:
            wanted = " or ".join(f"{len(axes)} axes ({', '.join(axes)})" for axes in self.site.kind.axes)
            raise ReconstructionError(
                f"{self.site.name}: a {self.site.kind.value} map has {wanted}, got g of shape {tuple(self.g.shape)}"
            )

    @property
    def name(self) -> str:
        """The site's name, with the call where the site was called more than once: ``shared.se``, ``shared.se@1``."""
        return self.site.name if self.call == 0 else f"{self.site.name}@{self.call}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the canonical ``g``, also where ``g`` is not kept."""
        return tuple(self.g.shape)

    def rows(self, queries: int | slice | Tensor | list[int]) -> Tensor:
        """``g`` of some queries of pairwise attention, ``(N, heads, R, K)``: the same to rounding, whatever was kept.

        Raises:
            CaptureError: another kind has no queries, or ``g`` was not kept.
        """
        if self.site.kind is not Kind.PAIRWISE:
            raise CaptureError(f"{self.site.name}: {self.site.kind.value} attention has no queries")
        return self.g[:, :, [queries] if isinstance(queries, int) else queries]

    def reconstruct(self) -> Tensor:
        """``f(g, x)`` from the canonical ``g``: equal to ``y`` within rounding."""
        return self.site.use(self.g, self.x)

    def verify(self, tolerance: float = 1e-5) -> float:
        """Compare :meth:`reconstruct` with what the model computed.

        Returns:
            The largest absolute difference, relative to the largest absolute value of ``y``.

        Raises:
            ReconstructionError: it is above ``tolerance``, or a shape differs.
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
    """Values on the image plane, sign kept and not scaled for display.

    Attributes:
        values: ``(N, H, W)``.
        method: How they came about: a projection (``"channel-energy"``) or an attribution (``"gradcam"``).
        source: What they describe: a site's name, or a layer's for an attribution.
        kind: ``"attention"`` describes what ``g`` did; ``"attribution"`` explains a target class.
    """

    values: Tensor
    method: str
    source: str
    kind: Literal["attention", "attribution"]

    def __post_init__(self) -> None:
        if self.values.ndim != 3:
            raise ValueError(f"{self.name}: a heatmap is (N, H, W), got shape {tuple(self.values.shape)}")

    @property
    def name(self) -> str:
        """A short label: the site for attention, the method for an attribution."""
        return self.source if self.kind == "attention" else self.method


@dataclass(frozen=True, slots=True)
class Score:
    """One number that was measured.

    Attributes:
        measure: Name of the measure: ``"spearman"``.
        subject: What it was measured on: a site, a map, or a pair of maps, each by name.
        value: The number; NaN where the measure is undefined, and then ``why`` says why.
        higher_is: What a larger value means, in a word or two: ``"sparser"``.
        low: Smallest possible value.
        high: Largest possible value.
        why: Why the value is NaN; empty otherwise.
    """

    measure: str
    subject: tuple[str, ...]
    value: float
    higher_is: str
    low: float
    high: float
    why: str = ""
