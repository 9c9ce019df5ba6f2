"""Verify captured attention: three checks of every site of a model."""

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
    """The results of the checks of one site.

    Attributes:
        site: The site.
        shape: Shape of the canonical ``g``.
        size_bytes: Size of the canonical ``g`` in memory.
        reconstruction: Largest difference of ``f(g, x)`` from the model's ``y``, relative to the largest ``y``.
        reinjection: Largest relative difference of the output of the model if the captured ``g`` is put back.
        effect: Largest relative change of the operation's output in a run of the model with half of ``g``: 0 means that
            ``g`` has no effect, or that it cannot be replaced.
    """

    site: Site
    shape: tuple[int, ...]
    size_bytes: int
    reconstruction: float
    reinjection: float
    effect: float

    def holds(self, tolerance: float = 1e-5) -> bool:
        """Whether all checks pass."""
        return self.reconstruction <= tolerance and self.reinjection <= tolerance and self.effect > tolerance


@torch.no_grad()
def prove(model: nn.Module, sites: Iterable[Site], *inputs: Any) -> list[Proof]:
    """Check every site at its first call: reconstruct ``y``, inject the captured ``g``, and inject another ``g``.

    Args:
        model: Model in evaluation mode; it runs once, and twice more for every site.
        sites: From :func:`attnviz.find_attention`.
        inputs: Inputs of the model.

    Returns:
        One result per site that the forward pass reaches.
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
    with intervene(model, {site.name: halve}, [site]), capture(model, [site]) as halved:
        model(*inputs)
    return Proof(
        site=site,
        shape=tuple(record.g.shape),
        size_bytes=record.g.numel() * record.g.element_size(),
        reconstruction=_relative(record.reconstruct(), record.y),
        reinjection=_relative(again, plain),
        effect=_relative(halved.records[0].y, record.y),
    )


def halve(g: Tensor) -> Tensor:
    """Half of ``g``."""
    return g * 0.5


def _relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max().clamp_min(1e-30)) if other.numel() else 0.0


def _first_tensor(output: Any) -> Tensor:
    while not isinstance(output, Tensor):
        output = next(iter(output.values() if isinstance(output, dict) else output))
    return output
