"""Projections of records to heatmaps on the image plane.

A new projection is one function from a record to a map at the resolution of the record, registered with
:func:`~attnviz.heatmaps.projection.projection`.
"""

from attnviz.heatmaps import gates, pairwise, pooling, sampling
from attnviz.heatmaps.combined import combined_heatmaps
from attnviz.heatmaps.joint_gates import joint
from attnviz.heatmaps.projection import PROJECTIONS, Projection, project, projection
from attnviz.heatmaps.rollout import rollout
from attnviz.heatmaps.sampling import receptive_field

__all__ = [
    "PROJECTIONS",
    "Projection",
    "combined_heatmaps",
    "gates",
    "joint",
    "pairwise",
    "pooling",
    "project",
    "projection",
    "receptive_field",
    "rollout",
    "sampling",
]
