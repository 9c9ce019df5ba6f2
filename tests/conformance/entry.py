"""One model of the conformance list, its inputs, and the group of models of one library."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn


class Inputs(NamedTuple):
    """The arguments of one call of a model."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}


def noise(*size: int) -> Callable[[int], Inputs]:
    """A function that makes a batch of noise; ``size`` is the shape of one input without the batch."""
    return lambda n: Inputs((torch.randn(n, *size),))


@dataclass(frozen=True)
class Entry:
    """One model of the list.

    Attributes:
        library: A name in ``LIBRARIES``.
        family: The module of the library that defines the model.
        model: The name of the model.
        builder: Builds the model.
        batch: Makes the inputs of a number of images.
        method: The method that is called; ``forward`` if empty.
        attention: Whether the network has attention, by its paper.
        quick: Whether every run of the test suite checks it.
        known_sites: The reason why sites are found in a network without attention; empty if there must be none.
        varies: The reason why sites with one image and with two are not the same; empty if they must be.
    """

    library: str
    family: str
    model: str
    builder: Callable[[], nn.Module]
    batch: Callable[[int], Inputs] = field(default_factory=lambda: noise(3, 64, 64))
    method: str = ""
    attention: bool = True
    quick: bool = False
    known_sites: str = ""
    varies: str = ""

    @property
    def name(self) -> str:
        return f"{self.library}:{self.model}"

    @property
    def is_installed(self) -> bool:
        """Whether the library can be imported."""
        return self.library == "plain" or importlib.util.find_spec(self.library) is not None

    def build(self) -> nn.Module:
        """The model in eval mode, with seeded weights."""
        torch.manual_seed(0)
        return self.builder().eval()

    def inputs(self, n: int = 2) -> Inputs:
        """Seeded inputs of ``n`` images."""
        torch.manual_seed(1)
        return self.batch(n)

    def call(self, model: nn.Module) -> Any:
        """What is called and searched: the model, or a bound method of it."""
        return getattr(model, self.method) if self.method else model
