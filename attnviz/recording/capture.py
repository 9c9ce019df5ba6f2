"""Capture the records of every site while a model runs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor, nn

from attnviz.core.attention_scores import Scores
from attnviz.core.memory_budget import KEEPS, UNCHECKED_BYTES, Keep, available_bytes, choose
from attnviz.core.records import Kind, Record, Site
from attnviz.core.uses import Operand, Use
from attnviz.errors import CaptureError, NoAttentionError, UnknownNameError
from attnviz.instrumentation import module_hooks
from attnviz.instrumentation.dispatch import HookTarget
from attnviz.instrumentation.site_handler import SiteObserver
from attnviz.instrumentation.traceable import traceable
from attnviz.recording.lazy_records import RowsRecord, SummaryRecord, compact
from attnviz.recording.row_statistics import STATISTICS, blocks_of, summarise
from attnviz.tracing.coverage import Unclaimed
from attnviz.tracing.find import check_module, find_attention
from attnviz.tracing.graph import image_input, input_tensors
from attnviz.tracing.sites import Sites


class Captured:
    """The records of a capture.

    Attributes:
        sites: The captured sites; ``None`` until the first forward call if none were given.
        records: One record per site and call, in the order of the forward passes.
        keep: What is kept of each map; with ``"auto"``, chosen before each forward call.
    """

    def __init__(
        self,
        sites: Iterable[Site] | None,
        keep: Keep | Literal["auto"] = "full",
        statistics: Iterable[str] | None = None,
        each: Callable[[Record], object] | None = None,
    ) -> None:
        if keep not in {*KEEPS, "auto"}:
            raise UnknownNameError("choice of what to keep", keep, [*KEEPS, "auto"])
        self.sites: Sites | None = None if sites is None else Sites.of(sites)
        self.records: list[Record] = []
        self.keep: Keep = "full" if keep == "auto" else keep
        self._wanted: Keep | Literal["auto"] = keep
        self._statistics = tuple(STATISTICS if statistics is None else statistics)
        for name in self._statistics:
            STATISTICS[name]
        self._calls: dict[int, int] = {}  # by the id of a site: hashing a site is slow, and ``sites`` keeps it alive
        self._of_thread = threading.local()
        self._failures: dict[str, Exception] = {}
        self._emit = each or self.records.append
        self._retains = each is None

    def __getitem__(self, pattern: str) -> list[Record]:
        """The records whose site's name, module or kind matches a shell pattern.

        Raises:
            NoAttentionError: no record matches.
        """
        found = [record for record in self.records if record.site.matches(pattern)]
        if not found:
            known = ", ".join(dict.fromkeys(record.site.name for record in self.records)) or "none"
            raise NoAttentionError(f"no record of a site that matches {pattern!r}: there are {known}")
        return found

    @property
    def unclaimed(self) -> tuple[Unclaimed, ...]:
        """Operations that look like attention and have no record: those that are no site, and sites not reached yet."""
        sites = self.sites or Sites()
        missing = (site for site in sites if id(site) not in self._calls)
        why = "a site that was not reached"
        return *sites.unclaimed, *(Unclaimed(s.operation, s.module, s.source, why) for s in missing)

    def _start(self, sites: Sites) -> Sites:
        self.sites = sites
        return sites

    def _measure(self, model: nn.Module, *args: Any, **kwargs: Any) -> None:
        """Choose what to keep of the next forward call, which has these inputs."""
        sites = self.sites or Sites()
        needed = {keep: sites.total_bytes(keep, self._images) for keep in KEEPS}
        device = next((p.device for p in model.parameters()), None)
        available = available_bytes(device) if max(needed.values()) > UNCHECKED_BYTES else None
        self.keep = choose(self._wanted, needed, available)

    def _count_images(self, *args: Any, **kwargs: Any) -> None:
        """Note the number of images of a forward call; a model can run in several threads at once."""
        found = image_input(list(input_tensors((args, kwargs))))
        self._of_thread.images = None if found is None else int(found.shape[0])

    @property
    def _images(self) -> int | None:
        own: int | None = getattr(self._of_thread, "images", None)
        # A method was called instead of forward: the layouts hold for the batch size of the search.
        return own if own is not None or self.sites is None else self.sites.images or None

    def _wants_scores_only(self) -> bool:
        return self.keep != "full"

    def _keep(self, site: Site, use: Use, g: Tensor, x: Operand, y: Tensor) -> None:
        call = self._next_call(site)
        own = site if use is site.use else replace(site, use=use)
        try:
            if self.keep == "summary" and site.kind is Kind.PAIRWISE:
                shape = tuple(g.shape)
                summary = summarise(blocks_of(g), self._statistics, shape)
                record: Record = SummaryRecord(own, call, shape, summary, self._images)
            else:
                record = Record(own, call, g, compact(x) if self._retains else x, y, self._images)
        except Exception as error:  # noqa: BLE001  # it must not reach the model
            self._fail(site, error)
        else:
            self._emit(record)

    def _keep_scores(self, site: Site, scores: Scores, x: Operand, y: Tensor) -> None:
        call = self._next_call(site)
        try:
            if self.keep == "summary":
                summary = summarise(scores.detach().blocks(), self._statistics, scores.shape)
                record: Record = SummaryRecord(site, call, scores.shape, summary, self._images)
            else:
                record = RowsRecord(site, call, scores, x, y, self._images)
        except Exception as error:  # noqa: BLE001  # it must not reach the model
            self._fail(site, error)
        else:
            self._emit(record)

    def _fail(self, site: Site, error: Exception) -> None:
        self._failures.setdefault(site.name, error)

    def _check(self) -> None:
        """Raise what could not be raised into the model.

        Raises:
            CaptureError: a site could not be recorded.
        """
        if self._failures:
            name, error = next(iter(self._failures.items()))
            raise CaptureError(
                f"{name}: the output of the model is right, but its attention could not be recorded: {error}"
            ) from error

    def _next_call(self, site: Site) -> int:
        call = self._calls.get(id(site), 0)
        self._calls[id(site)] = call + 1
        return call


@contextmanager
def capture(
    model: nn.Module,
    sites: Iterable[Site] | None = None,
    *,
    keep: Keep | Literal["auto"] = "full",
    statistics: Iterable[str] | None = None,
    each: Callable[[Record], object] | None = None,
) -> Iterator[Captured]:
    """Record every site in each forward call of ``model`` inside the ``with`` block.

    The model, its outputs and its gradients are those without a capture. Records contain the tensors that the model
    computed, with their autograd history; tensors that the model overwrites in place are copied, and so are views of
    much larger memory, such as one tensor of queries, keys and values. Outputs are bit-identical with exceptions, where
    they are equal within rounding: PyTorch's fused attention with ``"full"`` and sites with gradients enabled, whose
    output is ``f(g, x)`` of the record; operations with an adapter, such as ``flex_attention``; and PyTorch's fused
    encoder and ``nn.MultiheadAttention`` with a padding mask.

    A pairwise map has a number for every pair of tokens: 9 GiB for one image of 1024 pixels in ViT-B/16. ``keep``
    determines how much of it a record keeps; other kinds are kept whole.

    ==============  ====================================================================================================
    ``"full"``      the map, ``record.g``; a fused operation is replaced by one that returns its map and ``g x``
    ``"rows"``      queries and keys if PyTorch's fused attention computes the map internally, else the map;
                    ``record.rows(queries)`` returns rows; ``record.g``, ``reconstruct`` and ``verify`` compute the
                    map temporarily
    ``"summary"``   only ``record.summary[name]`` for each of ``statistics``, computed in blocks of rows; an edited
                    map, or one that the model computes, is whole in memory until then
    ``"auto"``      the first of these that fits into half of the available memory
    ==============  ====================================================================================================

    The memory of the records is estimated before a forward call from ``site.size_bytes``, which assumes inputs of the
    size with which the sites were found, scaled by the batch size.

    Args:
        model: Any PyTorch model; its state is restored, also after an error.
        sites: Sites from :func:`find_attention`. By default they are found by an additional forward pass before the
            first forward call.
        keep: What is kept of a pairwise map.
        statistics: Names in :data:`attnviz.recording.STATISTICS` for ``"summary"``; all by default.
        each: Callback for every record, called while the model runs. ``records`` then stays empty, and memory contains
            one record at a time. The model can overwrite the tensors of the record after the callback returns.

    Yields:
        The captured records, extended by each forward call.

    Raises:
        CaptureError: the model has parts whose operations cannot be traced, or lacks the module of a site; raised by
            the forward call: its records do not fit into memory.
        UnknownNameError: a statistic or the choice of what to keep does not exist.

    At the end of the block, a :class:`CaptureError` is raised if a site could not be recorded (the model has run as
    without a capture), or if no site was reached, because the block calls no ``forward`` of the model.

    >>> import torch
    >>> model, x = nn.MultiheadAttention(4, 2, batch_first=True).eval(), torch.rand(1, 3, 4)
    >>> with capture(model, keep="summary", statistics=["max"]) as captured:
    ...     _ = model(x, x, x, need_weights=False)
    >>> captured.records[0].shape, captured.records[0].summary["max"].shape
    ((1, 2, 3, 3), torch.Size([1, 2, 3]))
    """
    check_module(model)
    captured = Captured(sites, keep, statistics, each)
    observer = SiteObserver(
        keep=captured._keep,
        keep_scores=captured._keep_scores,
        wants_scores_only=captured._wants_scores_only,
        fail=captured._fail,
        retains=each is None,
    )
    with ExitStack() as undo:
        undo.enter_context(module_hooks.before_each(model, captured._count_images))
        undo.enter_context(observing(model, captured.sites, captured._start, observer, lambda: bool(captured._calls)))
        if each is None or keep == "auto":
            measure = functools.partial(captured._measure, model)
            undo.enter_context(module_hooks.before_first(model, measure))
        yield captured
    captured._check()


@contextmanager
def observing(
    model: nn.Module,
    sites: Iterable[Site] | None,
    start: Callable[[Sites], Iterable[Site]],
    observer: SiteObserver,
    reached: Callable[[], bool],
) -> Iterator[None]:
    """Call ``observer`` at the sites of ``model`` inside the ``with`` block.

    Args:
        model: Any PyTorch model; its state is restored, also after an error.
        sites: Sites from :func:`find_attention`. By default they are found by an additional forward pass before the
            first forward call.
        start: Called once with the sites; returns those to observe.
        observer: The callbacks.
        reached: Whether a site was reached.

    Raises:
        CaptureError: the model has parts whose operations cannot be traced, or lacks the module of a site; at the end
            of the block: neither ``forward`` was called nor a site was reached.
    """
    check_module(model)
    sites = None if sites is None else Sites.of(sites)
    called: list[nn.Module] = []
    with ExitStack() as undo:
        undo.enter_context(module_hooks.before_first(model, lambda *_args, **_kwargs: called.append(model)))
        undo.enter_context(traceable(model))

        def observe(sites: Iterable[Site]) -> None:
            undo.enter_context(module_hooks.observing(_hook_targets(model, sites), observer))

        def find(*args: Any, **kwargs: Any) -> None:
            """Find the sites with the inputs of the first forward call."""
            observe(start(find_attention(model, *args, **kwargs)))

        if sites is None:
            undo.enter_context(module_hooks.before_first(model, find))
        else:
            observe(start(sites))
        yield
    if not (called or reached() or (sites is not None and not sites)):
        raise CaptureError(
            f"{type(model).__name__}.forward was not called inside the block, so that no attention was reached; if you "
            "call another method, find its sites first, as in find_attention(model.encode_image, images), and pass them"
        )


def _hook_targets(model: nn.Module, sites: Iterable[Site]) -> list[HookTarget]:
    """The modules with sites, with the point from which their operations are intercepted."""
    by_module: dict[str, list[Site]] = {}
    for site in sites:
        by_module.setdefault(site.module, []).append(site)
    return [_hook_target(model, of_module) for of_module in by_module.values()]


def _hook_target(model: nn.Module, sites: list[Site]) -> HookTarget:
    module = _at(model, sites[0].module)
    if module is None:
        name = sites[0].name
        raise CaptureError(f"{name}: the model has no module {sites[0].module!r}; find its sites again")
    keys = {(site.operation, site.position): site for site in sites}
    returns = [site.starts_after for site in sites if site.starts_after is not None]
    if len(returns) < len(sites) or all(site.patchable for site in sites):
        return HookTarget(module, keys)
    first = min(returns, key=lambda child_return: sum(child_return.counts.values()))
    return HookTarget(module, keys, _at(model, first.child), first.counts)  # no such child: from the start of the call


def _at(model: nn.Module, path: str) -> nn.Module | None:
    """The module at a path, or ``None``; several times faster than ``get_submodule``."""
    module: nn.Module | None = model
    for name in path.split(".") if path else ():
        module = None if module is None else module._modules.get(name)
    return module
