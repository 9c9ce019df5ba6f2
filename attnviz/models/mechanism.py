"""How a mechanism joins the built-in models: one file with the module, and one entry in :data:`MODELS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from attnviz.models.trunk import EfficientNetLite0
from attnviz.registry import Registry

LATE_BLOCKS = ((4, 2), (5, 0), (5, 1), (5, 2), (5, 3), (6, 0))


@dataclass(frozen=True, slots=True)
class Mechanism:
    """A built-in model: the trunk with one mechanism in it.

    Attributes:
        summary: What it does and where it sits, in one line.
        source: Paper, in a few words.
        install: Puts the mechanism into the trunk and hands back the network, often the trunk itself. Whatever the
            network has beyond the trunk's tensors is the attention: trained, and shipped.
        first_stage: Everything up to the last attention slot of ``blocks[first_stage]`` is the bare trunk, so that
            training computes it once.
        attends: Whether there is any attention: ``False`` for the control alone.
    """

    summary: str
    source: str
    install: Callable[[EfficientNetLite0], nn.Module]
    first_stage: int
    attends: bool = True


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
