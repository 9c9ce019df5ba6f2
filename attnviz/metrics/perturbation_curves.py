"""Ask a model about changed images: in batches, without gradients, and at each step of a curve."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnviz.attribution.registry import passes_at_once
from attnviz.attribution.targets import HasModule, Logits, Part, Subject, Targets, parts_of_batch, with_found_task
from attnviz.core.model_inputs import Inputs, split_inputs
from attnviz.core.model_outputs import OutputPath
from attnviz.core.model_state import borrowed, seeded

STEPS = 28


class TargetProbe:
    """A model, images and their targets, to measure changed images.

    Args:
        vision: A model, or an object with one as ``.module``; it is left as it was found.
        x: Images ``(N, C, H, W)``, preprocessed; or all inputs of the model, as for :func:`attnviz.attribute`.
        target: What is measured: a class for all images or one for each, or any other target.
        output: Part of the output that is explained.
        progress: Progress callback: number of images in each forward pass.

    Attributes:
        x: The images.
        plain: ``(N,)``: what is measured of the images as they are; the probability of a class, or the score of another
            target.
    """

    def __init__(
        self,
        vision: HasModule | nn.Module,
        x: Inputs,
        target: Targets,
        progress: Callable[[int], object] | None = None,
        *,
        output: OutputPath = None,
    ) -> None:
        images, inputs = split_inputs(x, None, ValueError)
        self.x: Tensor = images.detach()
        self._parts: list[tuple[Part, Logits]] = []

        def measure(subject: Subject) -> Tensor:
            with seeded(self.x.device, 0), borrowed(subject.module):
                parts = parts_of_batch(subject, self.x, target, inputs)
            self._parts = [(p, Logits(subject, p.objective, inputs=p.inputs, tick=progress)) for p in parts]
            return self.measured(lambda image, _: self.x[image])[:, 0]

        self.plain = with_found_task(Subject.of(vision, output), measure)

    def measured(self, make: Callable[[Tensor, Tensor], Tensor], steps: int = 1) -> Tensor:
        """What is measured of each image, changed in ``steps`` ways, in batches of bounded size.

        Args:
            make: From numbers of images and of steps, ``(n,)`` each, to changed images ``(n, C, H, W)``.
            steps: Number of changed versions of each image.

        Returns:
            ``(N, steps)``; in [0, 1] for probabilities.
        """
        found = [self.x.new_zeros(0)]
        for part, logits in self._parts:
            columns = part.objective.columns.to(self.x.device)
            with seeded(self.x.device, 0), borrowed(logits.module), torch.no_grad():
                for rows in torch.arange(len(columns) * steps, device=self.x.device).split(passes_at_once(self.x)):
                    image = rows // steps
                    values = logits.measured(make(image + part.rows.start, rows % steps))
                    found.append(values.gather(1, columns[image, None])[:, 0])
        return torch.cat(found).reshape(-1, steps)

    def scores(self) -> Iterator[tuple[slice, Logits, int]]:
        """Each image as a slice of the batch, the function of images that gives its scores, and the column of these."""
        for part, logits in self._parts:
            for number, column in enumerate(part.objective.columns.tolist(), part.rows.start):
                yield slice(number, number + 1), logits, column


@dataclass(frozen=True, slots=True, eq=False)
class PerturbationCurve:
    """How a measured number, such as a probability, goes while the image is changed step by step.

    Attributes:
        shares: ``(S,)``: which share of the pixels has been changed, from 0 to 1.
        values: ``(N, S)``.
    """

    shares: Tensor
    values: Tensor

    @property
    def area(self) -> Tensor:
        """Area under each curve by trapezes, ``(N,)``; of probabilities in [0, 1]."""
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


def curve(probe: TargetProbe, maps: Tensor, *, start: Tensor, end: Tensor, steps: int = STEPS) -> PerturbationCurve:
    """Replace pixels of ``start`` by those of ``end``, the strongest of the map first, and evaluate each step.

    Args:
        probe: Model, images and targets.
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

    return PerturbationCurve(counts.double() / pixels, probe.measured(make, steps + 1))


def insertion_curve(probe: TargetProbe, maps: Tensor, *, steps: int = STEPS) -> PerturbationCurve:
    """The image appears in its blurred copy, the map's strongest pixels first."""
    return curve(probe, maps, start=blurred(probe.x), end=probe.x, steps=steps)


def deletion_curve(probe: TargetProbe, maps: Tensor, *, steps: int = STEPS, baseline: float = 0.0) -> PerturbationCurve:
    """The image's pixels take the baseline's value, the map's strongest first."""
    return curve(probe, maps, start=probe.x, end=torch.full_like(probe.x, baseline), steps=steps)


def check_maps(probe: TargetProbe, maps: Tensor) -> None:
    """Raise :class:`ValueError` for maps that are not of the images of ``probe``."""
    if maps.shape != (len(probe.x), *probe.x.shape[2:]):
        raise ValueError(f"maps {tuple(maps.shape)} are not of images {tuple(probe.x.shape)}")
