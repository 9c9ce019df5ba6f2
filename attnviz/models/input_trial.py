"""Find the shape of a model's input: the channels of its first layer, and a size on which it runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.core.model_outputs import OutputPath, select, tensors_by_path
from attnviz.core.model_state import borrowed, seeded
from attnviz.errors import ModelError

_SIZES = (224, 32, 28, 64, 96, 128, 160, 192, 256, 299, 384, 448, 512)
"""Sides of inputs that are tried if the size is unknown: that of most models first."""


@dataclass(frozen=True, slots=True, eq=False)
class InputTrial:
    """A run of a model on noise.

    Attributes:
        x: The input, ``(1, C, H, W)``.
        output: What the model returned.
    """

    x: Tensor
    output: Any

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(1, C, H, W)``."""
        return tuple(self.x.shape)  # type: ignore[return-value]  # four axes

    def outputs(self, path: OutputPath = None) -> int | None:
        """Number of values of each image in a part of the output, if it is a vector; ``None`` otherwise."""
        tensors = list(tensors_by_path(select(self.output, path)))
        found = [t for _, t in tensors if t.ndim == 2 or (t.ndim > 2 and t.shape[2:].numel() == 1)]
        named = [t for name, t in tensors if name in {"logits", "0.logits"} and t.ndim == 2]
        return int((named or found)[0].shape[1]) if named or found else None


def run_trial(
    module: nn.Module, name: str, size: tuple[int, int] | None, channels: int | None, likely: int | None
) -> InputTrial:
    """Run a model on noise of the first shape that it takes.

    Three channels are tried before those of its first layer: a model that takes colours can convert them to grey.

    Args:
        module: The model, which is borrowed.
        name: Its name, for messages.
        size: ``(H, W)``; if ``None``, usual sizes are tried.
        channels: Number of channels, if it is certain.
        likely: Number of channels, if it is likely.

    Raises:
        ModelError: the model fails on every shape that was tried.
    """
    first = channels_of_first_layer(module)
    counts = [channels] if channels else list(dict.fromkeys(one for one in (likely, 3, first, 1, 4) if one))
    sizes = [size] if size else [(side, side) for side in _SIZES]
    parameter = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    failures: list[tuple[tuple[int, ...], Exception]] = []
    with seeded(torch.device("cpu"), 0), borrowed(module), torch.no_grad():
        for sides, count in itertools.product(sizes, counts):
            x = torch.randn(1, count, *sides).to(parameter.device, parameter.dtype)
            try:
                return InputTrial(x, module(x))
            except Exception as error:  # noqa: BLE001  # of the user's model
                failures.append((tuple(x.shape), error))
    shape, cause = next((one for one in failures if one[0][1] == first), failures[0])
    reason = " ".join(str(cause).split())[:240]
    tried = "" if size else f", and on squares of {', '.join(map(str, _SIZES[1:]))} pixels"
    raise ModelError(
        f"{name}: fails on an input of shape {shape}{tried}: {type(cause).__name__}: {reason}; set its size and "
        "channels with preprocess=, or --size and --mean"
    ) from cause


def channels_of_first_layer(module: nn.Module) -> int | None:
    """Return the number of input channels of the first layer with a kernel; ``None`` if there is none."""
    return next(_channels(module), None)


def _channels(module: nn.Module) -> Iterator[int]:
    for one in module.modules():
        if isinstance(one, nn.Conv2d) and not isinstance(one, nn.LazyConv2d):
            yield one.in_channels
