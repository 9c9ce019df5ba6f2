"""The registry of projections by kind of attention, and :func:`project`, which runs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from attnviz.core.glossary import Meaning, define
from attnviz.core.records import Heatmap, Kind, Record
from attnviz.core.registry import Registry
from attnviz.errors import CaptureError, UnknownNameError


@dataclass(frozen=True, slots=True)
class Projection:
    """A map of a record on the image plane.

    Attributes:
        name: Name in :data:`PROJECTIONS`.
        kind: The kind of attention.
        function: Computes a map ``(N, h, w)`` from a record, at the resolution of the record.
        default: Whether it is the default of its kind.
        meaning: Title, what the map shows and what it does not.
    """

    name: str
    kind: Kind
    function: Callable[[Record], Tensor]
    default: bool
    meaning: Meaning

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (self.function.__doc__ or "").strip().splitlines()[0]


PROJECTIONS: Registry[Projection] = Registry("projection", home="attnviz.heatmaps", group="attnviz.projections")


def projection(
    kind: Kind, name: str, *, title: str, means: str, not_means: str, default: bool = False
) -> Callable[[Callable[[Record], Tensor]], Callable[[Record], Tensor]]:
    """Return a decorator that registers a function from a record to a map in :data:`PROJECTIONS`.

    Args:
        kind: The kind of attention.
        name: Name of the projection.
        title: Display name.
        means: What the map shows: the text of reports and of the reference.
        not_means: What it does not show.
        default: Whether it is used when none is named. A kind has one default.
    """
    meaning = Meaning(title, means, not_means)

    def enter(function: Callable[[Record], Tensor]) -> Callable[[Record], Tensor]:
        PROJECTIONS.register(name)(Projection(name, kind, function, default, meaning))
        define("map", name, meaning)
        return function

    return enter


def other_size(record: Record) -> str:
    """The end of an error message: what to do about positions that are known for another size of the input."""
    layouts = record.site.layouts
    has_other = record.layout is None and bool(layouts) and layouts[record.call % len(layouts)] is not None
    return "; the sites were found with inputs of another size, find them again with these inputs" if has_other else ""


def project(record: Record, size: tuple[int, int] | None = None, method: str | None = None) -> Heatmap:
    """Project the attention of a record onto the image plane. Signs are kept, and values are not scaled.

    Args:
        record: A record.
        size: ``(H, W)`` to which the map is resized bilinearly; by default it keeps its resolution.
        method: A name in :data:`PROJECTIONS` for the kind of the record; by default that of the kind:
            ``gate`` for spatial, ``dense-mean-abs`` for dense, ``channel-energy`` for channel attention.

    Returns:
        A heatmap ``(N, H, W)`` with the dtype and the device of ``g``, without gradient.

    Raises:
        UnknownNameError: no such projection for this kind.
        CaptureError: the kind has no projection, or the record has no image plane.
    """
    kind = record.site.kind
    fitting = {p.name: p for p in (PROJECTIONS[name] for name in PROJECTIONS) if p.kind is kind}
    if not fitting:
        raise CaptureError(f"{record.site.name}: {kind.value} attention has no projection onto the image plane")
    if method is not None and method not in fitting:
        raise UnknownNameError(f"projection of {kind.value} attention", method, fitting)
    chosen = fitting[method] if method is not None else next(p for p in fitting.values() if p.default)
    values = chosen.function(record).detach()
    if size is not None and values.ndim != len(size) + 1:
        raise CaptureError(
            f"{record.site.name}: its map has {values.ndim - 1} axes, which do not fit a size of {len(size)}"
        )
    if size is not None and values.shape[1:] != size:
        values = F.interpolate(values[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    return Heatmap(values=values, method=chosen.name, source=record.site.name, kind="attention")
