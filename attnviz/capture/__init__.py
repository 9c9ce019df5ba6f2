"""Find and capture ``g(x)`` by operation, in any PyTorch vision model.

A new kind of attention joins by one file: a :class:`~attnviz.records.Use` that reads ``g`` and ``x`` from an operation
and applies them, and a recogniser registered in :data:`RECOGNISERS`. Nothing else here changes.
"""

from attnviz.capture import aggregation as aggregation
from attnviz.capture.adapters import ADAPTERS, adapter
from attnviz.capture.alike import same_tokens
from attnviz.capture.find import Sites, find_attention
from attnviz.capture.gates import Gate
from attnviz.capture.kept import RowsRecord, SummaryRecord
from attnviz.capture.linear import LinearAttention
from attnviz.capture.listen import Captured, capture
from attnviz.capture.pairwise import Einsum, FusedAttention, MatrixProduct
from attnviz.capture.recognise import RECOGNISERS, Finding
from attnviz.capture.sampling import DeformableSampling, GridSampling, MultiScaleSampling
from attnviz.capture.statistics import STATISTICS, Statistic
from attnviz.capture.weighted import WeightedSum
from attnviz.capture.witness import Unclaimed

__all__ = [
    "ADAPTERS",
    "RECOGNISERS",
    "STATISTICS",
    "Captured",
    "DeformableSampling",
    "Einsum",
    "Finding",
    "FusedAttention",
    "Gate",
    "GridSampling",
    "LinearAttention",
    "MatrixProduct",
    "MultiScaleSampling",
    "RowsRecord",
    "Sites",
    "Statistic",
    "SummaryRecord",
    "Unclaimed",
    "WeightedSum",
    "adapter",
    "capture",
    "find_attention",
    "same_tokens",
]
