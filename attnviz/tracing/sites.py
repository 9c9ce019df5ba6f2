"""The sites of a model."""

from __future__ import annotations

from collections.abc import Iterable

from attnviz.core.memory_budget import Keep
from attnviz.core.records import Site
from attnviz.tracing.coverage import Unclaimed
from attnviz.tracing.plain_run import Difference


class Sites(list[Site]):
    """The sites of a model, in the order of the forward pass.

    Attributes:
        unclaimed: Operations that look like attention and are no site.
        images: Batch size with which the sites were found; 0 if unknown.
        difference: Difference between the outputs of the plain and the traced run; ``None`` if they were not compared.
    """

    def __init__(self, sites: Iterable[Site] = (), unclaimed: Iterable[Unclaimed] = (), images: int = 0) -> None:
        super().__init__(sites)
        self.unclaimed = tuple(unclaimed)
        self.images = images
        self.difference: Difference | None = None

    def total_bytes(self, keep: Keep, images: int | None = None) -> int:
        """Estimated memory in bytes of the records of one forward call.

        Args:
            keep: What is kept of each map.
            images: Batch size; by default that with which the sites were found.
        """
        total = sum(site.size_bytes.get(keep, 0) for site in self)
        return total * images // self.images if images and self.images else total

    @classmethod
    def of(cls, sites: Iterable[Site]) -> Sites:
        """``sites`` unchanged if they are ``Sites``, else without ``unclaimed``."""
        return sites if isinstance(sites, Sites) else cls(sites)
