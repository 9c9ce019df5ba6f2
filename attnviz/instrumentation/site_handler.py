"""What happens at a site: ``g`` is read, edited by each intervention in turn, used, and then kept by each capture.

All of it happens in one place and in one order, however the contexts of those who listen are nested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnviz._compat import graph_task_id
from attnviz.core.attention_scores import Scores
from attnviz.core.records import Site
from attnviz.core.uses import HasMapAndOutput, HasScores, NeedsOperands, Operand

Key = tuple[str, int]  # a site's operation and position
Edit = Callable[[Site, Tensor, Operand], Tensor]
Keep = Callable[[Site, Tensor, Operand, Tensor], None]
KeepScores = Callable[[Site, Scores, Operand, Tensor], None]
Scored = Callable[[Sequence[Any], Mapping[str, Any]], tuple[Scores, Tensor]]


@dataclass(frozen=True, slots=True)
class SiteObserver:
    """What one context does at its sites.

    Attributes:
        edit: ``edit(site, g, x)`` gives the ``g`` that the operation uses.
        keep: ``keep(site, g, x, y)`` receives what the operation used and returned.
        keep_scores: ``keep_scores(site, scores, x, y)``, called instead of ``keep`` where a fused operation computes
            ``g`` inside and no observer needs the whole map, which is then not built.
        wants_scores_only: Whether ``keep_scores`` will do; asked at every call, because it may depend on the inputs.
        retains: Whether it holds on to what it is told, so that it needs copies of what the model overwrites later.
    """

    edit: Edit | None = None
    keep: Keep | None = None
    keep_scores: KeepScores | None = None
    wants_scores_only: Callable[[], bool] = bool
    retains: bool = True


class SiteHandler:
    """One site and all who listen there; each calls the site by the object that its own context was given.

    Attributes:
        also: Another operation of the same call of the module, whose operands ``g`` is read from too; ``None`` for
            none.
    """

    __slots__ = ("_edits", "_keeps", "_map_and_output", "_retains", "_scores", "_site", "also")

    def __init__(self, observers: Sequence[tuple[SiteObserver, Site]]) -> None:
        self._site = observers[0][1]
        self._edits = [(site, observer.edit) for observer, site in observers if observer.edit is not None]
        self._keeps = [(site, observer) for observer, site in observers if observer.keep is not None]
        self._retains = any(observer.retains for _, observer in self._keeps)
        use = self._site.use
        self._scores = use.scores if isinstance(use, HasScores) else None
        is_replaced = bool(self._keeps) and not self._edits
        self._map_and_output = use.map_and_output if is_replaced and isinstance(use, HasMapAndOutput) else None
        self.also = use.also if isinstance(use, NeedsOperands) else None

    def run(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], more: Sequence[Any] = ()
    ) -> Any:
        """Run the operation: read ``g``, edit it, use it, keep it."""
        found = None
        if self._scores is not None and not self._edits:
            if all(observer.wants_scores_only() for _, observer in self._keeps):
                return self._keep_scores(self._scores, func, args, kwargs)
            found = self._map_and_output(args, kwargs) if self._map_and_output is not None else None
        g, y, x = found or self._use(func, args, kwargs, more)
        if self._keeps and not _in_backward():
            seen = y
            if self._retains and self._site.overwritten:
                x, seen = self._copied(x, "x") if found else x, self._copied(y, "y")
            for site, observer in self._keeps:
                if observer.keep is not None:
                    observer.keep(site, g, x, seen)
        return y

    def _use(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], more: Sequence[Any]
    ) -> tuple[Tensor, Tensor, Operand]:
        """The ``g`` that the operation uses, what it gives, and what ``g`` is applied to."""
        site = self._site
        given, x = site.use.read((*args, *more) if more else args, kwargs)
        g = given
        for own_site, edit in self._edits:
            g = edit(own_site, g, x)
        edited, grad = g is not given, given.requires_grad and torch.is_grad_enabled()
        if edited and grad and not g.requires_grad:
            g = g.detach().requires_grad_()  # a constant g still has a gradient
        if site.overwritten and (self._retains or _is_in_place(func)):  # or the operation itself overwrites them
            g, x = self._copied(g, "g"), self._copied(x, "x")
        # With gradients on, the operation takes the canonical g, so that gradients of the record's g exist; and where
        # a fused operation keeps its g to itself, g x is cheaper than computing g twice.
        own = edited or grad or (self._scores is not None and self._keeps)
        return g, apply(func, site, g, x, args) if own else func(*args, **kwargs), x

    def _keep_scores(
        self, read: Scored, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run the operation as it is, and keep what ``g`` is built from."""
        scores, x = read(args, kwargs)
        if self._retains:
            scores = scores.clone() if "g" in self._site.overwritten else scores
            x = self._copied(x, "x")
        y = func(*args, **kwargs)
        if not _in_backward():
            seen = self._copied(y, "y") if self._retains else y
            for site, observer in self._keeps:
                if observer.keep_scores is not None:
                    observer.keep_scores(site, scores, x, seen)
        return y

    def _copied(self, value: Any, name: str) -> Any:
        """A copy where the model overwrites the value later."""
        return value.clone() if name in self._site.overwritten and isinstance(value, Tensor) else value


def apply(func: Callable[..., Any], site: Site, g: Tensor, x: Operand, args: Sequence[Any]) -> Tensor:
    """``f(g, x)`` in place of the operation of ``site``; an in-place operation still overwrites its operand."""
    y = site.use(g, x)
    return args[0].copy_(y) if _is_in_place(func) else y


def _is_in_place(func: Callable[..., Any]) -> bool:
    return func.__name__.endswith("_") and not func.__name__.endswith("__")


def _in_backward() -> bool:
    """Whether a backward pass is running: what happens again for a checkpoint was seen before."""
    return graph_task_id() != -1
