"""Target classes, which are checked once the output of the model gives the number of classes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.attribution.autograd_graph import reaches
from attnviz.core.model_outputs import logits_of
from attnviz.errors import AttributionError, TargetError

# Measured on one CPU: above it ResNets gain, up to 1.8 × for one image, and VGG and Inception v3 lose an eighth;
# GoogLeNet, DenseNet and MobileNet lie below.
_WEIGHTS_A_PIXEL = 100


def as_targets(target: int | Tensor | Sequence[int], images: int) -> Tensor:
    """One class index for each image.

    Args:
        target: A class for all images, or one for each: an integer, or integers ``(N,)``.
        images: ``N``.

    Returns:
        ``(N,)`` int64, on the CPU.

    Raises:
        TargetError: not integers, negative, or not one for each image.
    """
    try:
        given = torch.as_tensor(target).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise TargetError(f"a target is a class index, an integer; got {target!r}") from None
    if given.dtype.is_floating_point or given.dtype.is_complex or given.dtype == torch.bool:
        raise TargetError(f"a target is a class index, an integer; got {target!r}")
    if given.ndim == 0:
        given = given.expand(images)
    if given.shape != (images,):
        raise TargetError(f"wanted one target, or one for each of {images} images; got shape {tuple(given.shape)}")
    if images and int(given.min()) < 0:
        raise TargetError(f"a class index starts at 0, got {int(given.min())}")
    return given.to(torch.int64)


def score_of(logits: Callable[[Tensor], Tensor], images: Tensor, target: int | Tensor | Sequence[int]) -> Tensor:
    """Sum over the images of the logit of their classes, with gradients: a scalar."""
    targets = as_targets(target, len(images)).to(images.device)
    with torch.enable_grad():
        return logits(images).gather(1, targets[:, None]).sum()


def fast_format(module: nn.Module, x: Tensor) -> torch.memory_format:
    """In which memory format a model is likely to be faster: channels-last, if the images are enough for its weights.

    Convolutions are faster there, but a kernel that is not stored so is rearranged at every pass. For one image of
    224 px a ResNet-18 spends more on that than it gains.
    """
    stored_otherwise = sum(
        weight.numel()
        for weight in module.parameters()
        if weight.ndim == 4 and not weight.is_contiguous(memory_format=torch.channels_last)
    )
    pixels = len(x) * x.shape[2] * x.shape[3]
    return torch.channels_last if stored_otherwise <= _WEIGHTS_A_PIXEL * pixels else torch.contiguous_format


class Logits:
    """A model as Captum calls it: images ``(N, C, H, W)`` to logits ``(N, classes)``, checked on the way.

    The images are copied first, to the memory format in which convolutions are fastest (:func:`fast_format`): a model
    may then overwrite its input, which autograd refuses for the caller's own tensor. They get the type of the model's
    parameters: Captum's noise and paths turn half precision into single.

    Args:
        module: The model.
        highest: Largest target class.
        tick: Progress callback: number of rows of each forward pass.
    """

    def __init__(self, module: nn.Module, highest: int = 0, tick: Callable[[int], object] | None = None) -> None:
        self.module = module
        self.highest = highest
        self._tick = tick
        self._connected = False

    def __call__(self, x: Tensor) -> Tensor:
        """The logits, one row for each image.

        Raises:
            TargetError: the model has no such class.
            AttributionError: the output is not ``(N, classes)``, or does not depend on the images by operations that
                autograd can follow.
        """
        return self.run(x, len(x))

    def run(self, x: Tensor, rows: int) -> Tensor:
        """As a call, where a hook makes the batch grow on the way: the logits have ``rows`` rows."""
        images = x.clone(memory_format=fast_format(self.module, x))
        start = images.grad_fn
        if self._tick is not None:
            self._tick(rows)
        dtype = next((p.dtype for p in self.module.parameters() if p.is_floating_point()), x.dtype)
        output: Any = self.module(images.to(dtype))
        logits = logits_of(output, self._name, rows, AttributionError)
        if self.highest >= logits.shape[1]:
            raise TargetError(
                f"{self._name} has {logits.shape[1]} classes, 0 to {logits.shape[1] - 1}; got {self.highest}"
            )
        if start is not None and not self._connected:
            if not reaches(logits.grad_fn, start):
                raise AttributionError(f"no gradient flows from the logits of {self._name} back to the image")
            self._connected = True
        return logits

    @property
    def _name(self) -> str:
        return type(self.module).__name__
