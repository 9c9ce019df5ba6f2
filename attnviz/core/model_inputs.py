"""How a model is called: with images alone, or with images among other inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from torch import Tensor

from attnviz.errors import ModelError

Inputs: TypeAlias = "Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]"
"""Images, or all inputs of a model: positional ones in a sequence, named ones in a mapping."""

ImageKey: TypeAlias = "int | str | None"


def is_images(value: Any) -> bool:
    """Whether a value can be images ``(N, C, H, W)`` or volumes ``(N, C, D, H, W)``."""
    return isinstance(value, Tensor) and value.ndim in {4, 5} and value.is_floating_point()


@dataclass(frozen=True, slots=True, eq=False)
class InputTemplate:
    """The inputs of a model with a place for the images.

    Attributes:
        args: Positional inputs.
        kwargs: Named inputs.
        key: Index or name of the images.
        images: Batch size of the images. Other tensors with as many rows belong to one image each.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    key: int | str
    images: int

    def __call__(self, x: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for images ``x``: inputs that belong to one image are repeated for a larger batch."""
        args = tuple(x if index == self.key else self._fitted(value, len(x)) for index, value in enumerate(self.args))
        kwargs = {name: x if name == self.key else self._fitted(value, len(x)) for name, value in self.kwargs.items()}
        return args, kwargs

    def _fitted(self, value: Any, rows: int) -> Any:
        if not (isinstance(value, Tensor) and value.ndim and len(value) == self.images != rows):
            return value
        if rows % self.images:
            raise ModelError(f"an input of {self.images} rows does not fit a batch of {rows} images")
        return value.repeat(rows // self.images, *(1,) * (value.ndim - 1))

    def of_image(self, number: int) -> InputTemplate:
        """The inputs of one image of the batch."""
        part = slice(number, number + 1)

        def own(value: Any) -> Any:
            return value[part] if isinstance(value, Tensor) and value.ndim and len(value) == self.images else value

        args, kwargs = tuple(map(own, self.args)), {name: own(value) for name, value in self.kwargs.items()}
        return replace(self, args=args, kwargs=kwargs, images=1)


def split_inputs(
    inputs: Inputs, image: ImageKey, error: Callable[[str], Exception]
) -> tuple[Any, InputTemplate | None]:
    """The images among the inputs of a model, and the place of the others; ``None`` for images alone.

    Args:
        inputs: The inputs.
        image: Index or name of the images; by default the first floating-point tensor of 4 or 5 axes.
        error: Makes the error that is raised.
    """
    if isinstance(inputs, Tensor) or not isinstance(inputs, tuple | list | Mapping):
        return inputs, None
    named: dict[Any, Any] = dict(inputs) if isinstance(inputs, Mapping) else dict(enumerate(inputs))
    key = next((key for key, value in named.items() if is_images(value)), None) if image is None else image
    if key is None or not is_images(named.get(key)):
        what = "has no images (N, C, H, W)" if image is None else f"has no images at {image!r}"
        raise error(f"the input {what}; it has {', '.join(map(str, named))}")
    args = () if isinstance(inputs, Mapping) else tuple(inputs)
    kwargs = dict(inputs) if isinstance(inputs, Mapping) else {}
    return named[key], InputTemplate(args, kwargs, key, len(named[key]))
