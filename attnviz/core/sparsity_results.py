"""What a study of sparsity found, as plain data: reports are made of it, whoever made it.

Numbers that were not measured are NaN or ``None``; in JSON both are ``null``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attnviz.core.intervals import Interval
from attnviz.core.json_encoding import to_plain

SCHEMA = "attnviz.sparsity"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Heads:
    """How the heads of one site repeat each other.

    Attributes:
        count: How many there are.
        distinct: Clusters of heads whose maps have a mean cosine of at least 0.9.
        cosine: Mean over pairs of heads.
        jensen_shannon: Mean over pairs of heads, in bits.
        cka: Mean over pairs of heads.
        sinks: How many heads have a key that takes more than 0.3 of the mean query's attention.
        strongest_key: What the most attended key takes, averaged over heads.
    """

    count: int
    distinct: int
    cosine: float
    jensen_shannon: float
    cka: float
    sinks: int
    strongest_key: float


@dataclass(frozen=True, slots=True)
class SiteFinding:
    """What one site shows over all images.

    Attributes:
        name: The site's name.
        kind: What ``g`` weighs.
        measures: ``"g.gini"``, ``"before.gini"`` … -> estimate.
        quantiles: Of the entries of ``g``, as sampled: ``"0.05"`` -> value.
        strengths: Histogram of entries relative to the strongest that they compete with, even bins from 0 to 1.
        lorenz: Share of the strength held by the weakest entries, at even shares of the entries from 0 to 1.
        input_share: Share of the variance of ``g`` that the input explains.
        lifetime: Mean over entries of their lifetime sparsity; NaN for a signed ``g``.
        entries: How many entries ``g`` has for one image; those that were followed, of a pairwise map.
        dead: How many let nothing through for any image; ``None`` where not counted.
        saturated: How many stand open for every image; ``None`` for a ``g`` that no sigmoid bounds.
        channels: How many channels the gate has; ``None`` where it weighs none.
        never_used: How many of them carry nothing for any image.
        heads: Of a map with heads.
    """

    name: str
    kind: str
    measures: Mapping[str, Interval]
    quantiles: Mapping[str, float]
    strengths: tuple[int, ...]
    lorenz: tuple[float, ...]
    input_share: float = math.nan
    lifetime: float = math.nan
    entries: int | None = None
    dead: int | None = None
    saturated: int | None = None
    channels: int | None = None
    never_used: int | None = None
    heads: Heads | None = None


@dataclass(frozen=True, slots=True)
class CurveInterval:
    """A mean over images, with its interval, at each share that is kept."""

    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CausalFinding:
    """What becomes of the answer when ``g`` is pruned or replaced.

    Attributes:
        scope: A site's name, or ``"all sites"``.
        shares: What is kept.
        curves: ``"strongest.probability"``, ``"random.kl"`` … -> curve.
        areas: Order -> area under the curve of the probability.
        needed: Smallest share that keeps 95 % of the prediction, strongest first; ``None`` of places.
        looks: Share that holds 95 % of the strength.
        gap: ``looks - needed``.
        replaced: ``"uniform.probability"``, ``"mean.kl"``, ``"other.top1"`` … -> estimate.
    """

    scope: str
    shares: tuple[float, ...]
    curves: Mapping[str, CurveInterval]
    areas: Mapping[str, Interval]
    needed: Interval | None
    looks: Interval | None
    gap: Interval | None
    replaced: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Similarity of everything with everything."""

    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class ModelFinding:
    """What one model shows.

    Attributes:
        model: Its name.
        images: How many images were seen.
        sites: In the order of the forward pass.
        activations: ``"relu6 03"`` … -> measures before and after each nonlinearity.
        causal: Scope by scope; empty where no intervention was asked for.
        heads: Mean cosine of the maps of all heads that have one shape; one matrix per shape.
        agreement: Rank correlation of every two sites that attend to places.
        received: Site -> what each key takes of the mean query, over all heads, relative to an even share.
        outliers: Block -> share of tokens with more than 4 times the median norm after it.
        notes: What the reader must know.
    """

    model: str
    images: int
    sites: tuple[SiteFinding, ...]
    activations: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    causal: tuple[CausalFinding, ...] = ()
    heads: tuple[Matrix, ...] = ()
    agreement: Matrix | None = None
    received: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    outliers: Mapping[str, Interval] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SparsityStudy:
    """One or several models on the same images.

    Attributes:
        subject: The images, in words or as they were given.
        models: In the order asked for.
        settings: How it was made.
        notes: What the reader must know.
    """

    subject: str
    models: tuple[ModelFinding, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The study as what ``json`` can write, numbers rounded to 6 digits."""
        return {"schema": SCHEMA, "version": VERSION, **to_plain(self, digits=6)}
