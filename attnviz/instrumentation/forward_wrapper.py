"""Wrap the ``forward`` of a module temporarily."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable
from typing import Any

from torch import nn

Forward = Callable[..., Any]


class _Wrapped:
    """A wrapped ``forward``; a copy of the module made meanwhile has its own plain ``forward``.

    Its name, signature and attributes are those of the original.
    """

    def __init__(self, module: nn.Module, original: Forward, run: Forward) -> None:
        self._module, self.__wrapped__, self._run = module, original, run

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["__wrapped__"], name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Forward:
        copied = memo.get(id(self._module))
        plain = getattr(type(self._module), "forward", None)
        is_plain = getattr(self.__wrapped__, "__func__", None) is plain
        if plain is not None and copied is not None and is_plain:
            return types.MethodType(plain, copied)
        return copy.deepcopy(self.__wrapped__, memo)


def wrap_forward(module: nn.Module, around: Callable[[Forward], Forward]) -> Callable[[], None]:
    """Replace ``module.forward`` by ``around(forward)``, and return the function that undoes it.

    An instance attribute is used instead of a hook: it also wraps direct calls of ``module.forward(x)``, and a
    ``try … finally`` inside it also runs on ``KeyboardInterrupt``, for which PyTorch skips ``always_call`` hooks.
    """
    attributes = module.__dict__
    had = "forward" in attributes
    before = attributes.get("forward")
    original: Forward = module.forward
    attributes["forward"] = _Wrapped(module, original, around(original))

    def undo() -> None:
        """Restore the previous ``forward``."""
        if had:
            attributes["forward"] = before
        else:
            del attributes["forward"]

    return undo
