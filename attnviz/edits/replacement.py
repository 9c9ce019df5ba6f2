"""Edits that insert the ``g`` of other runs: of another image, or the mean over a data set."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.core.model_state import as_inference
from attnviz.core.records import Record, Site
from attnviz.edits.context import GEdit, Moment
from attnviz.errors import CaptureError
from attnviz.recording.capture import capture
from attnviz.tracing import find_attention


@dataclass(frozen=True, slots=True, eq=False)
class Mean:
    """See :func:`mean`.

    Attributes:
        values: The mean ``g`` of each site by name, with a first axis of size 1.
    """

    values: Mapping[str, Tensor]

    def at(self, moment: Moment, /) -> GEdit:
        """Return the function that inserts the mean of the site for every sample."""
        name = moment.site.name
        if name not in self.values:
            raise CaptureError(f"{name}: no mean is known for this site, only for {', '.join(self.values) or 'none'}")
        return partial(_replaced, by=self.values[name])


def mean(records: Iterable[Record]) -> Mean:
    r"""Return the edit that inserts the mean ``g`` of each site over all samples of its records.

    .. math:: g' = \frac{1}{N} \sum_{n=1}^{N} g_n

    Records can come from a generator, so that a data set need not fit in memory; :func:`mean_over` also runs the model.

    Raises:
        CaptureError: the records of a site differ in shape, or there is no record.

    >>> from attnviz.tracing import Gate
    >>> from attnviz.core.records import Kind
    >>> site, x = Site("se", 0, Kind.CHANNEL, "mul", 0, Gate(Kind.CHANNEL, 1, 1)), torch.ones(2, 2, 4, 4)
    >>> edit = mean([Record(site, 0, torch.tensor([[0.2, 0.4], [0.6, 0.4]]), x, x)])
    >>> edit.at(Moment(site, 0, x))(torch.zeros(3, 2))
    tensor([[0.4000, 0.4000], [0.4000, 0.4000], [0.4000, 0.4000]])
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for record in records:
        name, g = record.site.name, record.g.detach()
        total = g.to(torch.promote_types(g.dtype, torch.float32)).sum(0, keepdim=True)
        if name in sums and sums[name].shape != total.shape:
            raise CaptureError(
                f"{name}: a mean needs maps of one shape, got {tuple(sums[name].shape[1:])} and {tuple(g.shape[1:])}"
            )
        sums[name] = sums[name] + total if name in sums else total
        counts[name] = counts.get(name, 0) + g.shape[0]
    if not sums:
        raise CaptureError("a mean needs records, got none")
    return Mean({name: total / counts[name] for name, total in sums.items()})


def mean_over(model: nn.Module, batches: Iterable[Any], sites: Iterable[Site] | None = None) -> Mean:
    """Run ``model`` over ``batches`` in eval mode without gradients, and return the :func:`mean` edit.

    Args:
        model: Any PyTorch model; it is not changed.
        batches: Inputs of the model: a tensor, a tuple of inputs, or a mapping of named inputs per batch. Remove labels
            first: ``(x for x, _ in loader)``.
        sites: From :func:`attnviz.find_attention`; found with the first batch if omitted.

    Raises:
        CaptureError: there is no batch or no site, or maps of one site differ in shape.
    """
    known = None if sites is None else list(sites)

    def stream() -> Iterable[Record]:
        nonlocal known
        for batch in batches:
            inputs, named = _inputs(batch)
            known = find_attention(model, *inputs, **named) if known is None else known
            with as_inference(model), capture(model, known) as captured:
                model(*inputs, **named)
            yield from captured.records

    return mean(stream())


@dataclass(frozen=True, slots=True, eq=False)
class Swap:
    """See :func:`swap`.

    Attributes:
        values: The ``g`` of each site by name, one for each of its calls.
    """

    values: Mapping[str, tuple[Tensor, ...]]

    def at(self, moment: Moment, /) -> GEdit:
        """Return the function that inserts the ``g`` of the site for this call."""
        name = moment.site.name
        if name not in self.values:
            raise CaptureError(f"{name}: no record of this site to swap in, only of {', '.join(self.values) or 'none'}")
        calls = self.values[name]
        return partial(_replaced, by=calls[moment.call % len(calls)])


def swap(*records: Record) -> Swap:
    r"""Return the edit that inserts the ``g`` of records, for example of another image.

    .. math:: g' = g_{\text{record}}

    Re-injection of the same ``g`` gives the same output bit for bit, except for fused attention, which is then computed
    by another kernel.

    The records can belong to several sites. Each call of a site uses its next record, and after the last one the first
    again. A record of one image is broadcast to a batch. Its ``g`` is a constant without gradient.

    >>> from attnviz.tracing import Gate
    >>> from attnviz.core.records import Kind
    >>> site, x = Site("se", 0, Kind.CHANNEL, "mul", 0, Gate(Kind.CHANNEL, 1, 1)), torch.ones(1, 2, 4, 4)
    >>> edit = swap(Record(site, 0, torch.tensor([[0.2, 0.4]]), x, x))
    >>> edit.at(Moment(site, 0, x))(torch.tensor([[0.9, 0.9]]))
    tensor([[0.2000, 0.4000]])
    """
    values: dict[str, tuple[Tensor, ...]] = {}
    for record in records:
        values[record.site.name] = (*values.get(record.site.name, ()), record.g.detach())
    return Swap(values)


def _inputs(batch: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if isinstance(batch, Mapping):
        return (), batch
    return (tuple(batch) if isinstance(batch, list | tuple) else (batch,)), {}


def _replaced(g: Tensor, by: Tensor) -> Tensor:
    by = by.to(g)
    return by.expand_as(g) if by.shape == (1, *g.shape[1:]) else by
