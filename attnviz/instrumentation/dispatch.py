"""Hear the sites of a model while it runs: one ear per thread, for any number of modules and listeners.

Captures and interventions share it. The ear is a function mode, on only while a module runs that holds a site. It hears
every operation of such a module, and so looks at its name and at little else.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from attnviz.core.records import Site
from attnviz.instrumentation.adapters import adapters
from attnviz.instrumentation.forward_wrapper import Forward
from attnviz.instrumentation.functional_patches import heard_by
from attnviz.instrumentation.operations import name_of
from attnviz.instrumentation.site_handler import Heard, Key, Listener


@dataclass(frozen=True, slots=True)
class Place:
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


class Held:
    """The sites of one module that anybody listens to, and the operations that must be counted to know them.

    Attributes:
        sites: By operation, then by position.
        quiet: Whether all are calls that can be stood in front of, so that no mode has to hear the others.
        start: The child after whose return the first site comes, and the counts by then; ``None``: hear from the
            beginning.
        wanted: Operations whose operands another operation of the same call needs.
        interesting: Names that the ear looks at while this module is the innermost that holds sites.
    """

    __slots__ = ("interesting", "quiet", "sites", "start", "wanted")

    def __init__(self, listeners: Sequence[tuple[Listener, Place]]) -> None:
        self.sites: dict[str, dict[int, Heard]] = {}
        self.wanted: set[Key] = set()
        for name, position in dict.fromkeys(key for _, place in listeners for key in place.sites):
            key = (name, position)
            heard = Heard([(listener, place.sites[key]) for listener, place in listeners if key in place.sites])
            self.sites.setdefault(name, {})[position] = heard
            if heard.also:
                self.wanted.add(heard.also)
        for name, _ in self.wanted:
            self.sites.setdefault(name, {})
        self.interesting = frozenset((*self.sites, *adapters()))
        self.quiet = all(site.called for _, place in listeners for site in place.sites.values())
        starts = [(place.child, place.counts) for _, place in listeners]
        child, counts = starts[0]
        waits = child is not None and not self.quiet and all(start == starts[0] for start in starts)
        self.start = (child, counts) if waits else None


class _Frame:
    """One running call of a module that holds sites.

    Attributes:
        is_heard: Whether its operations are counted; it may wait for a child's return.
        has_mode: Whether the ear became a mode for it, at its beginning or after such a return.
        modes: How many function modes were on when it began.
    """

    __slots__ = ("counts", "has_mode", "held", "interesting", "is_heard", "modes", "operands")

    def __init__(self, held: Held, around: _Frame | None, *, is_heard: bool) -> None:
        self.held = held
        self.counts = dict.fromkeys(held.sites, 0)
        self.operands: dict[Key, Sequence[Any]] = {}
        self.interesting = held.interesting
        if around is not None and not around.interesting <= held.interesting:
            self.interesting |= around.interesting
        self.is_heard, self.has_mode = is_heard, False
        self.modes = torch._C._len_torch_function_stack()

    def count(self, name: str) -> int:
        """Which operation of that name this is."""
        position = self.counts[name]
        self.counts[name] = position + 1
        return position


# Functions that an ear passes on unseen, for each set of names that it looks at: most of what it hears.
_PASSED: defaultdict[frozenset[str], set[Callable[..., Any]]] = defaultdict(set)


class _Ear(TorchFunctionMode):
    """Counts the operations of the modules that are running, and runs those that are sites.

    Attributes:
        frames: The running modules that hold sites, outermost first.
        hushed: Whether nothing may be heard.
        is_on: Whether it hears every operation, as a function mode.
    """

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[_Frame] = []
        self.hushed = self.is_on = self._is_called = False
        self._passed: set[Callable[..., Any]] = set()

    def run(
        self, module: nn.Module, held: Held, forward: Forward, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run a module that holds sites."""
        around = self.frames[-1] if self.frames else None
        # Children were seen in eval mode: in training others may run.
        frame = _Frame(held, around, is_heard=self.is_on or held.start is None or module.training)
        self.frames.append(frame)
        self._passed = _PASSED[frame.interesting]
        try:
            if self.is_on:
                return forward(*args, **kwargs)
            if held.quiet:
                return self._run_called(forward, args, kwargs)
            if frame.is_heard:
                self._become_mode(frame)
            return forward(*args, **kwargs)
        finally:
            self.frames.pop()
            if frame.has_mode:
                self.is_on = False
                self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            if around is not None:
                self._passed = _PASSED[around.interesting]

    def _run_called(self, forward: Forward, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Hear calls that are stood in front of."""
        if self._is_called:
            return forward(*args, **kwargs)
        self._is_called = True
        try:
            with heard_by(self.hear_call):
                return forward(*args, **kwargs)
        finally:
            self._is_called = False

    def _become_mode(self, frame: _Frame) -> None:
        self.__enter__()  # type: ignore[no-untyped-call]
        frame.has_mode = self.is_on = True

    def returned(self, child: nn.Module) -> None:
        """A module has run: the one that called it may have waited for that."""
        frame = self.frames[-1] if self.frames else None
        if frame is None or frame.is_heard or frame.held.start is None or self.hushed:
            return
        awaited, counts = frame.held.start
        # A mode that the model began before and ends later would end ours in its place.
        if awaited is child and torch._C._len_torch_function_stack() == frame.modes:
            frame.counts.update((name, counts.get(name, 0)) for name in frame.counts)
            frame.is_heard = True
            if not self.is_on:
                self._become_mode(frame)

    def hear_call(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """A call that was stood in front of; while the mode is on, it hears it itself."""
        if self.is_on or self.hushed:
            return func(*args, **kwargs)
        return self._hear(name_of(func), func, args, kwargs)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in self._passed or self.hushed:
            return func(*args, **kwargs) if kwargs else func(*args)
        return self._hear(name_of(func), func, args, kwargs or {})

    def _hear(self, name: str, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if name not in self.frames[-1].interesting:
            self._passed.add(func)
            return func(*args, **kwargs)
        if self.is_on and name in adapters():  # what was stood in front of is no adapter's
            with self:
                return adapters()[name](*args, **kwargs)
        # Modules further out count too what the model asked for: their own operations come between those of children.
        found: Heard | None = None
        more: Sequence[Any] = ()
        for frame in reversed(self.frames):
            here = frame.held.sites.get(name) if frame.is_heard else None
            if here is None:
                continue
            position = frame.count(name)
            if (name, position) in frame.held.wanted:
                frame.operands[name, position] = args
            heard = here.get(position) if found is None else None
            if heard is not None:
                found, more = heard, frame.operands.get(heard.also, ()) if heard.also else ()
        if found is None:
            return func(*args, **kwargs)
        self.hushed = True
        try:
            return found.run(func, args, kwargs, more)
        finally:
            self.hushed = False


class _Ears(threading.local):
    """The ear of each thread: function modes are a thread's own, and a model may run in several at once."""

    def __init__(self) -> None:
        self.here = _Ear()


EARS = _Ears()


@contextmanager
def hushed() -> Iterator[None]:
    """Nothing that this thread does inside the block is heard: neither captured, nor edited, nor counted."""
    ear = EARS.here
    before, ear.hushed = ear.hushed, True
    try:
        yield
    finally:
        ear.hushed = before
