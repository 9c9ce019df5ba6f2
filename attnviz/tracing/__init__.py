"""Find ``g(x)`` by its operations in any PyTorch vision model.

A recogniser for another operation is one file in :mod:`attnviz.tracing.detectors`.
"""

from attnviz.tracing import detectors as detectors
from attnviz.tracing.coverage import Unclaimed
from attnviz.tracing.detectors.gate import Gate
from attnviz.tracing.detectors.linear_attention import LinearAttention
from attnviz.tracing.detectors.pairwise import Einsum, FusedAttention, MatrixProduct
from attnviz.tracing.detectors.registry import RECOGNISERS, Finding
from attnviz.tracing.detectors.sampling import DeformableSampling, GridSampling, MultiScaleSampling
from attnviz.tracing.detectors.weighted_sum import WeightedSum
from attnviz.tracing.find import find_attention
from attnviz.tracing.sites import Sites

__all__ = [
    "RECOGNISERS",
    "DeformableSampling",
    "Einsum",
    "Finding",
    "FusedAttention",
    "Gate",
    "GridSampling",
    "LinearAttention",
    "MatrixProduct",
    "MultiScaleSampling",
    "Sites",
    "Unclaimed",
    "WeightedSum",
    "find_attention",
]
