"""Which images of a run are unusual: one rule for its summary and for its page."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

AGREEMENT = "spearman"
"""Measure of agreement: the maps of an image disagree if its mean over all pairs is low."""


@dataclass(frozen=True, slots=True)
class Outlier:
    """An image with an unusual result.

    Attributes:
        strength: Degree: the probability of a wrong prediction, or minus the mean :data:`AGREEMENT` of its maps.
        item: Number of the image.
        image: Path of the image.
        model: Name of the model.
        what: Description of the unusual value.
    """

    strength: float
    item: int
    image: str
    model: str
    what: str = ""


def strongest(outliers: Iterable[Outlier], most: int) -> list[Outlier]:
    """Return the most unusual images, strongest first, each once: with the model of its strongest result.

    Args:
        outliers: In any order, but those of one image follow each other.
        most: Largest number of images.

    >>> outliers = [Outlier(0.1, 0, "a", "m"), Outlier(0.7, 0, "a", "n"), Outlier(0.9, 1, "b", "m")]
    >>> [(one.image, one.model) for one in strongest(outliers, 2)]
    [('b', 'm'), ('a', 'n')]
    """
    of_images = (max(of, key=attrgetter("strength")) for _, of in groupby(outliers, key=attrgetter("item")))
    return heapq.nlargest(most, of_images, key=attrgetter("strength"))
