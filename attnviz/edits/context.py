"""What an edit is, and what it may know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from attnviz.core.records import Site
from attnviz.core.uses import Operand

GEdit: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """Where and when an edit happens.

    Attributes:
        site: The site.
        call: Which call of the site in this intervention, from 0, counted on over forward passes.
        x: What ``g`` is about to be applied to.
    """

    site: Site
    call: int
    x: Operand


class PlacedEdit(Protocol):
    """An edit that depends on where and when it happens."""

    def at(self, moment: Moment, /) -> GEdit:
        """The function of ``g`` for one call of one site."""
        ...


Edit: TypeAlias = GEdit | PlacedEdit


def random_order(shape: tuple[int, ...], g: Tensor, generator: torch.Generator | None) -> Tensor:
    """A permutation of the last axis, drawn anew for each row of it."""
    device = g.device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=device).argsort(-1).to(g.device)
