"""Replace ``g`` by something less informative, and measure the effect on the prediction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from attnviz.analyses.accumulators import Tally, scalar
from attnviz.analyses.pruning import ALL, Read, log_probabilities, outcome, response
from attnviz.core.glossary import Meaning, define
from attnviz.core.model_state import as_inference
from attnviz.core.records import Kind, Site
from attnviz.edits import EDITS, GEdit, Mean, Moment, NamedEdit
from attnviz.edits.intervention import intervene
from attnviz.recording import capture

_MEAN = Meaning("mean g", "g is replaced by its mean over the images.", "The effect of removing the attention.")
_OTHER = Meaning(
    "g of another image", "g is replaced by that of the next image.", "The effect of removing the attention."
)
define("edit", "mean", _MEAN)
define("edit", "other", _OTHER)


@dataclass(frozen=True, slots=True)
class Other:
    r"""Every image gets the ``g`` of the next image of the batch, and the last one that of the first.

    .. math:: g'_n = g_{(n + 1) \bmod N}

    Attributes:
        images: ``N``; the first axes of ``g`` can also hold windows and heads.

    Raises:
        ValueError: a batch of one image has no other.
    """

    images: int

    def __post_init__(self) -> None:
        if self.images < 2:
            raise ValueError(f"the g of another image needs a batch of 2 or more, got {self.images}")

    def at(self, moment: Moment, /) -> GEdit:
        """Return the function that rolls the axis of images, which the layout of the site determines."""
        return partial(_rolled, site=moment.site, images=self.images)


def _rolled(g: Tensor, site: Site, images: int) -> Tensor:
    layout = site.layout
    if layout is None or site.kind in {Kind.CHANNEL, Kind.SPATIAL, Kind.DENSE, Kind.BRANCH}:
        return g.roll(-(g.shape[0] // images), 0)
    sizes = {"images": images, "windows": layout.windows, "heads": layout.heads}
    apart = g.reshape(*(sizes[name] for name in layout.order), *g.shape[2:])
    return apart.roll(-1, layout.order.index("images")).reshape(g.shape)


def replacements(images: int, mean: Mean | None) -> dict[str, NamedEdit]:
    """Return the replacements of ``g``: registered edits, its ``mean`` over images, and that of an ``other`` image.

    Args:
        images: Number of images of the batch; with a single one there is no other.
        mean: The mean ``g``; left out by default.
    """
    found = {name: EDITS[name] for name in EDITS if EDITS[name].in_studies}
    if mean is not None:
        found["mean"] = NamedEdit("mean", mean, _MEAN)
    if images > 1:
        found["other"] = NamedEdit("other", Other(images), _OTHER)
    return found


def replace(
    model: nn.Module,
    sites: Sequence[Site],
    x: Tensor,
    mean: Mean | None = None,
    advance: Callable[[str], object] = lambda _: None,
    read: Read = log_probabilities,
) -> Tally:
    """Replace ``g`` at each site, and at all together, for one batch.

    Sampling points cannot be uniform; a batch of one image has no other. ``mean`` is the mean ``g`` over a data set,
    from :func:`attnviz.edits.mean_over`. Other arguments are those of :func:`~attnviz.analyses.pruning.prune`.

    Returns:
        For each scope, ``REPLACEMENT.WHAT`` for each replacement and each name of
        :func:`~attnviz.analyses.pruning.outcome`.
    """
    plain = response(model, x, read=read)
    tally: Tally = {}
    scopes = {site.name: [site] for site in sites}
    for scope, chosen in ({**scopes, ALL: list(sites)} if len(scopes) > 1 else scopes).items():
        for name, named in replacements(len(x), mean).items():
            applicable = [site for site in chosen if site.kind in named.kinds]
            if applicable:
                for what, value in outcome(plain, response(model, x, named.edit, applicable, read)).items():
                    tally[scope, f"{name}.{what}"] = scalar(value)
        advance(scope)
    return tally


def matters(model: nn.Module, site: Site, x: Tensor, tolerance: float = 1e-6, batch: int = 64) -> Tensor:
    """Return which entries of ``g`` matter: those that change a logit of any image if they are set to 0.

    Entries are dropped one at a time, so an entry that others can replace counts as not needed.

    Args:
        model: Maps ``(N, ...)`` to logits ``(N, K)``.
        site: Site whose ``g`` has only images on its first axis.
        x: Images, ``(N, ...)``.
        tolerance: Change of a logit, relative to the largest logit, that counts as none.
        batch: Number of entries that are tried together.

    Returns:
        Boolean tensor with the shape of ``g`` of one image.

    Raises:
        ValueError: the first axis of ``g`` holds more than the images.
    """
    found: Tensor | None = None
    with torch.no_grad(), as_inference(model):
        for image in x.split(1):
            with capture(model, [site]) as captured:
                model(image)
            g = captured.records[0].g
            if g.shape[0] != 1:
                raise ValueError(f"{site.name}: wanted the g of one image, got {g.shape[0]} maps")
            one = torch.cat(
                [_changes(model, site, image, tolerance, part) for part in torch.arange(g[0].numel()).split(batch)]
            )
            found = one if found is None else found | one
            shape = g.shape[1:]
    if found is None:
        raise ValueError("wanted at least one image, got none")
    return found.reshape(shape)


def _changes(model: nn.Module, site: Site, image: Tensor, tolerance: float, entries: Tensor) -> Tensor:
    """Return whether dropping each of the entries changes a logit."""
    many = image.expand(len(entries), *image.shape[1:])
    plain = model(many)

    def without(g: Tensor) -> Tensor:
        new = g.flatten(1).clone()
        new[torch.arange(len(entries)), entries] = 0
        return new.view_as(g)

    with intervene(model, {"*": without}, [site]):
        edited = model(many)
    change: Tensor = (edited - plain).abs().amax(1) > tolerance * plain.abs().amax()
    return change.cpu()
