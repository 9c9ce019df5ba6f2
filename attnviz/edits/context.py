"""Types of edits, and the context that they receive."""

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
        call: Number of the call of the site in this intervention, from 0, continued over forward passes.
        x: Operand that ``g`` is applied to.
    """

    site: Site
    call: int
    x: Operand


class PlacedEdit(Protocol):
    """An edit that depends on where and when it happens."""

    def at(self, moment: Moment, /) -> GEdit:
        """Return the function of ``g`` for one call of one site."""
        ...


Edit: TypeAlias = GEdit | PlacedEdit


def random_order(shape: tuple[int, ...], g: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return a random permutation of the last axis for each row."""
    device = g.device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=device).argsort(-1).to(g.device)
