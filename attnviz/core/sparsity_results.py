"""Results of a sparsity study, as plain data.

Numbers that were not measured are NaN or ``None``; in JSON both are ``null``.
"""

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
    """Redundancy of the heads of one site.

    Attributes:
        count: Number of heads.
        distinct: Number of clusters of heads whose maps have a mean cosine of at least 0.9.
        cosine: Mean cosine over pairs of heads.
        jensen_shannon: Mean Jensen-Shannon divergence over pairs of heads, in bits.
        cka: Mean CKA over pairs of heads.
        sinks: Number of heads with a key that receives more than 0.3 of the mean query's attention.
        strongest_key: Attention received by the most attended key, averaged over heads.
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
    """The results of one site over all images.

    Attributes:
        name: The site's name.
        kind: What ``g`` weighs.
        measures: Mean and interval by measure: ``"g.gini"``, ``"before.gini"`` …
        quantiles: Quantiles of the sampled entries of ``g``: ``"0.05"`` -> value.
        strengths: Histogram of entries relative to the strongest competing entry, in even bins from 0 to 1.
        lorenz: Share of the strength held by the weakest entries, at even shares of the entries from 0 to 1.
        input_share: Share of the variance of ``g`` that the input explains.
        lifetime: Mean lifetime sparsity of the entries; NaN for a signed ``g``.
        entries: Number of entries of ``g`` per image; of a pairwise map, those that were tracked.
        dead: Number of entries that are closed for every image; ``None`` if not counted.
        saturated: Number of entries that are open for every image; ``None`` if no sigmoid bounds ``g``.
        channels: Number of channels of the gate; ``None`` if it weighs no channels.
        never_used: Number of channels that are zero for every image.
        heads: Redundancy of the heads; ``None`` without heads.
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
    """A mean over images, with its interval, at each kept share."""

    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CausalFinding:
    """The effect on the prediction if ``g`` is pruned or replaced.

    Attributes:
        scope: A site's name, or ``"all sites"``.
        shares: Shares of ``g`` that are kept.
        curves: Curves by order and measure: ``"strongest.probability"``, ``"random.kl"`` …
        areas: Area under the curve of the probability, by order.
        needed: Smallest share that keeps 95 % of the prediction, strongest first; ``None`` for sampling points.
        looks: Share that holds 95 % of the strength.
        gap: ``looks - needed``.
        replaced: Mean and interval by replacement and measure: ``"uniform.probability"``, ``"other.top1"`` …
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
    """Similarities of all pairs of the named objects."""

    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class ModelFinding:
    """The results of one model.

    Attributes:
        model: Name of the model.
        images: Number of images.
        sites: Results by site, in the order of the forward pass.
        activations: Measures before and after each nonlinearity: ``"relu6 03"`` …
        causal: Results by scope; empty without interventions.
        heads: Mean cosines of the maps of all heads of one shape; one matrix per shape.
        agreement: Rank correlations of all pairs of sites with a map of positions.
        received: By site, the attention that each key receives from the mean query, over all heads, relative to an even
            share.
        outliers: By block, the share of tokens with more than 4 times the median norm after it.
        notes: Limits and caveats for the reader.
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
    """The results of one or several models on the same images.

    Attributes:
        subject: Description or path of the images.
        models: Results by model, in the order of the request.
        settings: Settings of the study.
        notes: Limits and caveats for the reader.
    """

    subject: str
    models: tuple[ModelFinding, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The study as JSON-compatible data, with numbers rounded to 6 digits."""
        return {"schema": SCHEMA, "version": VERSION, **to_plain(self, digits=6)}
