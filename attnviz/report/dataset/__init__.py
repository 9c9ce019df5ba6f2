"""The page of a run over many images: overview, gallery, and a view of each image with its maps."""

from attnviz.report.dataset.write import write

__all__ = ["write"]
