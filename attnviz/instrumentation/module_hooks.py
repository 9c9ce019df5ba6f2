"""Hooks around the ``forward`` of modules with sites, from the first observer to the last."""

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

# Not an attribute of the module: a copy of a hooked module has no hook.
_HOOKS: dict[int, ModuleHook] = {}
CHANGING = threading.RLock()
"""Lock for wrapping and unwrapping forwards, and for tracing, which wraps all forwards of a model."""


class ModuleHook:
    """The wrapper around the ``forward`` of one module, with its observers.

    Attributes:
        dependents: Number of hooked modules whose interception starts after this module returns.
    """

    def __init__(self, module: nn.Module) -> None:
        self.dependents = 0
        self._module = module
        self._observers: list[tuple[SiteObserver, HookTarget]] = []
        self._before_next: list[Callable[..., None]] = []
        self._before_each: list[Callable[..., None]] = []
        self._calling = threading.RLock()
        self._hooked: HookedSites | None = None
        self._users = 0
        self._undo = wrap_forward(module, self._around)
        _HOOKS[id(module)] = self

    @staticmethod
    def of(module: nn.Module) -> ModuleHook:
        """The hook of ``module``, created for its first user; each user releases it once."""
        hook = _HOOKS.get(id(module)) or ModuleHook(module)
        hook._users += 1
        return hook

    def add(self, observer: SiteObserver, target: HookTarget) -> None:
        """Pass the sites of ``target`` to ``observer``; observers edit in the order in which they were added."""
        self._change([*self._observers, (observer, target)])

    def call_before_next(self, callback: Callable[..., None]) -> None:
        """Call ``callback`` before the next forward call."""
        self._before_next = [*self._before_next, callback]

    def call_before_each(self, callback: Callable[..., None]) -> None:
        """Call ``callback`` before each forward call."""
        self._before_each = [*self._before_each, callback]

    def release(self, user: SiteObserver | Callable[..., None] | None) -> None:
        """Remove an observer or a callback; with the last user, restore the module."""
        self._before_next = [callback for callback in self._before_next if callback is not user]
        self._before_each = [callback for callback in self._before_each if callback is not user]
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
            interceptor = THREAD.interceptor
            if interceptor.is_disabled:
                return forward(*args, **kwargs)
            for callback in self._before_each:
                callback(*args, **kwargs)
            if self._before_next:
                self._run_callbacks(*args, **kwargs)
            hooked = self._hooked
            result = (
                forward(*args, **kwargs)
                if hooked is None
                else interceptor.run(self._module, hooked, forward, args, kwargs)
            )
            if self.dependents:
                interceptor.returned(self._module)
            return result

        return run

    def _run_callbacks(self, *args: Any, **kwargs: Any) -> None:
        with self._calling:
            for callback in self._before_next:
                callback(*args, **kwargs)
                self._before_next = [other for other in self._before_next if other is not callback]


@contextmanager
def observing(targets: Iterable[HookTarget], observer: SiteObserver) -> Iterator[None]:
    """Pass the sites of some modules to ``observer`` inside the block."""
    hooks: list[ModuleHook] = []
    children: list[ModuleHook] = []
    with patched():
        try:
            with CHANGING:
                for target in targets:
                    hooks.append(ModuleHook.of(target.module))
                    hooks[-1].add(observer, target)
                    if target.child is not None:
                        children.append(ModuleHook.of(target.child))
                        children[-1].dependents += 1
            yield
        finally:
            with CHANGING:
                for child in children:
                    child.dependents -= 1
                    child.release(None)
                for hook in reversed(hooks):
                    hook.release(observer)


@contextmanager
def before_each(module: nn.Module, callback: Callable[..., None]) -> Iterator[None]:
    """Call ``callback`` with the inputs of each forward call of ``module``, before that call."""
    with CHANGING:
        hook = ModuleHook.of(module)
        hook.call_before_each(callback)
    try:
        yield
    finally:
        with CHANGING:
            hook.release(callback)


@contextmanager
def before_first(module: nn.Module, callback: Callable[..., None]) -> Iterator[None]:
    """Call ``callback`` once with the inputs of the next forward call of ``module``, before that call.

    If it raises, it is called again before the next call.
    """
    with CHANGING:
        hook = ModuleHook.of(module)
        hook.call_before_next(callback)
    try:
        yield
    finally:
        with CHANGING:
            hook.release(callback)
