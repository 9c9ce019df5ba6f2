"""Intercept the operations of modules with sites: one interceptor per thread, for any number of modules and observers.

Captures and interventions share it. It is a function mode that is active only while a module with a site runs. It
receives every operation of such a module, so the path of an operation that is no site must stay short.
"""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

from attnviz._compat import function_mode_depth
from attnviz.core.records import Site
from attnviz.instrumentation.adapters import adapters
from attnviz.instrumentation.forward_wrapper import Forward
from attnviz.instrumentation.functional_patches import intercept
from attnviz.instrumentation.operations import name_of
from attnviz.instrumentation.site_handler import Key, SiteHandler, SiteObserver


@dataclass(frozen=True, slots=True)
class HookTarget:
    """A module with sites.

    Attributes:
        module: The module.
        sites: Its sites that are observed.
        child: The child after whose return interception can start; ``None``: at the start of a call.
        counts: Number of operations of each name in a call of the module before that return.
    """

    module: nn.Module
    sites: Mapping[Key, Site]
    child: nn.Module | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


class HookedSites:
    """The observed sites of one module, and the operations that are counted to identify them.

    Attributes:
        sites: Handlers by operation, then by position.
        patch_only: Whether all sites are calls of patched functions, so that no function mode is needed.
        start: The child after whose return interception starts, and the counts at that point; ``None``: at the start of
            a call.
        needed_operands: Operations whose operands are kept for a later operation of the same call.
        names: Names of the operations that are not passed straight on while this module is the innermost with sites.
    """

    __slots__ = ("names", "needed_operands", "patch_only", "sites", "start")

    def __init__(self, observers: Sequence[tuple[SiteObserver, HookTarget]]) -> None:
        self.sites: dict[str, dict[int, SiteHandler]] = {}
        self.needed_operands: set[Key] = set()
        for name, position in dict.fromkeys(key for _, target in observers for key in target.sites):
            key = (name, position)
            handler = SiteHandler(
                [(observer, target.sites[key]) for observer, target in observers if key in target.sites]
            )
            self.sites.setdefault(name, {})[position] = handler
            if handler.also:
                self.needed_operands.add(handler.also)
        for name, _ in self.needed_operands:
            self.sites.setdefault(name, {})
        self.names = frozenset((*self.sites, *adapters()))
        self.patch_only = all(site.patchable for _, target in observers for site in target.sites.values())
        starts = [(target.child, target.counts) for _, target in observers]
        child, counts = starts[0]
        is_common = child is not None and not self.patch_only and all(start == starts[0] for start in starts)
        self.start = (child, counts) if is_common else None


class _Frame:
    """One running call of a module with sites.

    Attributes:
        is_active: Whether its operations are counted; if not, it starts after the return of a child.
        has_mode: Whether the function mode was entered for this call.
        modes: Number of active function modes when the call began.
    """

    __slots__ = ("counts", "has_mode", "hooked", "is_active", "modes", "names", "operands")

    def __init__(self, hooked: HookedSites, outer: _Frame | None, *, is_active: bool) -> None:
        self.hooked = hooked
        self.counts = dict.fromkeys(hooked.sites, 0)
        self.operands: dict[Key, Sequence[Any]] = {}
        self.names = hooked.names
        if outer is not None and not outer.names <= hooked.names:
            self.names |= outer.names
        self.is_active, self.has_mode = is_active, False
        self.modes = function_mode_depth()

    def count(self, name: str) -> int:
        """The position of the next operation of this name."""
        position = self.counts[name]
        self.counts[name] = position + 1
        return position


_MAX_IGNORED = 1024


@functools.lru_cache(maxsize=64)
def _ignored_functions(_names: frozenset[str]) -> set[Callable[..., Any]]:
    """Functions that are passed on without a look-up of their name, per set of names: most of what is received."""
    return set()


def _is_reusable(func: Callable[..., Any]) -> bool:
    """Whether a reference to the function can be kept: a user's closure or bound method could hold tensors."""
    return not isinstance(func, types.MethodType) and getattr(func, "__closure__", None) is None


class OpInterceptor(TorchFunctionMode):
    """Counts the operations of the running modules, and runs those that are sites.

    Attributes:
        frames: The running modules with sites, outermost first.
        is_disabled: Whether every operation is passed on unchanged.
        is_on: Whether it is active as a function mode.
    """

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[_Frame] = []
        self.is_disabled = self.is_on = self._is_patched = False
        self._ignored: set[Callable[..., Any]] = set()

    def run(
        self, module: nn.Module, hooked: HookedSites, forward: Forward, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run a module with sites."""
        outer = self.frames[-1] if self.frames else None
        # The start was traced in eval mode: in training mode other children can run.
        frame = _Frame(hooked, outer, is_active=self.is_on or hooked.start is None or module.training)
        self.frames.append(frame)
        self._ignored = _ignored_functions(frame.names)
        try:
            if self.is_on:
                return forward(*args, **kwargs)
            if hooked.patch_only:
                return self._run_patched(forward, args, kwargs)
            if frame.is_active:
                self._enter_mode(frame)
            return forward(*args, **kwargs)
        finally:
            self.frames.pop()
            if frame.has_mode:
                self.is_on = False
                self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            if outer is not None:
                self._ignored = _ignored_functions(outer.names)

    def _run_patched(self, forward: Forward, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run a module whose sites are calls of patched functions."""
        if self._is_patched:
            return forward(*args, **kwargs)
        self._is_patched = True
        try:
            with intercept(self.intercept_call):
                return forward(*args, **kwargs)
        finally:
            self._is_patched = False

    def _enter_mode(self, frame: _Frame) -> None:
        self.__enter__()  # type: ignore[no-untyped-call]
        frame.has_mode = self.is_on = True

    def returned(self, child: nn.Module) -> None:
        """Start the interception of the calling module if it starts after the return of ``child``."""
        frame = self.frames[-1] if self.frames else None
        if frame is None or frame.is_active or frame.hooked.start is None or self.is_disabled:
            return
        expected, counts = frame.hooked.start
        # If the model entered a mode of its own since, leaving it would remove ours from the stack instead.
        if expected is child and function_mode_depth() == frame.modes:
            frame.counts.update((name, counts.get(name, 0)) for name in frame.counts)
            frame.is_active = True
            if not self.is_on:
                self._enter_mode(frame)

    def intercept_call(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Handle a call of a patched function; an active mode receives it anyway."""
        if self.is_on or self.is_disabled:
            return func(*args, **kwargs)
        return self._dispatch(name_of(func), func, args, kwargs)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in self._ignored or self.is_disabled:
            return func(*args, **kwargs) if kwargs else func(*args)
        return self._dispatch(name_of(func), func, args, kwargs or {})

    def _dispatch(self, name: str, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if name not in self.frames[-1].names:
            if len(self._ignored) < _MAX_IGNORED and _is_reusable(func):
                self._ignored.add(func)
            return func(*args, **kwargs)
        if self.is_on and name in adapters():  # patched functions have no adapter
            with self:
                return adapters()[name](*args, **kwargs)
        # Outer modules count the operations of their children too: positions are those of one call, children included.
        found: SiteHandler | None = None
        extra: Sequence[Any] = ()
        for frame in reversed(self.frames):
            handlers = frame.hooked.sites.get(name) if frame.is_active else None
            if handlers is None:
                continue
            position = frame.count(name)
            if (name, position) in frame.hooked.needed_operands:
                frame.operands[name, position] = args
            handler = handlers.get(position) if found is None else None
            if handler is not None:
                found, extra = handler, frame.operands.get(handler.also, ()) if handler.also else ()
        if found is None:
            return func(*args, **kwargs)
        self.is_disabled = True
        try:
            return found.run(func, args, kwargs, extra)
        finally:
            self.is_disabled = False


class _ThreadState(threading.local):
    """The interceptor of each thread: function modes are per thread, and a model can run in several threads at once."""

    def __init__(self) -> None:
        self.interceptor = OpInterceptor()


THREAD = _ThreadState()


@contextmanager
def disabled() -> Iterator[None]:
    """Pass on the operations of this thread inside the block: none is captured, edited or counted."""
    interceptor = THREAD.interceptor
    before, interceptor.is_disabled = interceptor.is_disabled, True
    try:
        yield
    finally:
        interceptor.is_disabled = before
