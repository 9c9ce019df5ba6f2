"""How a mechanism joins the built-in models: one file with the module, and one entry in :data:`MODELS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from attnviz.core.registry import Registry
from attnviz.models.trunk import EfficientNetLite0

LATE_BLOCKS = ((3, 2), (4, 0), (4, 1), (4, 2), (5, 0), (5, 1), (5, 2), (5, 3), (6, 0))


class Staged(Protocol):
    """A network that training can enter in the middle: ``after(before(x, s), s)`` is the whole of it."""

    def before(self, x: Tensor, stage: int) -> Tensor:
        """What the bare trunk computes up to a stage; see :meth:`EfficientNetLite0.before`."""

    def after(self, features: Tensor, stage: int) -> Tensor:
        """The logits from that."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """A built-in model: the trunk with one mechanism in it.

    Attributes:
        summary: What it does and where it sits, in one line.
        source: Paper, in a few words.
        install: Puts the mechanism into the trunk and hands back the network, a :class:`Staged`, often the trunk
            itself. Whatever the network has beyond the trunk's tensors is the attention: trained, and shipped.
        first_stage: Everything up to the last attention slot of ``blocks[first_stage]`` is the bare trunk, so that
            training computes it once; -1 where nothing is.
        attends: Whether there is any attention: ``False`` for the control alone.
        frames: Frames of the clips that it was trained on; ``None`` for a model of single images.
    """

    summary: str
    source: str
    install: Callable[[EfficientNetLite0], nn.Module]
    first_stage: int
    attends: bool = True
    frames: int | None = None


MODELS: Registry[Mechanism] = Registry("model", home="attnviz.models")


def in_slots(
    make: Callable[[int], nn.Module], slots: Sequence[tuple[int, int]] = LATE_BLOCKS
) -> Callable[[EfficientNetLite0], nn.Module]:
    """An ``install`` that fills the attention slot of each of the named blocks.

    Args:
        make: Builds the module for a number of channels.
        slots: Stage and position of the blocks.
    """

    def install(trunk: EfficientNetLite0) -> nn.Module:
        for stage, position in slots:
            block = trunk.stage(stage)[position]
            block.attention = make(block.out_channels)
        return trunk

    return install
