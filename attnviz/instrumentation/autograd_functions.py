"""Intercept every ``autograd.Function`` while a model is traced: no function mode receives their ``apply``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.autograd import Function

Handler = Callable[..., Any]


@contextmanager
def intercepted_functions(handler: Handler) -> Iterator[None]:
    """Call ``handler(function, apply, *args)`` in place of ``function.apply(*args)`` inside the block, in all threads.

    A call through an earlier reference to ``apply``, or of a function with an ``apply`` of its own, is not intercepted.
    """
    descriptor = Function.__dict__["apply"]

    def apply(cls: type[Function], *args: Any, **kwargs: Any) -> Any:
        original = descriptor.__get__(None, cls)
        return original(*args, **kwargs) if kwargs else handler(cls, original, *args)

    Function.apply = classmethod(apply)
    try:
        yield
    finally:
        Function.apply = descriptor
