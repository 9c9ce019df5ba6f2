"""Patch PyTorch functions that models look up at each call, such as ``F.scaled_dot_product_attention``.

A function mode receives every operation of a module, which takes some microseconds each. If a model calls the operation
of its site through ``torch.nn.functional``, patching that function is enough and no mode is needed.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn import functional

Interceptor = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]

FUNCTIONS = frozenset({"scaled_dot_product_attention"})
"""Functions of :mod:`torch.nn.functional` that can be patched."""


class _ThreadState(threading.local):
    """The handler of this thread's calls; ``None`` in most threads, whose calls are passed straight on."""

    def __init__(self) -> None:
        self.handler: Interceptor | None = None


class FunctionPatch:
    """A reference-counted patch of one function."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._users = 0
        self._original: Any = None
        self._patch: Any = None

    def enter(self) -> None:
        """Add a user; the first one patches the function."""
        self._users += 1
        if self._users == 1:
            self._original = getattr(functional, self._name)
            self._patch = _patched_function(self._original)
            setattr(functional, self._name, self._patch)

    def leave(self) -> None:
        """Remove a user; the last one restores the function, unless other code has replaced it meanwhile."""
        self._users -= 1
        if not self._users and getattr(functional, self._name) is self._patch:
            setattr(functional, self._name, self._original)


_THREAD = _ThreadState()
_CHANGING = threading.RLock()
_PATCHES = [FunctionPatch(name) for name in FUNCTIONS]


@contextmanager
def intercept(handler: Interceptor) -> Iterator[None]:
    """Pass this thread's calls of patched functions to ``handler(function, args, kwargs)`` inside the block."""
    before, _THREAD.handler = _THREAD.handler, handler
    try:
        yield
    finally:
        _THREAD.handler = before


@contextmanager
def patched() -> Iterator[None]:
    """Patch :data:`FUNCTIONS` for all threads inside the block."""
    with _CHANGING:
        for patch in _PATCHES:
            patch.enter()
    try:
        yield
    finally:
        with _CHANGING:
            for patch in _PATCHES:
                patch.leave()


def _patched_function(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def patch(*args: Any, **kwargs: Any) -> Any:
        handler = _THREAD.handler
        return function(*args, **kwargs) if handler is None else handler(function, args, kwargs)

    return patch
