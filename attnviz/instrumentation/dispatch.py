"""Hear the sites of a model while it runs: one ear per thread, for any number of modules and listeners.

Captures and interventions share it. The ear is a function mode, on only while a module runs that holds a site. It hears
every operation of such a module, and so looks at its name and at little else.
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
    """A module that holds sites.

    Attributes:
        module: It.
        sites: What is to be heard of it.
        child: The child after whose return they come, and nothing before must be heard; ``None`` for none.
        counts: How many operations of each name the module's call has seen by then.
    """

    module: nn.Module
    sites: Mapping[Key, Site]
    child: nn.Module | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


class HookedSites:
    """The sites of one module that anybody listens to, and the operations that must be counted to know them.

    Attributes:
        sites: By operation, then by position.
        patch_only: Whether all are calls that can be stood in front of, so that no mode has to hear the others.
        start: The child after whose return the first site comes, and the counts by then; ``None``: hear from the
            beginning.
        wanted: Operations whose operands another operation of the same call needs.
        interesting: Names that the ear looks at while this module is the innermost that holds sites.
    """

    __slots__ = ("interesting", "patch_only", "sites", "start", "wanted")

    def __init__(self, observers: Sequence[tuple[SiteObserver, HookTarget]]) -> None:
        self.sites: dict[str, dict[int, SiteHandler]] = {}
        self.wanted: set[Key] = set()
        for name, position in dict.fromkeys(key for _, target in observers for key in target.sites):
            key = (name, position)
            handler = SiteHandler(
                [(observer, target.sites[key]) for observer, target in observers if key in target.sites]
            )
            self.sites.setdefault(name, {})[position] = handler
            if handler.also:
                self.wanted.add(handler.also)
        for name, _ in self.wanted:
            self.sites.setdefault(name, {})
        self.interesting = frozenset((*self.sites, *adapters()))
        self.patch_only = all(site.patchable for _, target in observers for site in target.sites.values())
        starts = [(target.child, target.counts) for _, target in observers]
        child, counts = starts[0]
        waits = child is not None and not self.patch_only and all(start == starts[0] for start in starts)
        self.start = (child, counts) if waits else None


class _Frame:
    """One running call of a module that holds sites.

    Attributes:
        is_active: Whether its operations are counted; it may wait for a child's return.
        has_mode: Whether the ear became a mode for it, at its beginning or after such a return.
        modes: How many function modes were on when it began.
    """

    __slots__ = ("counts", "has_mode", "hooked", "interesting", "is_active", "modes", "operands")

    def __init__(self, hooked: HookedSites, around: _Frame | None, *, is_active: bool) -> None:
        self.hooked = hooked
        self.counts = dict.fromkeys(hooked.sites, 0)
        self.operands: dict[Key, Sequence[Any]] = {}
        self.interesting = hooked.interesting
        if around is not None and not around.interesting <= hooked.interesting:
            self.interesting |= around.interesting
        self.is_active, self.has_mode = is_active, False
        self.modes = function_mode_depth()

    def count(self, name: str) -> int:
        """Which operation of that name this is."""
        position = self.counts[name]
        self.counts[name] = position + 1
        return position


_MOST_FUNCTIONS = 1024


@functools.lru_cache(maxsize=64)
def _ignored_functions(_interesting: frozenset[str]) -> set[Callable[..., Any]]:
    """Functions that an interceptor need not look up by name, for each set of names: most of what it receives."""
    return set()


def _is_reusable(func: Callable[..., Any]) -> bool:
    """Whether a function can be remembered: it holds no tensors, as a closure or a bound method of a user can."""
    return not isinstance(func, types.MethodType) and getattr(func, "__closure__", None) is None


class OpInterceptor(TorchFunctionMode):
    """Counts the operations of the modules that are running, and runs those that are sites.

    Attributes:
        frames: The running modules that hold sites, outermost first.
        disabled: Whether nothing may be heard.
        is_on: Whether it hears every operation, as a function mode.
    """

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[_Frame] = []
        self.is_disabled = self.is_on = self._is_patched = False
        self._ignored: set[Callable[..., Any]] = set()

    def run(
        self, module: nn.Module, hooked: HookedSites, forward: Forward, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run a module that holds sites."""
        around = self.frames[-1] if self.frames else None
        # Children were seen in eval mode: in training others may run.
        frame = _Frame(hooked, around, is_active=self.is_on or hooked.start is None or module.training)
        self.frames.append(frame)
        self._ignored = _ignored_functions(frame.interesting)
        try:
            if self.is_on:
                return forward(*args, **kwargs)
            if hooked.patch_only:
                return self._run_patched(forward, args, kwargs)
            if frame.is_active:
                self._become_mode(frame)
            return forward(*args, **kwargs)
        finally:
            self.frames.pop()
            if frame.has_mode:
                self.is_on = False
                self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            if around is not None:
                self._ignored = _ignored_functions(around.interesting)

    def _run_patched(self, forward: Forward, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Hear calls that are stood in front of."""
        if self._is_patched:
            return forward(*args, **kwargs)
        self._is_patched = True
        try:
            with intercept(self.intercept_call):
                return forward(*args, **kwargs)
        finally:
            self._is_patched = False

    def _become_mode(self, frame: _Frame) -> None:
        self.__enter__()  # type: ignore[no-untyped-call]
        frame.has_mode = self.is_on = True

    def returned(self, child: nn.Module) -> None:
        """A module has run: the one that called it may have waited for that."""
        frame = self.frames[-1] if self.frames else None
        if frame is None or frame.is_active or frame.hooked.start is None or self.is_disabled:
            return
        awaited, counts = frame.hooked.start
        # A mode that the model began before and ends later would end ours in its place.
        if awaited is child and function_mode_depth() == frame.modes:
            frame.counts.update((name, counts.get(name, 0)) for name in frame.counts)
            frame.is_active = True
            if not self.is_on:
                self._become_mode(frame)

    def intercept_call(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """A call that was stood in front of; while the mode is on, it hears it itself."""
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
        if name not in self.frames[-1].interesting:
            if len(self._ignored) < _MOST_FUNCTIONS and _is_reusable(func):
                self._ignored.add(func)
            return func(*args, **kwargs)
        if self.is_on and name in adapters():  # what was stood in front of is no adapter's
            with self:
                return adapters()[name](*args, **kwargs)
        # Modules further out count too what the model asked for: their own operations come between those of children.
        found: SiteHandler | None = None
        more: Sequence[Any] = ()
        for frame in reversed(self.frames):
            here = frame.hooked.sites.get(name) if frame.is_active else None
            if here is None:
                continue
            position = frame.count(name)
            if (name, position) in frame.hooked.wanted:
                frame.operands[name, position] = args
            handler = here.get(position) if found is None else None
            if handler is not None:
                found, more = handler, frame.operands.get(handler.also, ()) if handler.also else ()
        if found is None:
            return func(*args, **kwargs)
        self.is_disabled = True
        try:
            return found.run(func, args, kwargs, more)
        finally:
            self.is_disabled = False


class _ThreadState(threading.local):
    """The ear of each thread: function modes are a thread's own, and a model may run in several at once."""

    def __init__(self) -> None:
        self.here = OpInterceptor()


THREAD = _ThreadState()


@contextmanager
def disabled() -> Iterator[None]:
    """Nothing that this thread does inside the block is heard: neither captured, nor edited, nor counted."""
    interceptor = THREAD.here
    before, interceptor.is_disabled = interceptor.is_disabled, True
    try:
        yield
    finally:
        interceptor.is_disabled = before
