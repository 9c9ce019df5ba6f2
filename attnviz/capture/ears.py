"""Hear the sites of a model while it runs: one ear per running module, for any number of listeners.

Captures and interventions share it. All that happens at one site happens in one place, in one order: ``g`` is read,
edited by each intervention in turn, used, and then kept by each capture, however their contexts are nested.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from attnviz.capture.adapters import adapters
from attnviz.capture.operations import name_of
from attnviz.capture.scores import Scores
from attnviz.capture.wrap import Forward, wrap_forward
from attnviz.records import Operand, Site

Key = tuple[str, int]  # a site's operation and position
Edit = Callable[[Site, Tensor, Operand], Tensor]
Keep = Callable[[Site, Tensor, Operand, Tensor], None]
Distil = Callable[[Site, Scores, Operand, Tensor], None]
Scored = Callable[[Sequence[Any], Mapping[str, Any]], tuple[Scores, Tensor]]

# The ears of the modules that are running, outermost first; None while nothing may be heard. Not an attribute of
# anything, because a model may run in several threads at once, and each has function modes of its own.
_EARS: ContextVar[tuple[_Ear, ...] | None] = ContextVar("ears", default=())


@dataclass(frozen=True, slots=True)
class Listener:
    """What one context does at its sites.

    Attributes:
        edit: ``edit(site, g, x)`` gives the ``g`` that the operation uses.
        keep: ``keep(site, g, x, y)`` is told what the operation used and gave.
        distil: ``distil(site, scores, x, y)`` in its place, where ``g`` was computed inside a fused operation and
            nobody else wants it whole, so that it is not built.
        content: Whether ``distil`` will do; asked at every call, because it may depend on the inputs.
        holds: Whether it holds on to what it is told, so that it needs copies of what the model overwrites later.
    """

    edit: Edit | None = None
    keep: Keep | None = None
    distil: Distil | None = None
    content: Callable[[], bool] = bool
    holds: bool = True


@contextmanager
def hushed() -> Iterator[None]:
    """Nothing that this thread does inside the block is heard: neither captured, nor edited, nor counted."""
    token = _EARS.set(None)
    try:
        yield
    finally:
        _EARS.reset(token)


@dataclass(frozen=True, slots=True)
class _Heard:
    """One site and all who listen there; each calls the site by the object that its own context was given."""

    site: Site
    edits: tuple[tuple[Site, Edit], ...]
    keeps: tuple[tuple[Site, Listener], ...]

    @property
    def also(self) -> Key | None:
        """Another operation of the same call of the module, whose operands ``g`` is read from too."""
        return getattr(self.site.use, "also", None)

    def run(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], more: Sequence[Any] = ()
    ) -> Any:
        """Run the operation: read ``g``, edit it, use it, keep it."""
        scores = getattr(self.site.use, "scores", None)
        if scores and not self.edits and all(listener.content() for _, listener in self.keeps):
            return self._distil(scores, func, args, kwargs)
        given, x = self.site.use.read((*args, *more), kwargs)
        g = given
        for site, edit in self.edits:
            g = edit(site, g, x)
        edited, grad = g is not given, given.requires_grad and torch.is_grad_enabled()
        if edited and grad and not g.requires_grad:
            g = g.detach().requires_grad_()  # a constant g still has a gradient
        early = self._holds or func.__name__.endswith("_")  # or the operation itself overwrites them
        g, x = self._kept(g, "g", held=early), self._kept(x, "x", held=early)
        # With gradients on, the operation takes the canonical g, so that gradients of the record's g exist; and where
        # a fused operation keeps its g to itself, g x is cheaper than computing g twice.
        own = edited or grad or (scores is not None and bool(self.keeps))
        y = apply(func, self.site, g, x, args) if own else func(*args, **kwargs)
        if self.keeps and not _in_backward():
            seen = self._kept(y, "y", held=self._holds)
            for site, listener in self.keeps:
                if listener.keep is not None:
                    listener.keep(site, g, x, seen)
        return y

    def _distil(self, read: Scored, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run the operation as it is, and keep what ``g`` is built from."""
        scores, x = read(args, kwargs)
        copied = scores.clone() if self._holds and "g" in self.site.overwritten else scores
        x = self._kept(x, "x", held=self._holds)
        y = func(*args, **kwargs)
        seen = self._kept(y, "y", held=self._holds)
        for site, listener in () if _in_backward() else self.keeps:
            if listener.distil is not None:
                listener.distil(site, copied, x, seen)
        return y

    @property
    def _holds(self) -> bool:
        return any(listener.holds for _, listener in self.keeps)

    def _kept(self, value: Any, name: str, *, held: bool) -> Any:
        """A copy where the model overwrites the value later, and somebody still holds it then."""
        return value.clone() if held and name in self.site.overwritten and isinstance(value, Tensor) else value


def _in_backward() -> bool:
    """Whether a backward pass is running: what happens again for a checkpoint was seen before."""
    return bool(torch._C._current_graph_task_id() != -1)


def apply(func: Callable[..., Any], site: Site, g: Tensor, x: Operand, args: Sequence[Any]) -> Tensor:
    """``f(g, x)`` in place of the operation of ``site``; an in-place operation still overwrites its operand."""
    y = site.use(g, x)
    overwrites = func.__name__.endswith("_") and not func.__name__.endswith("__")
    return args[0].copy_(y) if overwrites else y


class _Ear(TorchFunctionMode):
    """Listens during one call of one module: counts operations, and runs those that are sites."""

    def __init__(self, sites: Mapping[Key, _Heard], operations: frozenset[str]) -> None:
        super().__init__()
        self._sites = sites
        self._operations = operations
        self._counts: Counter[str] = Counter()
        self._adapters = adapters()
        self._wanted = {heard.also for heard in sites.values()} - {None}
        self._seen: dict[Key, Sequence[Any]] = {}

    def count(self, name: str) -> Key:
        """Which operation of that name this is."""
        position = self._counts[name]
        self._counts[name] = position + 1
        return name, position

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = name_of(func)
        if name not in self._operations and name not in self._adapters:
            return func(*args, **kwargs)
        ears = _EARS.get()
        if ears is None:
            return func(*args, **kwargs)
        if name in self._adapters:
            with self:
                return self._adapters[name](*args, **kwargs)
        key = self.count(name)
        if key in self._wanted:
            self._seen[key] = args
        heard = self._sites.get(key)
        if heard is None:
            return func(*args, **kwargs)
        # What runs in place of the operation may be another one: modules further out count what the model asked for.
        for ear in ears[: ears.index(self)]:
            ear.count(name)
        with hushed():
            return heard.run(func, args, kwargs, self._seen.get(heard.also, ()) if heard.also else ())


# Not an attribute of the module: a copy of a module that is listened to has no post.
_POSTS: dict[int, Post] = {}
_CHANGING_POSTS = threading.RLock()


class Post:
    """Where the listeners of one module stand: around its ``forward``, while there are any."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._listeners: list[tuple[Listener, Mapping[Key, Site]]] = []
        self._before: list[Callable[..., None]] = []
        self._finding = threading.RLock()
        self._sites: Mapping[Key, _Heard] = {}
        self._operations: frozenset[str] = frozenset()
        self._users = 0
        self._undo = ExitStack()
        self._undo.enter_context(wrap_forward(module, self._around))
        self._undo.callback(_POSTS.pop, id(module))
        _POSTS[id(module)] = self

    @staticmethod
    @contextmanager
    def of(module: nn.Module) -> Iterator[Post]:
        """The post of ``module``, put up by the first who comes and taken down by the last who leaves."""
        with _CHANGING_POSTS:
            post = _POSTS.get(id(module)) or Post(module)
            post._users += 1
        try:
            yield post
        finally:
            with _CHANGING_POSTS:
                post._users -= 1
                if not post._users:
                    post._undo.close()

    @contextmanager
    def listening(self, listener: Listener, sites: Mapping[Key, Site]) -> Iterator[None]:
        """Let ``listener`` hear ``sites``; who comes later edits later."""
        entry = (listener, sites)
        with _CHANGING_POSTS:
            self._change([*self._listeners, entry])
        try:
            yield
        finally:
            with _CHANGING_POSTS:
                self._change([other for other in self._listeners if other is not entry])

    @contextmanager
    def before_first(self, act: Callable[..., None]) -> Iterator[None]:
        """Call ``act`` with the inputs of the next forward call, before it; once, unless it fails."""
        self._before.append(act)
        try:
            yield
        finally:
            if act in self._before:
                self._before.remove(act)

    def _change(self, listeners: list[tuple[Listener, Mapping[Key, Site]]]) -> None:
        heard = {}
        for key in dict.fromkeys(key for _, sites in listeners for key in sites):
            here = [(sites[key], listener) for listener, sites in listeners if key in sites]
            heard[key] = _Heard(
                here[0][0],
                tuple((site, listener.edit) for site, listener in here if listener.edit is not None),
                tuple((site, listener) for site, listener in here if listener.keep is not None),
            )
        self._listeners, self._sites, self._operations = (
            listeners,
            heard,
            frozenset(name for name, _ in {*heard, *(h.also for h in heard.values() if h.also)}),
        )

    def _around(self, forward: Forward) -> Forward:
        def run(*args: Any, **kwargs: Any) -> Any:
            ears = _EARS.get()
            if ears is None:
                return forward(*args, **kwargs)
            if self._before:
                with self._finding:
                    for act in list(self._before):
                        act(*args, **kwargs)
                        self._before.remove(act)
            if not self._sites:
                return forward(*args, **kwargs)
            ear = _Ear(self._sites, self._operations)
            token = _EARS.set((*ears, ear))
            try:
                with ear:
                    return forward(*args, **kwargs)
            finally:
                _EARS.reset(token)

        return run
