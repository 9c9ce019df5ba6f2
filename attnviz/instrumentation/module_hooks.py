"""Where listeners stand: around the ``forward`` of modules that hold sites, from the first to the last of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from attnviz.instrumentation.dispatch import EARS, Held, Place
from attnviz.instrumentation.forward_wrapper import Forward, wrap_forward
from attnviz.instrumentation.functional_patches import standing
from attnviz.instrumentation.site_handler import Listener

# Not an attribute of the module: a copy of a module that is listened to has no post.
_POSTS: dict[int, _Post] = {}
CHANGING = threading.RLock()
"""Held while forwards are wrapped or unwrapped, and while a model is traced, which wraps all of them."""


class _Post:
    """Where the listeners of one module stand: around its ``forward``, while there are any.

    Attributes:
        awaited: How many wait for the module's return.
    """

    def __init__(self, module: nn.Module) -> None:
        self.awaited = 0
        self._module = module
        self._listeners: list[tuple[Listener, Place]] = []
        self._before: list[Callable[..., None]] = []
        self._finding = threading.RLock()
        self._held: Held | None = None
        self._users = 0
        self._undo = wrap_forward(module, self._around)
        _POSTS[id(module)] = self

    @staticmethod
    def of(module: nn.Module) -> _Post:
        """The post of ``module``, put up by the first who comes; each who comes leaves once."""
        post = _POSTS.get(id(module)) or _Post(module)
        post._users += 1
        return post

    def join(self, listener: Listener, place: Place) -> None:
        """Let ``listener`` hear the sites of this place; who comes later edits later."""
        self._change([*self._listeners, (listener, place)])

    def wait(self, act: Callable[..., None]) -> None:
        """Call ``act`` before the next forward call."""
        self._before = [*self._before, act]

    def leave(self, user: Listener | Callable[..., None] | None) -> None:
        """Let a listener hear nothing, or do not act any more; after the last who leaves, the module is as it was."""
        self._before = [act for act in self._before if act is not user]
        self._change([entry for entry in self._listeners if entry[0] is not user])
        self._users -= 1
        if not self._users:
            del _POSTS[id(self._module)]
            self._undo()

    def _change(self, listeners: list[tuple[Listener, Place]]) -> None:
        if len(listeners) != len(self._listeners):
            self._listeners, self._held = listeners, Held(listeners) if listeners else None

    def _around(self, forward: Forward) -> Forward:
        def run(*args: Any, **kwargs: Any) -> Any:
            ear = EARS.here
            if ear.hushed:
                return forward(*args, **kwargs)
            if self._before:
                self._act(*args, **kwargs)
            held = self._held
            result = forward(*args, **kwargs) if held is None else ear.run(self._module, held, forward, args, kwargs)
            if self.awaited:
                ear.returned(self._module)
            return result

        return run

    def _act(self, *args: Any, **kwargs: Any) -> None:
        with self._finding:
            for act in self._before:
                act(*args, **kwargs)
                self._before = [other for other in self._before if other is not act]


@contextmanager
def listening(places: Iterable[Place], listener: Listener) -> Iterator[None]:
    """Let ``listener`` hear the sites of some modules inside the block."""
    joined: list[_Post] = []
    awaited: list[_Post] = []
    with standing():
        try:
            with CHANGING:
                for place in places:
                    joined.append(_Post.of(place.module))
                    joined[-1].join(listener, place)
                    if place.child is not None:
                        awaited.append(_Post.of(place.child))
                        awaited[-1].awaited += 1
            yield
        finally:
            with CHANGING:
                for child in awaited:
                    child.awaited -= 1
                    child.leave(None)
                for post in reversed(joined):
                    post.leave(listener)


@contextmanager
def before_first(module: nn.Module, act: Callable[..., None]) -> Iterator[None]:
    """Call ``act`` with the inputs of the next forward call of ``module``, before it; once, unless it fails."""
    with CHANGING:
        post = _Post.of(module)
        post.wait(act)
    try:
        yield
    finally:
        with CHANGING:
            post.leave(act)
