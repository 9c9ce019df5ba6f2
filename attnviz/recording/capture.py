"""Keep what every site does while a model runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from attnviz.core.attention_scores import Scores
from attnviz.core.memory_budget import KEEPS, UNASKED_BYTES, Keep, available_bytes, choose
from attnviz.core.records import Kind, Record, Site
from attnviz.core.uses import Operand
from attnviz.errors import CaptureError, NoAttentionError, UnknownNameError
from attnviz.instrumentation import module_hooks
from attnviz.instrumentation.dispatch import HookTarget
from attnviz.instrumentation.forward_wrapper import traceable
from attnviz.instrumentation.site_handler import SiteObserver
from attnviz.recording.lazy_records import RowsRecord, SummaryRecord, compact
from attnviz.recording.row_statistics import STATISTICS, blocks_of, summarise
from attnviz.tracing.coverage import Unclaimed
from attnviz.tracing.find import check_module, find_attention
from attnviz.tracing.graph import tensors_in
from attnviz.tracing.sites import Sites


class Captured:
    """What a capture has seen so far.

    Attributes:
        sites: The sites that are listened to; filled by the first forward call where none were given.
        records: One record per site and call, in the order of the forward passes.
        keep: What is kept of each; chosen by the first forward call where that was left open.
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
        self._calls: dict[int, int] = {}  # by the identity of a site: sites are large, and held by ``sites``
        self._emit = each or self.records.append
        self._retains = each is None

    def __getitem__(self, pattern: str) -> list[Record]:
        """The records whose site's name, module or kind fits a shell pattern.

        Raises:
            NoAttentionError: none fits.
        """
        found = [record for record in self.records if record.site.matches(pattern)]
        if not found:
            known = ", ".join(dict.fromkeys(record.site.name for record in self.records)) or "none"
            raise NoAttentionError(f"no record of a site that fits {pattern!r}: there are {known}")
        return found

    @property
    def unclaimed(self) -> tuple[Unclaimed, ...]:
        """What looks like attention and left no record: the witness's list, and sites that were not heard so far."""
        sites = self.sites or Sites()
        silent = (site for site in sites if id(site) not in self._calls)
        return *sites.unclaimed, *(Unclaimed(s.operation, s.module, s.source, "a site not heard yet") for s in silent)

    def _start(self, sites: Sites) -> Sites:
        self.sites = sites
        return sites

    def _measure(self, model: nn.Module, *args: Any, **kwargs: Any) -> None:
        """Choose what to keep of a forward call with these inputs, before it runs."""
        sites = self.sites or Sites()
        images = next((t.shape[0] for t in tensors_in((args, kwargs)) if t.ndim), None)
        needed = {keep: sites.total_bytes(keep, images) for keep in KEEPS}
        device = next((p.device for p in model.parameters()), None)
        available = available_bytes(device) if max(needed.values()) > UNASKED_BYTES else None
        self.keep = choose(self._wanted, needed, available)

    def _wants_scores_only(self) -> bool:
        return self.keep != "full"

    def _keep(self, site: Site, g: Tensor, x: Operand, y: Tensor) -> None:
        call = self._next_call(site)
        if self.keep == "summary" and site.kind is Kind.PAIRWISE:
            shape = tuple(g.shape)
            self._emit(SummaryRecord(site, call, shape, summarise(blocks_of(g), self._statistics, shape)))
        else:
            self._emit(Record(site, call, g, compact(x) if self._retains else x, y))

    def _keep_scores(self, site: Site, scores: Scores, x: Operand, y: Tensor) -> None:
        call = self._next_call(site)
        if self.keep == "summary":
            summary = summarise(scores.detach().blocks(), self._statistics, scores.shape)
            self._emit(SummaryRecord(site, call, scores.shape, summary))
        else:
            self._emit(RowsRecord(site, call, scores, x, y))

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
    """Keep what every site does in each forward call of ``model`` inside the ``with`` block.

    Outputs, gradients and the model are those of the plain model: records hold the tensors that the model computed,
    with their autograd history; copies where the model overwrites them in place, and of values that are a view of a
    much larger tensor, such as queries, keys and values in one. Outputs are the same to the bit, but for ``"full"``
    where PyTorch's fused attention keeps its map to itself, and while gradients are on: there the output is ``f(g, x)``
    of the record, the same to rounding.

    A pairwise map has a number for every pair of tokens: 9 GiB for one image of 1024 pixels in ViT-B/16. ``keep``
    says how much of it a record holds; other kinds are kept whole in any case.

    ==============  ====================================================================================================
    ``"full"``      the map, ``record.g``; a fused operation is replaced by one that gives its map and ``g x``
    ``"rows"``      queries and keys where PyTorch's fused attention computes the map inside, and the map where the
                    model itself computes it; ``record.rows(queries)`` are its rows, and ``record.g``,
                    ``reconstruct`` and ``verify`` work, building the map of one record while they run
    ``"summary"``   ``record.summary[name]`` for each of ``statistics``, from blocks of rows, and nothing else; an
                    edited map, or one that the model itself computes, is whole in memory until then
    ``"auto"``      the first of these that half of the memory holds
    ==============  ====================================================================================================

    What records will hold is estimated before a forward call from ``site.size_bytes``, which is exact for inputs of the
    size that the sites were found with, and scaled by the number of images.

    Args:
        model: Any PyTorch model; it is left as it was found, also after an error.
        sites: From :func:`find_attention`. Left out, the first forward call is preceded by one that finds them.
        keep: How much of a pairwise map is kept.
        statistics: For ``"summary"``: names in :data:`attnviz.recording.STATISTICS`; all by default.
        each: Called with every record as soon as it is there, while the model still runs; ``records`` then stays empty,
            and memory holds one record at a time. The model may overwrite the record's tensors later: take from them
            what is wanted, at once.

    Yields:
        What was captured, growing with each forward call.

    Raises:
        CaptureError: the model holds parts whose operations cannot be seen, or has no module that a site names; from
            the first forward call: its records would not fit into memory.
        UnknownNameError: no such statistic, or nothing that could be kept.

    >>> import torch
    >>> model, x = nn.MultiheadAttention(4, 2, batch_first=True).eval(), torch.rand(1, 3, 4)
    >>> with capture(model, keep="summary", statistics=["max"]) as captured:
    ...     _ = model(x, x, x, need_weights=False)
    >>> captured.records[0].shape, captured.records[0].summary["max"].shape
    ((1, 2, 3, 3), torch.Size([1, 2, 3]))
    """
    captured = Captured(sites, keep, statistics, each)
    observer = SiteObserver(
        keep=captured._keep,
        keep_scores=captured._keep_scores,
        wants_scores_only=captured._wants_scores_only,
        retains=each is None,
    )
    with ExitStack() as undo:
        undo.enter_context(observing(model, captured.sites, captured._start, observer))
        if each is None or keep == "auto":
            measure = functools.partial(captured._measure, model)
            undo.enter_context(module_hooks.before_first(model, measure))
        yield captured


@contextmanager
def observing(
    model: nn.Module,
    sites: Iterable[Site] | None,
    start: Callable[[Sites], Iterable[Site]],
    observer: SiteObserver,
) -> Iterator[None]:
    """Let ``observer`` hear what ``model`` does at its sites inside the ``with`` block.

    Args:
        model: Any PyTorch model; it is left as it was found, also after an error.
        sites: From :func:`find_attention`. Left out, the first forward call is preceded by one that finds them.
        start: Called once with the sites; gives those that matter.
        observer: What is done there.

    Raises:
        CaptureError: the model holds parts whose operations cannot be seen, or has no module that a site names.
    """
    check_module(model)
    with ExitStack() as undo:
        undo.enter_context(traceable(model))

        def observe(sites: Iterable[Site]) -> None:
            undo.enter_context(module_hooks.observing(_hook_targets(model, sites), observer))

        def find(*args: Any, **kwargs: Any) -> None:
            """As the sites were not given."""
            observe(start(find_attention(model, *args, **kwargs)))

        if sites is None:
            undo.enter_context(module_hooks.before_first(model, find))
        else:
            observe(start(Sites.of(sites)))
        yield


def _hook_targets(model: nn.Module, sites: Iterable[Site]) -> list[HookTarget]:
    """The modules that hold sites, with what is heard there and from when on."""
    by_module: dict[str, list[Site]] = {}
    for site in sites:
        by_module.setdefault(site.module, []).append(site)
    return [_hook_target(model, held) for held in by_module.values()]


def _hook_target(model: nn.Module, sites: list[Site]) -> HookTarget:
    module = _at(model, sites[0].module)
    if module is None:
        name = sites[0].name
        raise CaptureError(f"{name}: the model has no module {sites[0].module!r}; find its sites again")
    keys = {(site.operation, site.position): site for site in sites}
    moments = [site.starts_after for site in sites if site.starts_after is not None]
    if len(moments) < len(sites) or all(site.patchable for site in sites):
        return HookTarget(module, keys)
    first = min(moments, key=lambda moment: sum(moment.counts.values()))
    return HookTarget(module, keys, _at(model, first.child), first.counts)  # no child: heard from the beginning


def _at(model: nn.Module, path: str) -> nn.Module | None:
    """The module at a path, as ``get_submodule`` gives it in several times the time."""
    module: nn.Module | None = model
    for name in path.split(".") if path else ():
        module = None if module is None else module._modules.get(name)
    return module
