"""Edits that redistribute ``g``: evenly, to the identity, or at random."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from attnviz.core.records import Kind, Site
from attnviz.edits.context import GEdit, Moment, random_order
from attnviz.edits.registry import register_edit
from attnviz.errors import CaptureError

_COMPETING: Mapping[Kind, tuple[int, ...]] = {
    Kind.CHANNEL: (1,),
    Kind.SPATIAL: (),  # all axes but the first
    Kind.DENSE: (),
    Kind.BRANCH: (1,),
    Kind.TEMPORAL: (-1,),
    Kind.PAIRWISE: (-1,),
    Kind.POOLING: (-1,),
    Kind.SAMPLING: (1, 2, 3),
}


def _competing_axes(site: Site) -> tuple[int, ...]:
    if site.kind not in _COMPETING:
        raise CaptureError(f"{site.name}: which entries compete is not defined for {site.kind.value} attention")
    return _COMPETING[site.kind]


@dataclass(frozen=True, slots=True)
class Uniform:
    r"""Replace every entry by the mean of the entries that it competes with.

    .. math:: g'_i = \frac{1}{|K_i|} \sum_{j \in K_i} g_j

    ``K_i`` are the entries that compete with ``i``. After a softmax this is ``1/|K_i|``, masked entries included. The
    total weight is unchanged.

    Raises:
        CaptureError: ``g`` holds sampling points, which are positions and not weights.

    >>> from attnviz.tracing import Gate
    >>> from attnviz.core.records import Site
    >>> site = Site("se", 0, Kind.CHANNEL, "mul", 0, Gate(Kind.CHANNEL, 1, 1))
    >>> uniform.at(Moment(site, 0, torch.ones(1, 4, 2, 2)))(torch.tensor([[0.1, 0.4, 0.2, 0.3]]))
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """

    def at(self, moment: Moment, /) -> GEdit:
        """Return the mean over the axes along which entries of this kind compete."""
        if moment.site.kind is Kind.SAMPLING:
            raise CaptureError(
                f"{moment.site.name}: uniform is defined for weights, and sampling points are positions; "
                "identity, mean, shuffle and swap are defined for both"
            )
        return partial(_levelled, axes=_competing_axes(moment.site))


uniform = Uniform()
register_edit(
    "uniform",
    uniform,
    title="uniform g",
    means="Every entry is replaced by the mean of those that it competes with.",
    not_means="The effect of removing the attention: the total weight is kept.",
    kinds=frozenset(Kind) - {Kind.SAMPLING},
    in_studies=True,
)


@dataclass(frozen=True, slots=True)
class Identity:
    r"""Replace ``g`` so that ``f`` returns ``x``, as if the attention were not there.

    .. math:: f(g', x) = x

    1 for a gate; the unit matrix for a square pairwise map; the grid of pixels if one map of the same size is sampled.

    Raises:
        CaptureError: no such ``g`` exists, because the output of ``f`` has another size than ``x``.

    >>> from attnviz.tracing import Gate
    >>> from attnviz.core.records import Site
    >>> site = Site("se", 0, Kind.CHANNEL, "mul", 0, Gate(Kind.CHANNEL, 1, 1))
    >>> identity.at(Moment(site, 0, torch.ones(1, 2, 4, 4)))(torch.tensor([[0.1, 0.4]]))
    tensor([[1., 1.]])
    """

    def at(self, moment: Moment, /) -> GEdit:
        """Return ones, the unit matrix, or the grid of pixels."""
        return partial(_neutral, moment=moment)


identity = Identity()
register_edit(
    "identity",
    identity,
    title="identity",
    means="The g with which the operation returns its input, as if the attention were not there.",
    not_means="An effect on its own: later layers were trained with the attention.",
)


@dataclass(frozen=True, slots=True, eq=False)
class Shuffle:
    """See :func:`shuffle`."""

    generator: torch.Generator | None = None

    def at(self, moment: Moment, /) -> GEdit:
        """Return the function that permutes; each call draws a new permutation."""
        site = moment.site
        points = site.kind is Kind.SAMPLING
        return partial(_shuffled, axes=_competing_axes(site), generator=self.generator, points=points)


def shuffle(generator: torch.Generator | None = None) -> Shuffle:
    r"""Return the edit that permutes competing entries at random.

    .. math:: g'_i = g_{\pi(i)}

    with a new permutation for each sample, each row and each call. Rows keep their sums. Sampling points are moved
    as a whole.

    Args:
        generator: Random generator on any device; PyTorch's default one if omitted. Omit it under gradient
            checkpointing: the recomputation repeats only the numbers of the default generator.

    >>> from attnviz.tracing import Gate
    >>> from attnviz.core.records import Site
    >>> site = Site("se", 0, Kind.CHANNEL, "mul", 0, Gate(Kind.CHANNEL, 1, 1))
    >>> edit = shuffle(torch.Generator().manual_seed(0)).at(Moment(site, 0, torch.ones(1, 4, 2, 2)))
    >>> edit(torch.tensor([[0.1, 0.4, 0.2, 0.3]])).sort().values
    tensor([[0.1000, 0.2000, 0.3000, 0.4000]])
    """
    return Shuffle(generator)


register_edit(
    "shuffle",
    shuffle(),
    title="shuffled g",
    means="The entries of each sample in random order: the same weights at other positions.",
    not_means="The effect of a single permutation: it depends on the random state.",
)


def _levelled(g: Tensor, axes: tuple[int, ...]) -> Tensor:
    return g.mean(axes or tuple(range(1, g.ndim)), keepdim=True).expand_as(g)


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


def _shuffled(g: Tensor, axes: tuple[int, ...], generator: torch.Generator | None, *, points: bool) -> Tensor:
    axes = axes or tuple(range(1, g.ndim))
    last = tuple(range(-len(axes), 0))
    rows = g.movedim(axes, last)
    sizes, rows = rows.shape[-len(axes) :], rows.flatten(-len(axes))
    # The two coordinates of a sampling point are permuted together.
    shape = (rows.shape[0], 1, rows.shape[-1]) if points else tuple(rows.shape)
    order = random_order(shape, g, generator).expand_as(rows)
    moved: Tensor = rows.gather(-1, order).unflatten(-1, sizes).movedim(last, axes)
    return moved
