r"""Edits: what :func:`attnviz.intervene` puts in the place of ``g``.

An edit is any function of ``g`` that gives a tensor of its shape, dtype and device: ``lambda g: 1 - g``. It must not
change ``g`` itself. An edit that has to know where it is has a method ``at``, which gives that function
(:class:`PlacedEdit`)::

    class FirstCallOnly:
        def at(self, moment):
            return attnviz.edits.zero if moment.call == 0 else lambda g: g

Entries *compete* where the weights of one sum are shared out among them: the keys of a query, the branches of a
channel, the frames or positions of one pooled value. The entries of a gate compete with all others of their image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from attnviz.capture import capture, find_attention
from attnviz.capture.wrap import as_inference
from attnviz.errors import CaptureError
from attnviz.records import Kind, Operand, Record, Site

GEdit: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """Where and when an edit happens.

    Attributes:
        site: The site.
        call: Which call of the site in this intervention, from 0, counted on over forward passes.
        x: What ``g`` is about to be applied to.
    """

    site: Site
    call: int
    x: Operand


class PlacedEdit(Protocol):
    """An edit that depends on where and when it happens."""

    def at(self, moment: Moment, /) -> GEdit:
        """The function of ``g`` for one call of one site."""
        ...


Edit: TypeAlias = GEdit | PlacedEdit

_COMPETING: Mapping[Kind, tuple[int, ...]] = {
    Kind.CHANNEL: (1,),
    Kind.SPATIAL: (1, 2),
    Kind.DENSE: (1, 2, 3),
    Kind.BRANCH: (1,),
    Kind.TEMPORAL: (-1,),
    Kind.PAIRWISE: (-1,),
    Kind.POOLING: (-1,),
    Kind.SAMPLING: (1, 2, 3),
}


def zero(g: Tensor) -> Tensor:
    """Every entry 0: a gate lets nothing through, a query attends to nothing, every point is the upper left pixel.

    .. math:: g' = 0

    >>> zero(torch.tensor([[0.25, 0.75]]))
    tensor([[0., 0.]])
    """
    return torch.zeros_like(g)


def scale(a: float) -> GEdit:
    """Every entry multiplied by ``a``; 1 changes nothing.

    .. math:: g' = a g

    >>> scale(2.0)(torch.tensor([[0.25, 0.75]]))
    tensor([[0.5000, 1.5000]])
    """
    return partial(_scaled, a=float(a))


def keep_top(p: float) -> GEdit:
    r"""The share ``p`` of each sample's entries that is largest in magnitude, the others 0.

    .. math:: g'_i = g_i \text{ where } \operatorname{rank} |g_i| \le \operatorname{round}(p n), \text{ else } 0

    The ``n`` entries of a sample are ranked together; of equal ones the first are kept. ``p = 1`` changes nothing and
    ``p = 0`` is :func:`zero`.

    Args:
        p: In [0, 1].

    Raises:
        ValueError: ``p`` is outside.

    >>> keep_top(0.5)(torch.tensor([[0.1, 0.4, 0.2, 0.3]]))
    tensor([[0.0000, 0.4000, 0.0000, 0.3000]])
    """
    return partial(_kept_top, p=_share(p))


def drop_top(p: float) -> GEdit:
    r"""The share ``p`` of each sample's entries that is largest in magnitude becomes 0: the rest of :func:`keep_top`.

    .. math:: g'_i = 0 \text{ where } \operatorname{rank} |g_i| \le \operatorname{round}(p n), \text{ else } g_i

    ``p`` is what is dropped, so that ``keep_top(p)(g) + drop_top(p)(g) == g``: here ``p = 0`` changes nothing and
    ``p = 1`` is :func:`zero`.

    Args:
        p: In [0, 1].

    Raises:
        ValueError: ``p`` is outside.

    >>> drop_top(0.25)(torch.tensor([[0.1, 0.4, 0.2, 0.3]]))
    tensor([[0.1000, 0.0000, 0.2000, 0.3000]])
    """
    return partial(_dropped_top, p=_share(p))


def keep_random(p: float, generator: torch.Generator | None = None) -> GEdit:
    """The share ``p`` of each sample's entries, drawn at random at each call, the others 0.

    The control of :func:`keep_top`: does it matter *which* entries are kept?

    Args:
        p: In [0, 1].
        generator: Where the choice comes from, on any device; PyTorch's own where left out.

    Raises:
        ValueError: ``p`` is outside.

    >>> keep_random(0.5, torch.Generator().manual_seed(0))(torch.ones(1, 4)).sum()
    tensor(2.)
    """
    return partial(_kept_random, p=_share(p), generator=generator)


@dataclass(frozen=True, slots=True)
class Uniform:
    r"""Every entry becomes the mean of those that it competes with: attention that prefers nothing.

    .. math:: g'_i = \frac{1}{|K_i|} \sum_{j \in K_i} g_j

    ``K_i`` are the entries that compete with ``i``: where a softmax made ``g``, this is ``1/|K_i|``, masked entries
    included. How much is let through stays as it was; only the choice is gone.

    Raises:
        CaptureError: ``g`` holds sampling points, which are places and no weights.

    >>> from attnviz.capture import Gate
    >>> site = Site("se", 0, Kind.CHANNEL, "mul", 0, Gate(Kind.CHANNEL, 1, 1))
    >>> uniform.at(Moment(site, 0, torch.ones(1, 4, 2, 2)))(torch.tensor([[0.1, 0.4, 0.2, 0.3]]))
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """

    def at(self, moment: Moment, /) -> GEdit:
        """The mean over the axes along which entries of this kind compete."""
        if moment.site.kind is Kind.SAMPLING:
            raise CaptureError(
                f"{moment.site.name}: uniform is defined for weights, and sampling points are places; "
                "identity, mean, shuffle and swap are defined for both"
            )
        return partial(_levelled, axes=_COMPETING[moment.site.kind])


uniform = Uniform()


@dataclass(frozen=True, slots=True)
class Identity:
    r"""The ``g`` with which ``f`` gives ``x``, as if the attention were not there.

    .. math:: f(g', x) = x

    1 for a gate; the unit matrix for a square pairwise map, each query attending to itself alone; each pixel itself
    where one map of the same size is sampled.

    Raises:
        CaptureError: ``f`` gives something of another size than ``x``, so that no such ``g`` exists.

    >>> from attnviz.capture import Gate
    >>> site = Site("se", 0, Kind.CHANNEL, "mul", 0, Gate(Kind.CHANNEL, 1, 1))
    >>> identity.at(Moment(site, 0, torch.ones(1, 2, 4, 4)))(torch.tensor([[0.1, 0.4]]))
    tensor([[1., 1.]])
    """

    def at(self, moment: Moment, /) -> GEdit:
        """Ones, the unit matrix, or the grid of pixels."""
        return partial(_neutral, moment=moment)


identity = Identity()


@dataclass(frozen=True, slots=True, eq=False)
class Shuffle:
    """See :func:`shuffle`."""

    generator: torch.Generator | None = None

    def at(self, moment: Moment, /) -> GEdit:
        """A new permutation for each call."""
        return partial(_shuffled, axes=_COMPETING[moment.site.kind], generator=self.generator)


def shuffle(generator: torch.Generator | None = None) -> Shuffle:
    r"""The entries of each sample in random order, each among those that it competes with: same weights, other places.

    .. math:: g'_i = g_{\pi(i)}

    with a new permutation for each sample, each row and each call. Rows keep their sums. Sampling points are moved
    as a whole.

    Args:
        generator: Where the permutations come from, on any device; PyTorch's own where left out. Under gradient
            checkpointing leave it out: the recomputation draws the same numbers again only from PyTorch's own.

    >>> from attnviz.capture import Gate
    >>> site = Site("se", 0, Kind.CHANNEL, "mul", 0, Gate(Kind.CHANNEL, 1, 1))
    >>> edit = shuffle(torch.Generator().manual_seed(0)).at(Moment(site, 0, torch.ones(1, 4, 2, 2)))
    >>> edit(torch.tensor([[0.1, 0.4, 0.2, 0.3]])).sort().values
    tensor([[0.1000, 0.2000, 0.3000, 0.4000]])
    """
    return Shuffle(generator)


@dataclass(frozen=True, slots=True, eq=False)
class Mean:
    """See :func:`mean`.

    Attributes:
        values: The mean ``g`` of each site by name, with a first axis of size 1.
    """

    values: Mapping[str, Tensor]

    def at(self, moment: Moment, /) -> GEdit:
        """The site's mean, for every sample."""
        name = moment.site.name
        if name not in self.values:
            raise CaptureError(f"{name}: no mean is known for this site, only for {', '.join(self.values) or 'none'}")
        return partial(_replaced, by=self.values[name])


def mean(records: Iterable[Record]) -> Mean:
    r"""The mean ``g`` of each site over all samples of all its records, the same for every image.

    .. math:: g' = \frac{1}{N} \sum_{n=1}^{N} g_n

    Records may come from a generator, so that a data set need not fit in memory; :func:`mean_over` runs the model
    itself.

    Raises:
        CaptureError: a site's records differ in shape, or there is none at all.

    >>> from attnviz.capture import Gate
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
    """The :func:`mean` edit from running ``model`` over ``batches``, in eval mode and without gradients.

    Args:
        model: Any PyTorch model; it is left as it was found.
        batches: What the model takes: a tensor each, a tuple of inputs, or a mapping of named inputs. Take labels out
            first: ``(x for x, _ in loader)``.
        sites: From :func:`attnviz.find_attention`; found on the first batch where left out.

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
        """The site's ``g`` for this call."""
        name = moment.site.name
        if name not in self.values:
            raise CaptureError(f"{name}: no record of this site to swap in, only of {', '.join(self.values) or 'none'}")
        calls = self.values[name]
        return partial(_replaced, by=calls[moment.call % len(calls)])


def swap(*records: Record) -> Swap:
    r"""The ``g`` of records: another image's, or the same image's again, which gives the same output.

    .. math:: g' = g_{\text{record}}

    Re-injection gives the same output bit for bit, but for fused attention, which is then computed by another route.

    Records of several sites may be given together. The first call of a site takes its first record, the next call the
    next one; after the last comes the first again, as at the next forward pass. A record of one image serves a batch.
    Its ``g`` is a constant: no gradient flows back into the run that it comes from.

    >>> from attnviz.capture import Gate
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


def _share(p: float) -> float:
    if not 0 <= p <= 1:
        raise ValueError(f"a share of entries is in [0, 1], got {p}")
    return float(p)


def _scaled(g: Tensor, a: float) -> Tensor:
    return g if a == 1 else g * a


def _chosen(order: Tensor, g: Tensor, p: float) -> Tensor:
    """Where the first ``p`` of each sample's entries in that order are."""
    first = order[:, : round(p * order.shape[1])]
    return torch.zeros(order.shape, dtype=torch.bool, device=g.device).scatter_(1, first, value=True).view(g.shape)


def _by_magnitude(g: Tensor) -> Tensor:
    return g.detach().abs().flatten(1).argsort(dim=1, descending=True, stable=True)


def _random_order(shape: tuple[int, ...], g: Tensor, generator: torch.Generator | None) -> Tensor:
    device = g.device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=device).argsort(-1).to(g.device)


def _where(chosen: Tensor, g: Tensor) -> Tensor:
    """``g`` at the chosen entries, 0 elsewhere; ``g`` itself where all are chosen, so that nothing is computed anew."""
    return g if bool(chosen.all()) else torch.where(chosen, g, torch.zeros_like(g))


def _kept_top(g: Tensor, p: float) -> Tensor:
    return _where(_chosen(_by_magnitude(g), g, p), g)


def _dropped_top(g: Tensor, p: float) -> Tensor:
    return _where(~_chosen(_by_magnitude(g), g, p), g)


def _kept_random(g: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    return _where(_chosen(_random_order(tuple(g.flatten(1).shape), g, generator), g, p), g)


def _levelled(g: Tensor, axes: tuple[int, ...]) -> Tensor:
    return g.mean(axes, keepdim=True).expand_as(g)


def _neutral(g: Tensor, moment: Moment) -> Tensor:
    kind, x = moment.site.kind, moment.x
    if kind in {Kind.CHANNEL, Kind.SPATIAL, Kind.DENSE}:
        return torch.ones_like(g)
    if kind in {Kind.PAIRWISE, Kind.TEMPORAL} and g.ndim == 4 and g.shape[-1] == g.shape[-2]:
        return torch.eye(g.shape[-1], dtype=g.dtype, device=g.device).expand_as(g)
    if kind is Kind.SAMPLING and isinstance(x, Tensor) and (1, *x.shape[-2:]) == g.shape[1:4]:
        rows, columns = (torch.arange(n, dtype=g.dtype, device=g.device) for n in g.shape[2:4])
        return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).expand_as(g)
    raise CaptureError(
        f"{moment.site.name}: no {kind.value} g of shape {tuple(g.shape)} leaves x as it is: identity is defined for "
        "gates, for square pairwise maps and for sampling one map of the same size"
    )


def _shuffled(g: Tensor, axes: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    last = tuple(range(-len(axes), 0))
    rows = g.movedim(axes, last)
    sizes, rows = rows.shape[-len(axes) :], rows.flatten(-len(axes))
    # The two coordinates of a sampling point are the one axis that neither competes nor holds rows of its own.
    shape = (rows.shape[0], 1, rows.shape[-1]) if g.ndim == 5 else tuple(rows.shape)
    order = _random_order(shape, g, generator).expand_as(rows)
    moved: Tensor = rows.gather(-1, order).unflatten(-1, sizes).movedim(last, axes)
    return moved


def _replaced(g: Tensor, by: Tensor) -> Tensor:
    by = by.to(g)
    return by.expand_as(g) if by.shape == (1, *g.shape[1:]) else by
