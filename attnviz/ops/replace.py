"""Give a user's model our deformable convolution, and take it back."""

from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor, nn

from attnviz.ops.functional import deform_conv2d
from attnviz.ops.modules import DeformConv2d


def _convolve(module: nn.Module, x: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
    m: Any = module
    return deform_conv2d(x, offset, m.weight, getattr(m, "bias", None), m.stride, m.padding, m.dilation, mask)


class _DeformConv2d(DeformConv2d):
    """Replaces the modules of torchvision and mmcv whose offsets are arguments."""

    def extra_repr(self) -> str:
        m: Any = self
        return f"{m.in_channels}, {m.out_channels}, kernel_size={m.kernel_size}, stride={m.stride}"


class _DeformConv2dPack(_DeformConv2d):
    """Replaces mmcv's module that predicts offsets (v1)."""

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]  # noqa: A002 - mmcv's signature
        predict: Any = self.conv_offset
        return _convolve(self, input, predict(input), None)


class _ModulatedDeformConv2dPack(_DeformConv2d):
    """Replaces mmcv's module that predicts offsets and masks (v2)."""

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]  # noqa: A002 - mmcv's signature
        predict: Any = self.conv_offset
        offset, mask = predict(input).split((2 * _taps(self), _taps(self)), 1)
        return _convolve(self, input, offset, mask.sigmoid())


def _taps(module: nn.Module) -> int:
    """Offset groups times taps, of which a predicting module gives three numbers each."""
    predict: Any = module.conv_offset
    return int(predict.out_channels) // 3


_STANDS_FOR: dict[str, type[_DeformConv2d]] = {
    "DeformConv2d": _DeformConv2d,
    "ModulatedDeformConv2d": _DeformConv2d,
    "DeformConv2dPack": _DeformConv2dPack,
    "ModulatedDeformConv2dPack": _ModulatedDeformConv2dPack,
}


def _replacement(module: nn.Module) -> type[nn.Module] | None:
    """Our class for a module of torchvision's or mmcv's; None for subclasses, whose forward is their own."""
    kind = type(module)
    if "deform_conv" not in kind.__module__ or kind.__module__.startswith("attnviz."):
        return None
    if not isinstance(getattr(module, "weight", None), torch.Tensor):
        return None
    return _STANDS_FOR.get(kind.__name__)


class Replaced:
    """What :func:`replace_deform_conv` did; a context manager, or call :meth:`undo`.

    Attributes:
        names: Dotted names of the replaced modules.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self._undo = ExitStack()

    def undo(self) -> None:
        """Restore the class of every module; a second call has no effect."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.undo()

    def __repr__(self) -> str:
        return f"Replaced(names={self.names!r})"


def replace_deform_conv(model: nn.Module) -> Replaced:
    """Let a model's deformable convolutions run on this sampler, with equal outputs.

    Modules of torchvision and of mmcv (v1, v2, and those that predict offsets) change their class and nothing
    else: parameters, names, hooks, training flags and identity stay, so that optimisers and checkpoints do not notice.
    A subclass with its own ``forward`` is not changed.

    Args:
        model: Any module; it is changed in place.

    Returns:
        A handle: ``handle.undo()``, or the end of a ``with`` block, puts everything back. ``handle.names`` lists what
        was found.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 1))
    >>> replace_deform_conv(model).names
    ()
    """
    replaced = Replaced()
    for name, module in model.named_modules():
        replacement = _replacement(module)
        if replacement is not None:
            replaced._undo.callback(setattr, module, "__class__", type(module))
            module.__class__ = replacement
            replaced.names += (name,)
    return replaced
