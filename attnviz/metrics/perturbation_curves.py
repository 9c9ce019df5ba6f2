"""Ask a model about changed images: in batches, without gradients, and at each step of a curve."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnviz.attribution.registry import HasModule, passes_at_once
from attnviz.attribution.targets import Logits, as_targets
from attnviz.core.model_state import borrowed, seeded

STEPS = 28


class ClassProbe:
    """A model, images and their classes, to evaluate changed images.

    Args:
        vision: A model, or an object with one as ``.module``; it is left as it was found.
        x: Images ``(N, C, H, W)``, preprocessed.
        target: A class for all images, or one for each.
        progress: Progress callback: number of images in each forward pass.

    Attributes:
        x: The images.
        targets: ``(N,)`` classes.
        plain: ``(N,)`` probabilities of the images as they are.
    """

    def __init__(
        self,
        vision: HasModule | nn.Module,
        x: Tensor,
        target: int | Tensor | Sequence[int],
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self.module = vision if isinstance(vision, nn.Module) else vision.module
        self.x = x.detach()
        self.targets = as_targets(target, len(x)).to(x.device)
        self.logits = Logits(self.module, int(self.targets.max()) if len(x) else 0, progress)
        self.plain = self.probabilities(lambda image, _: self.x[image])[:, 0]

    def probabilities(self, make: Callable[[Tensor, Tensor], Tensor], steps: int = 1) -> Tensor:
        """Probability of the class of each image, changed in ``steps`` ways, in batches of bounded size.

        Args:
            make: From numbers of images and of steps, ``(n,)`` each, to changed images ``(n, C, H, W)``.
            steps: Number of changed versions of each image.

        Returns:
            ``(N, steps)`` in [0, 1].
        """
        found = [self.x.new_zeros(0)]
        with seeded(self.x.device, 0), borrowed(self.module), torch.no_grad():
            for rows in torch.arange(len(self.x) * steps, device=self.x.device).split(passes_at_once(self.x)):
                image = rows // steps
                probabilities = self.logits(make(image, rows % steps)).softmax(dim=1)
                found.append(probabilities.gather(1, self.targets[image, None])[:, 0])
        return torch.cat(found).reshape(-1, steps)


@dataclass(frozen=True, slots=True, eq=False)
class PerturbationCurve:
    """How the probability goes while the image is changed step by step.

    Attributes:
        shares: ``(S,)``: which share of the pixels has been changed, from 0 to 1.
        values: ``(N, S)`` probabilities.
    """

    shares: Tensor
    values: Tensor

    @property
    def area(self) -> Tensor:
        """Area under each curve by trapezes, ``(N,)`` in [0, 1]."""
        return torch.trapezoid(self.values.double(), self.shares.double(), dim=1)


def order_of(maps: Tensor, seed: int = 0) -> Tensor:
    """The rank of each pixel, 0 for the strongest; pixels that tie are ordered at random, not row by row.

    Args:
        maps: ``(N, H, W)``.
        seed: Of the order among those that tie; the same for every map.

    Returns:
        ``(N, H, W)`` int64.
    """
    flat = maps.detach().flatten(1)
    shuffle = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed)).to(flat.device)
    order = shuffle[flat[:, shuffle].argsort(dim=1, descending=True, stable=True)]
    ranks = torch.empty_like(order)
    positions = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return ranks.scatter_(1, order, positions).reshape(maps.shape)


def blurred(x: Tensor, spread: float = 0.05) -> Tensor:
    """Images of which only the coarse is left: a Gaussian of ``spread`` times the shorter side."""
    sigma = spread * min(x.shape[2:])
    radius = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = (weights / weights.sum()).expand(x.shape[1], 1, 1, -1)
    padded = F.pad(x, (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, weights, groups=x.shape[1])
    return F.conv2d(rows, weights.mT, groups=x.shape[1])


def curve(probe: ClassProbe, maps: Tensor, *, start: Tensor, end: Tensor, steps: int = STEPS) -> PerturbationCurve:
    """Replace pixels of ``start`` by those of ``end``, the strongest of the map first, and evaluate each step.

    Args:
        probe: Model, images and classes.
        maps: ``(N, H, W)``, at the size of the images.
        start: ``(N, C, H, W)`` before the first step.
        end: ``(N, C, H, W)`` after the last.
        steps: How many steps; each changes the same number of pixels, but for rounding.

    Raises:
        ValueError: the maps are not of the images, or fewer than 1 step.
    """
    check_maps(probe, maps)
    if steps < 1:
        raise ValueError(f"a curve has at least 1 step, got {steps}")
    ranks, pixels = order_of(maps), maps.shape[1:].numel()
    counts = torch.linspace(0, pixels, steps + 1, device=maps.device).round().long()

    def make(image: Tensor, step: Tensor) -> Tensor:
        changed = ranks[image] < counts[step][:, None, None]
        return torch.where(changed[:, None], end[image], start[image])

    return PerturbationCurve(counts.double() / pixels, probe.probabilities(make, steps + 1))


def insertion_curve(probe: ClassProbe, maps: Tensor, *, steps: int = STEPS) -> PerturbationCurve:
    """The image appears in its blurred copy, the map's strongest pixels first."""
    return curve(probe, maps, start=blurred(probe.x), end=probe.x, steps=steps)


def deletion_curve(probe: ClassProbe, maps: Tensor, *, steps: int = STEPS, baseline: float = 0.0) -> PerturbationCurve:
    """The image's pixels take the baseline's value, the map's strongest first."""
    return curve(probe, maps, start=probe.x, end=torch.full_like(probe.x, baseline), steps=steps)


def check_maps(probe: ClassProbe, maps: Tensor) -> None:
    """Raise :class:`ValueError` for maps that are not of the images of ``probe``."""
    if maps.shape != (len(probe.x), *probe.x.shape[2:]):
        raise ValueError(f"maps {tuple(maps.shape)} are not of images {tuple(probe.x.shape)}")
