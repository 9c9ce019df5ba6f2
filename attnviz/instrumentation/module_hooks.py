"""Where listeners stand: around the ``forward`` of modules that hold sites, from the first to the last of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from attnviz.instrumentation.dispatch import THREAD, HookedSites, HookTarget
from attnviz.instrumentation.forward_wrapper import Forward, wrap_forward
from attnviz.instrumentation.functional_patches import patched
from attnviz.instrumentation.site_handler import SiteObserver

# Not an attribute of the module: a copy of a module that is listened to has no post.
_HOOKS: dict[int, ModuleHook] = {}
CHANGING = threading.RLock()
"""Held while forwards are wrapped or unwrapped, and while a model is traced, which wraps all of them."""


class ModuleHook:
    """Where the listeners of one module stand: around its ``forward``, while there are any.

    Attributes:
        awaited: How many wait for the module's return.
    """

    def __init__(self, module: nn.Module) -> None:
        self.awaited = 0
        self._module = module
        self._observers: list[tuple[SiteObserver, HookTarget]] = []
        self._before: list[Callable[..., None]] = []
        self._finding = threading.RLock()
        self._hooked: HookedSites | None = None
        self._users = 0
        self._undo = wrap_forward(module, self._around)
        _HOOKS[id(module)] = self

    @staticmethod
    def of(module: nn.Module) -> ModuleHook:
        """The post of ``module``, put up by the first who comes; each who comes leaves once."""
        hook = _HOOKS.get(id(module)) or ModuleHook(module)
        hook._users += 1
        return hook

    def join(self, observer: SiteObserver, target: HookTarget) -> None:
        """Let ``observer`` hear the sites of this place; who comes later edits later."""
        self._change([*self._observers, (observer, target)])

    def wait(self, act: Callable[..., None]) -> None:
        """Call ``act`` before the next forward call."""
        self._before = [*self._before, act]

    def leave(self, user: SiteObserver | Callable[..., None] | None) -> None:
        """Let a listener hear nothing, or do not act any more; after the last who leaves, the module is as it was."""
        self._before = [act for act in self._before if act is not user]
        self._change([entry for entry in self._observers if entry[0] is not user])
        self._users -= 1
        if not self._users:
            del _HOOKS[id(self._module)]
            self._undo()

    def _change(self, observers: list[tuple[SiteObserver, HookTarget]]) -> None:
        if len(observers) != len(self._observers):
            self._observers, self._hooked = observers, HookedSites(observers) if observers else None

    def _around(self, forward: Forward) -> Forward:
        def run(*args: Any, **kwargs: Any) -> Any:
            interceptor = THREAD.here
            if interceptor.is_disabled:
                return forward(*args, **kwargs)
            if self._before:
                self._act(*args, **kwargs)
            hooked = self._hooked
            result = (
                forward(*args, **kwargs)
                if hooked is None
                else interceptor.run(self._module, hooked, forward, args, kwargs)
            )
            if self.awaited:
                interceptor.returned(self._module)
            return result

        return run

    def _act(self, *args: Any, **kwargs: Any) -> None:
        with self._finding:
            for act in self._before:
                act(*args, **kwargs)
                self._before = [other for other in self._before if other is not act]


@contextmanager
def observing(targets: Iterable[HookTarget], observer: SiteObserver) -> Iterator[None]:
    """Let ``observer`` hear the sites of some modules inside the block."""
    joined: list[ModuleHook] = []
    awaited: list[ModuleHook] = []
    with patched():
        try:
            with CHANGING:
                for target in targets:
                    joined.append(ModuleHook.of(target.module))
                    joined[-1].join(observer, target)
                    if target.child is not None:
                        awaited.append(ModuleHook.of(target.child))
                        awaited[-1].awaited += 1
            yield
        finally:
            with CHANGING:
                for child in awaited:
                    child.awaited -= 1
                    child.leave(None)
                for hook in reversed(joined):
                    hook.leave(observer)


@contextmanager
def before_first(module: nn.Module, act: Callable[..., None]) -> Iterator[None]:
    """Call ``act`` with the inputs of the next forward call of ``module``, before it; once, unless it fails."""
    with CHANGING:
        hook = ModuleHook.of(module)
        hook.wait(act)
    try:
        yield
    finally:
        with CHANGING:
            hook.leave(act)
