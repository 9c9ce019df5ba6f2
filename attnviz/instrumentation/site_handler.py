"""Run one site: read ``g``, apply each edit in turn, run the operation, and pass the result to each capture.

The order is the same however the contexts of the observers are nested.
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
from attnviz.core.uses import HasCallSizes, HasMapAndOutput, HasScores, NeedsOperands, Operand, Use
from attnviz.errors import CaptureError

Key = tuple[str, int]  # a site's operation and position
Edit = Callable[[Site, Tensor, Operand], Tensor]
Keep = Callable[[Site, Use, Tensor, Operand, Tensor], None]
KeepScores = Callable[[Site, Scores, Operand, Tensor], None]
Scored = Callable[[Sequence[Any], Mapping[str, Any]], tuple[Scores, Tensor]]


@dataclass(frozen=True, slots=True)
class SiteObserver:
    """The callbacks of one context for its sites.

    Attributes:
        edit: ``edit(site, g, x)`` returns the ``g`` that the operation uses.
        keep: ``keep(site, use, g, x, y)`` receives the operands and the output of the operation; ``use`` is that of
            the site, with the sizes of this call.
        keep_scores: ``keep_scores(site, scores, x, y)``, called instead of ``keep`` if a fused operation computes
            ``g`` internally and no observer needs the whole map, which is then not built.
        wants_scores_only: Whether ``keep_scores`` is sufficient; called at every call, as it can depend on the inputs.
        retains: Whether the received tensors are stored, so that those that the model overwrites later are copied.
        fail: ``fail(site, error)`` receives an error of attnviz itself. It is not raised into the model, which could
            catch it and take another path.
    """

    edit: Edit | None = None
    keep: Keep | None = None
    keep_scores: KeepScores | None = None
    wants_scores_only: Callable[[], bool] = bool
    retains: bool = True
    fail: Callable[[Site, Exception], None] | None = None


class SiteHandler:
    """One site and its observers; each receives the ``Site`` object of its own context.

    Attributes:
        also: An earlier operation of the same call of the module, whose operands are also needed for ``g``; or
            ``None``.
    """

    __slots__ = ("_edits", "_keeps", "_map_and_output", "_observers", "_retains", "_scores", "_site", "_sized", "also")

    def __init__(self, observers: Sequence[tuple[SiteObserver, Site]]) -> None:
        self._site, self._observers = observers[0][1], observers
        self._edits = [(site, observer.edit) for observer, site in observers if observer.edit is not None]
        self._keeps = [(site, observer) for observer, site in observers if observer.keep is not None]
        self._retains = any(observer.retains for _, observer in self._keeps)
        use = self._site.use
        self._sized = use if isinstance(use, HasCallSizes) else None
        self._scores = use.scores if isinstance(use, HasScores) else None
        is_replaced = bool(self._keeps) and not self._edits
        self._map_and_output = use.map_and_output if is_replaced and isinstance(use, HasMapAndOutput) else None
        self.also = use.also if isinstance(use, NeedsOperands) else None

    def run(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], extra: Sequence[Any] = ()
    ) -> Any:
        """Run the operation: read ``g``, edit it, use it, keep it.

        Raises:
            CaptureError: an edit cannot be applied to this call.
        """
        try:
            return self._run(func, args, kwargs, extra)
        except _OwnError as error:
            cause = error.cause
        for observer, site in self._observers:
            if observer.fail is not None:
                observer.fail(site, cause)
        if self._edits:
            raise CaptureError(f"{self._site.name}: g cannot be edited in this call: {cause}") from cause
        return func(*args, **kwargs)

    def _run(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], extra: Sequence[Any]
    ) -> Any:
        found = None
        if self._scores is not None and not self._edits:
            if all(observer.wants_scores_only() for _, observer in self._keeps):
                return self._keep_scores(self._scores, func, args, kwargs)
            found = _own(self._map_and_output, args, kwargs) if self._map_and_output is not None else None
        use = self._site.use if self._sized is None else _own(self._sized.for_call, args, kwargs)
        g, y, x = found or self._use(use, func, args, kwargs, extra)
        if self._keeps and not _in_backward():
            kept_y = y
            if self._retains and self._site.overwritten:
                x, kept_y = self._copied(x, "x") if found else x, self._copied(y, "y")
            for site, observer in self._keeps:
                if observer.keep is not None:
                    observer.keep(site, use, g, x, kept_y)
        return y

    def _use(
        self, use: Use, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], extra: Sequence[Any]
    ) -> tuple[Tensor, Tensor, Operand]:
        """Run the operation with the edited ``g``, and return ``g``, ``y`` and ``x``."""
        site = self._site
        original, x = _own(use.read, (*args, *extra) if extra else args, kwargs)
        g = original
        for own_site, edit in self._edits:
            g = edit(own_site, g, x)
        edited, grad = g is not original, original.requires_grad and torch.is_grad_enabled()
        if edited and grad and not g.requires_grad:
            g = g.detach().requires_grad_()  # gradients with respect to a constant g are defined too
        if site.overwritten and (self._retains or _is_in_place(func)):  # an in-place operation overwrites its operand
            g, x = self._copied(g, "g"), self._copied(x, "x")
        # With gradients enabled, y is computed from the canonical g, so that gradients with respect to the record's g
        # exist. For a fused operation whose g is kept, g x is cheaper than computing g twice.
        from_canonical = edited or grad or (self._scores is not None and self._keeps)
        return g, _own(apply, func, use, g, x, args) if from_canonical else func(*args, **kwargs), x

    def _keep_scores(
        self, read: Scored, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run the operation unchanged, and keep the scores from which ``g`` can be built."""
        scores, x = _own(read, args, kwargs)
        if self._retains:
            scores = scores.clone() if "g" in self._site.overwritten else scores
            x = self._copied(x, "x")
        y = func(*args, **kwargs)
        if not _in_backward():
            kept_y = self._copied(y, "y") if self._retains else y
            for site, observer in self._keeps:
                if observer.keep_scores is not None:
                    observer.keep_scores(site, scores, x, kept_y)
        return y

    def _copied(self, value: Any, name: str) -> Any:
        """``value``, or a copy if the model overwrites it later."""
        return value.clone() if name in self._site.overwritten and isinstance(value, Tensor) else value


class _OwnError(Exception):
    """An error of attnviz, not of the model or of a user's function."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _own(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of attnviz.

    In a backward pass, errors are also how PyTorch ends the recomputation of a checkpoint: they are left alone.
    """
    if _in_backward():
        return function(*args)
    try:
        return function(*args)
    except Exception as error:
        raise _OwnError(error) from error


def apply(func: Callable[..., Any], use: Use, g: Tensor, x: Operand, args: Sequence[Any]) -> Tensor:
    """``f(g, x)`` in place of the operation of a site; an in-place operation still overwrites its operand."""
    y = use(g, x)
    return args[0].copy_(y) if _is_in_place(func) else y


def _is_in_place(func: Callable[..., Any]) -> bool:
    return func.__name__.endswith("_") and not func.__name__.endswith("__")


def _in_backward() -> bool:
    """Whether a backward pass is running: a checkpoint recomputes operations that were kept in the forward pass."""
    return graph_task_id() != -1
