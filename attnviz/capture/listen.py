"""Keep what every site does while a model runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from attnviz.capture.adapters import ADAPTERS
from attnviz.capture.find import find_attention
from attnviz.capture.operations import name_of
from attnviz.capture.wrap import check_visible, visibly, wrap_forward
from attnviz.errors import CaptureError, NoAttentionError
from attnviz.records import Operand, Record, Site


class Captured:
    """What a capture has seen so far.

    Attributes:
        sites: The sites that are listened to; filled by the first forward call where none were given.
        records: One record per site and call, in the order of the forward passes.
    """

    def __init__(self, sites: Iterable[Site] | None) -> None:
        self.sites: list[Site] | None = None if sites is None else list(sites)
        self.records: list[Record] = []
        self._calls: Counter[Site] = Counter()

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

    def _keep(self, site: Site, g: Tensor, x: Any, y: Tensor) -> None:
        self.records.append(Record(site, self._calls[site], g, x, y))
        self._calls[site] += 1


class _Ear(TorchFunctionMode):
    """Listens during one call of one module: counts operations, keeps those that are sites."""

    def __init__(self, captured: Captured, sites: dict[tuple[str, int], Site]) -> None:
        super().__init__()
        self._captured = captured
        self._sites = sites
        self._operations = {operation for operation, _ in sites}
        self._counts: Counter[str] = Counter()
        self._adapters = ADAPTERS.entries()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = name_of(func)
        if name in self._adapters:
            with self:
                return self._adapters[name](*args, **kwargs)
        if name not in self._operations:
            return func(*args, **kwargs)
        site = self._sites.get((name, self._counts[name]))
        self._counts[name] += 1
        if site is None:
            return func(*args, **kwargs)
        g, x = site.use.read(args, kwargs)
        g, x = _kept(g, site, "g"), _kept(x, site, "x")
        # With gradients on, the operation takes the canonical g, so that gradients of the record's g exist.
        wanted = g.requires_grad and torch.is_grad_enabled()
        y = apply(func, site, g, x, args) if wanted else func(*args, **kwargs)
        self._captured._keep(site, g, x, _kept(y, site, "y"))
        return y


def apply(func: Callable[..., Any], site: Site, g: Tensor, x: Operand, args: Sequence[Any]) -> Tensor:
    """``f(g, x)`` in place of the operation of ``site``; an in-place operation still overwrites its operand."""
    y = site.use(g, x)
    overwrites = func.__name__.endswith("_") and not func.__name__.endswith("__")
    return args[0].copy_(y) if overwrites else y


def _kept(value: Any, site: Site, name: str) -> Any:
    """A copy where the model overwrites the value later."""
    return value.clone() if name in site.overwritten and isinstance(value, Tensor) else value


@contextmanager
def capture(model: nn.Module, sites: Iterable[Site] | None = None) -> Iterator[Captured]:
    """Keep what every site does in each forward call of ``model`` inside the ``with`` block.

    Outputs, gradients and the model are those of the plain model: records hold the tensors that the model computed,
    with their autograd history, and copies only where the model overwrites them in place.

    Args:
        model: Any PyTorch model; it is left as it was found, also after an error.
        sites: From :func:`find_attention`. Left out, the first forward call is preceded by one that finds them.

    Yields:
        What was captured, growing with each forward call.

    Raises:
        CaptureError: the model holds parts whose operations cannot be seen, or has no module that a site names.
    """
    check_visible(model)
    captured = Captured(sites)
    with ExitStack() as undo:
        undo.enter_context(visibly(model))
        if captured.sites is None:
            undo.enter_context(wrap_forward(model, _finding_first(model, captured, undo)))
        else:
            _listen(model, captured, undo)
        yield captured


def _finding_first(model: nn.Module, captured: Captured, undo: ExitStack) -> Callable[..., Any]:
    finding = False

    def wrap(forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal finding
            if finding or captured.sites is not None:
                return forward(*args, **kwargs)
            finding = True
            try:
                captured.sites = find_attention(model, *args, **kwargs)
            finally:
                finding = False
            _listen(model, captured, undo)
            return model.forward(*args, **kwargs)

        return run

    return wrap


def _listen(model: nn.Module, captured: Captured, undo: ExitStack) -> None:
    modules = dict(model.named_modules())
    by_module: defaultdict[str, dict[tuple[str, int], Site]] = defaultdict(dict)
    for site in captured.sites or ():
        if site.module not in modules:
            raise CaptureError(f"{site.name}: the model has no module {site.module!r}; find its sites again")
        by_module[site.module][site.operation, site.position] = site
    for path, held in by_module.items():
        undo.enter_context(wrap_forward(modules[path], _listening(captured, held)))


def _listening(captured: Captured, sites: dict[tuple[str, int], Site]) -> Callable[..., Any]:
    def wrap(forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with _Ear(captured, sites):
                return forward(*args, **kwargs)

        return run

    return wrap
