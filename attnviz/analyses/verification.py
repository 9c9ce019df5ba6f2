"""Is it really ``g``? Three checks of every site of a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.core.records import Record, Site
from attnviz.edits import swap
from attnviz.edits.intervention import intervene
from attnviz.recording import capture


@dataclass(frozen=True, slots=True)
class Proof:
    """What was measured of one site.

    Attributes:
        site: Where.
        shape: Of the canonical ``g``.
        size_bytes: Of the canonical ``g``, were it all in memory.
        reconstruction: Largest difference of ``f(g, x)`` from the model's ``y``, relative to the largest of ``y``.
        reinjection: Largest difference of the model's output when the captured ``g`` is put back, likewise.
        effect: Largest change of ``y`` when ``g`` is halved, likewise: 0 would mean that ``g`` does nothing.
    """

    site: Site
    shape: tuple[int, ...]
    size_bytes: int
    reconstruction: float
    reinjection: float
    effect: float

    def holds(self, tolerance: float = 1e-5) -> bool:
        """Whether all three are as they must be."""
        return self.reconstruction <= tolerance and self.reinjection <= tolerance and self.effect > tolerance


@torch.no_grad()
def prove(model: nn.Module, sites: Iterable[Site], *inputs: Any) -> list[Proof]:
    """Check every site by its first call: rebuild ``y``, put ``g`` back, put another ``g`` in its place.

    Args:
        model: In evaluation mode; it is run once, and once more for every site.
        sites: From :func:`attnviz.find_attention`.
        inputs: What the model's forward takes.

    Returns:
        One proof per site that was reached.
    """
    with capture(model, sites) as captured:
        plain = _first_tensor(model(*inputs))
    by_site: dict[Site, list[Record]] = {}
    for record in captured.records:
        by_site.setdefault(record.site, []).append(record)
    return [_proof(model, records, plain, inputs) for records in by_site.values()]


def _proof(model: nn.Module, records: list[Record], plain: Tensor, inputs: tuple[Any, ...]) -> Proof:
    record = records[0]
    site = record.site
    with intervene(model, {site.name: swap(*records)}, [site]):
        again = _first_tensor(model(*inputs))
    return Proof(
        site=site,
        shape=tuple(record.g.shape),
        size_bytes=record.g.numel() * record.g.element_size(),
        reconstruction=_relative(record.reconstruct(), record.y),
        reinjection=_relative(again, plain),
        effect=_relative(site.use(record.g * 0.5, record.x), record.y),
    )


def _relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max().clamp_min(1e-30)) if other.numel() else 0.0


def _first_tensor(output: Any) -> Tensor:
    while not isinstance(output, Tensor):
        output = next(iter(output.values() if isinstance(output, dict) else output))
    return output
