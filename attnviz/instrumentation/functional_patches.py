"""Stand in front of PyTorch's functions that models look up at each call, such as ``F.scaled_dot_product_attention``.

A function mode hears every operation of a module, and each takes it some microseconds. Where a model calls its site's
operation through the module that holds the function, it is enough to stand there: nothing else has to be heard.
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
"""Functions of :mod:`torch.nn.functional` that can be stood in front of."""


class _ThreadState(threading.local):
    """Who hears the calls of this thread; nobody in most threads, and then a call goes straight on."""

    def __init__(self) -> None:
        self.handler: Interceptor | None = None


class FunctionPatch:
    """What stands in front of one function, while anybody needs it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._users = 0
        self._original: Any = None
        self._patch: Any = None

    def enter(self) -> None:
        """Stand there; only the first has to do anything."""
        self._users += 1
        if self._users == 1:
            self._original = getattr(functional, self._name)
            self._patch = _patched_function(self._original)
            setattr(functional, self._name, self._patch)

    def leave(self) -> None:
        """The last who leaves puts back what was there, unless somebody else has put theirs there meanwhile."""
        self._users -= 1
        if not self._users and getattr(functional, self._name) is self._patch:
            setattr(functional, self._name, self._original)


_THREAD = _ThreadState()
_CHANGING = threading.RLock()
_PATCHES = [FunctionPatch(name) for name in FUNCTIONS]


@contextmanager
def intercept(handler: Interceptor) -> Iterator[None]:
    """Let ``handler(function, args, kwargs)`` answer this thread's calls inside the block, where somebody stands."""
    before, _THREAD.handler = _THREAD.handler, handler
    try:
        yield
    finally:
        _THREAD.handler = before


@contextmanager
def patched() -> Iterator[None]:
    """Stand in front of :data:`FUNCTIONS`, for all threads."""
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
