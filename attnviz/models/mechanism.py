"""The registry of the built-in models: a mechanism is one file with a module and an entry in :data:`MODELS`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor, nn

from attnviz.core.registry import Registry
from attnviz.models.trunk import EfficientNetLite0

OPEN_BIAS = 5.0  # sigmoid(5) = 0.993: a gate starts as nearly the identity
LATE_BLOCKS = ((3, 2), (4, 0), (4, 1), (4, 2), (5, 0), (5, 1), (5, 2), (5, 3), (6, 0))


Layer = TypeVar("Layer", bound=nn.Module)


class Staged(Protocol):
    """A network that can be split at a stage for training: ``after(before(x, s), s)`` equals ``network(x)``."""

    def before(self, x: Tensor, stage: int) -> Tensor:
        """Return the output of the bare trunk up to a stage; see :meth:`EfficientNetLite0.before`."""

    def after(self, features: Tensor, stage: int) -> Tensor:
        """Return the logits from the output of :meth:`before`."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """A built-in model: the trunk with one mechanism in it.

    Attributes:
        summary: Function and position in the trunk, in one line.
        source: Paper, in a few words.
        install: Inserts the mechanism into the trunk and returns the network, a :class:`Staged`, often the trunk
            itself. All tensors of the network that are not the trunk's are the attention's: trained, and shipped.
        first_stage: Stage up to whose last attention slot the network is the bare trunk, so that training computes it
            once; -1 if the mechanism needs the image. By default that of the first of :data:`LATE_BLOCKS`.
        attends: Whether the network has attention; ``False`` only for the control.
        frames: Number of frames of the training clips; ``None`` for a model of single images.
    """

    summary: str
    source: str
    install: Callable[[EfficientNetLite0], nn.Module]
    first_stage: int = LATE_BLOCKS[0][0]
    attends: bool = True
    frames: int | None = None


MODELS: Registry[Mechanism] = Registry("model", home="attnviz.models", group="attnviz.models")


def zeroed(layer: Layer) -> Layer:
    """Return the layer with weights and biases of zero, so that its branch adds nothing at first."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


Maker = Callable[[int], nn.Module]
"""From a number of channels to a module."""


def in_slots(
    make: Maker | Mapping[tuple[int, int], Maker], slots: Sequence[tuple[int, int]] = LATE_BLOCKS
) -> Callable[[EfficientNetLite0], nn.Module]:
    """Return an ``install`` function that fills the attention slot of some blocks.

    Args:
        make: Makes the module of every slot, or of each slot by itself.
        slots: Stage and index of each block, unless ``make`` gives them.
    """

    def install(trunk: EfficientNetLite0) -> nn.Module:
        for (stage, position), made in (make if isinstance(make, Mapping) else dict.fromkeys(slots, make)).items():
            block = trunk.stage(stage)[position]
            block.attention = made(block.out_channels)
        return trunk

    return install
