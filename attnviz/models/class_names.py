"""Class names of ImageNet."""

from functools import cache
from importlib import resources


@cache
def imagenet_labels() -> tuple[str, ...]:
    """Return a short, unique English name for each of the 1000 classes of ImageNet-1k.

    >>> imagenet_labels()[281], imagenet_labels()[967]
    ('tabby cat', 'espresso')
    """
    text = resources.files("attnviz.models").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
