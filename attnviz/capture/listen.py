"""Keep what every site does while a model runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from attnviz.capture.ears import Listener, Post
from attnviz.capture.find import Sites, check_module, find_attention
from attnviz.capture.witness import Unclaimed
from attnviz.capture.wrap import check_visible, visibly
from attnviz.errors import CaptureError, NoAttentionError
from attnviz.records import Record, Site


class Captured:
    """What a capture has seen so far.

    Attributes:
        sites: The sites that are listened to; filled by the first forward call where none were given.
        records: One record per site and call, in the order of the forward passes.
    """

    def __init__(self, sites: Iterable[Site] | None) -> None:
        self.sites: Sites | None = None if sites is None else Sites.of(sites)
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

    @property
    def unclaimed(self) -> tuple[Unclaimed, ...]:
        """What looks like attention and left no record: the witness's list, and sites that were not heard so far."""
        sites = self.sites or Sites()
        silent = (site for site in sites if not self._calls[site])
        return *sites.unclaimed, *(Unclaimed(s.operation, s.module, s.source, "a site not heard yet") for s in silent)

    def _start(self, sites: Sites) -> Sites:
        self.sites = sites
        return sites

    def _keep(self, site: Site, g: Tensor, x: Any, y: Tensor) -> None:
        self.records.append(Record(site, self._calls[site], g, x, y))
        self._calls[site] += 1


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
    captured = Captured(sites)
    with listening(model, captured.sites, captured._start, Listener(keep=captured._keep)):
        yield captured


@contextmanager
def listening(
    model: nn.Module,
    sites: Iterable[Site] | None,
    start: Callable[[Sites], Iterable[Site]],
    listener: Listener,
) -> Iterator[None]:
    """Let ``listener`` hear what ``model`` does at its sites inside the ``with`` block.

    Args:
        model: Any PyTorch model; it is left as it was found, also after an error.
        sites: From :func:`find_attention`. Left out, the first forward call is preceded by one that finds them.
        start: Called once with the sites; gives those that matter.
        listener: What is done there.

    Raises:
        CaptureError: the model holds parts whose operations cannot be seen, or has no module that a site names.
    """
    check_module(model)
    check_visible(model)
    with ExitStack() as undo:
        undo.enter_context(visibly(model))

        def find(*args: Any, **kwargs: Any) -> None:
            _station(model, start(find_attention(model, *args, **kwargs)), listener, undo)

        if sites is None:
            undo.enter_context(undo.enter_context(Post.of(model)).before_first(find))
        else:
            _station(model, start(Sites.of(sites)), listener, undo)
        yield


def _station(model: nn.Module, sites: Iterable[Site], listener: Listener, undo: ExitStack) -> None:
    modules = dict(model.named_modules())
    by_module: defaultdict[str, dict[tuple[str, int], Site]] = defaultdict(dict)
    for site in sites:
        if site.module not in modules:
            raise CaptureError(f"{site.name}: the model has no module {site.module!r}; find its sites again")
        by_module[site.module][site.operation, site.position] = site
    for path, held in by_module.items():
        undo.enter_context(undo.enter_context(Post.of(modules[path])).listening(listener, held))
