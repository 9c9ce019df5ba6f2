"""Replace ``g(x)`` while a model runs."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from attnviz.core.records import Site
from attnviz.core.uses import Operand
from attnviz.edits import Edit, Moment
from attnviz.edits.registry import as_edit
from attnviz.errors import CaptureError, NoAttentionError
from attnviz.instrumentation.site_handler import SiteObserver
from attnviz.recording.capture import observing


class Intervention:
    """A running intervention.

    Attributes:
        edits: Edits of each matching site, in the order of their application; filled by the first forward call if no
            sites were given.
    """

    def __init__(self, patterns: Mapping[str, Edit | str]) -> None:
        self.edits: dict[Site, tuple[Edit, ...]] = {}
        self._patterns = {pattern: as_edit(edit) for pattern, edit in patterns.items()}
        self._failure: Exception | None = None
        self._calls: defaultdict[Site, Iterator[int]] = defaultdict(itertools.count)

    def _start(self, sites: list[Site]) -> Iterable[Site]:
        """Match patterns and sites."""
        for pattern in self._patterns:
            if not any(site.matches(pattern) for site in sites):
                known = ", ".join(site.name for site in sites) or "none"
                raise NoAttentionError(f"no attention site matches {pattern!r}; the sites are {known}")
        found = {site: tuple(e for p, e in self._patterns.items() if site.matches(p)) for site in sites}
        self.edits = {site: edits for site, edits in found.items() if edits}
        return self.edits

    def _fail(self, _site: Site, error: Exception) -> None:
        self._failure = error

    def _check(self) -> None:
        """Raise the error of an edit that the model has caught.

        Raises:
            CaptureError: an edit failed.
        """
        if self._failure is not None:
            raise CaptureError(f"an edit failed, and the model caught its error: {self._failure}") from self._failure

    def _edit(self, site: Site, g: Tensor, x: Operand) -> Tensor:
        moment = Moment(site, next(self._calls[site]), x)
        for edit in self.edits[site]:
            before = _version(g)
            placed = getattr(edit, "at", None)
            function: Any = edit if placed is None else placed(moment)
            new = function(g)
            _check(site, edit, g, new)
            if _version(g) != before:
                raise CaptureError(
                    f"{site.name}: the edit {_name(edit)} changed g in place, which others of the model may share; "
                    "return a new tensor"
                )
            g = new
        return g


@contextmanager
def intervene(
    model: nn.Module, edits: Mapping[str, Edit | str], sites: Iterable[Site] | None = None
) -> Iterator[Intervention]:
    r"""Let ``model`` use another ``g`` in each forward call inside the ``with`` block.

    .. math:: y = f(\text{edit}(g(x)), x)

    Everything after the site follows from the edited ``g``, so that sites further on compute their own ``g`` from
    changed values, and are edited from there. Gradients flow through the edit.

    Where interventions and captures are nested, in whatever order, edits come first, those of the outermost
    intervention before those further in, and a capture keeps what was used: its records hold the edited ``g``, and
    ``y`` is ``f`` of it. Sites are always searched for in the plain model.

    Args:
        model: Any PyTorch model; it is left as it was found, also after an error.
        edits: What to do where. The keys are shell patterns on a site's name, module or kind (``"blocks.4*"``,
            ``"channel"``), the values functions of ``g``, edits of :mod:`attnviz.edits` or their names
            (``"uniform"``). If several patterns match a site, all apply, in their order.
        sites: From :func:`attnviz.find_attention`. Left out, the first forward call is preceded by one that finds them.

    Yields:
        The edits of each site.

    Raises:
        NoAttentionError: a pattern fits no site; where sites were left out, the first forward call raises it.
        CaptureError: the model holds parts whose operations cannot be seen, or has no module that a site names. In a
            forward call: an edit gave something that is not of the shape, dtype and device of ``g``, or does not
            apply to a site. At the end of the block: no site was reached, as no ``forward`` of the model was called.

    >>> import torch
    >>> class Squeeze(nn.Module):
    ...     def forward(self, x):
    ...         return x * torch.sigmoid(x.mean((2, 3), keepdim=True))
    >>> model, x = Squeeze(), torch.ones(1, 2, 3, 3)
    >>> with intervene(model, {"channel": lambda g: g * 0 + 0.5}):
    ...     model(x)[0, :, 0, 0]
    tensor([0.5000, 0.5000])
    >>> model(x)[0, :, 0, 0]
    tensor([0.7311, 0.7311])
    """
    intervention = Intervention(edits)
    observer = SiteObserver(edit=intervention._edit, fail=intervention._fail)
    with observing(model, sites, intervention._start, observer, lambda: bool(intervention._calls)):
        yield intervention
    intervention._check()


def _check(site: Site, edit: Edit, g: Tensor, new: object) -> None:
    if not isinstance(new, Tensor):
        raise CaptureError(f"{site.name}: the edit {_name(edit)} gave a {type(new).__name__}, wanted a tensor like g")
    if (new.shape, new.dtype, new.device) != (g.shape, g.dtype, g.device):
        raise CaptureError(f"{site.name}: the edit {_name(edit)} gave {_facts(new)}; g is {_facts(g)}")


def _facts(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"


def _name(edit: Edit) -> str:
    function = getattr(edit, "func", edit)  # partial
    return str(getattr(function, "__name__", type(function).__name__))


def _version(tensor: Tensor) -> int | None:
    """How often the memory was written to; unknown in inference mode."""
    return None if tensor.is_inference() else tensor._version
