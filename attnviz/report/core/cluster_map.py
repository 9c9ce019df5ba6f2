"""A clustered heat map of similarities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import seaborn as sns

    from attnviz.core.arrays import Array


def cluster_map(similarity: Array, **options: Any) -> sns.matrix.ClusterGrid:
    """Draw a similarity matrix with rows and columns ordered by average linkage.

    Args:
        similarity: ``(n, n)`` at most 1. NaN counts as 0; the diagonal is ignored in the clustering.
        options: Arguments of :func:`seaborn.clustermap`.

    Returns:
        The grid of axes. Its figure is closed in pyplot, which keeps no reference to it.
    """
    import seaborn as sns
    from matplotlib import pyplot as plt
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    known = np.nan_to_num(similarity, nan=0.0)
    distance = np.clip(1 - (known + known.T) / 2, 0, None)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average")
    grid = sns.clustermap(known, row_linkage=tree, col_linkage=tree, **options)
    plt.close(grid.figure)
    return grid
