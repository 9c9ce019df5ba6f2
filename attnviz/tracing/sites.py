"""The sites that a search found."""

from __future__ import annotations

from collections.abc import Iterable

from attnviz.core.memory_budget import Keep
from attnviz.core.records import Site
from attnviz.tracing.coverage import Unclaimed


class Sites(list[Site]):
    """The sites of a model, in the order of the forward pass.

    Attributes:
        unclaimed: The witness's list: operations that look like attention and are no site.
        images: How many images the batch held with which they were found; 0 where that is not known.
    """

    def __init__(self, sites: Iterable[Site] = (), unclaimed: Iterable[Unclaimed] = (), images: int = 0) -> None:
        super().__init__(sites)
        self.unclaimed = tuple(unclaimed)
        self.images = images

    def total_bytes(self, keep: Keep, images: int | None = None) -> int:
        """About how much memory the records of one forward call keep alive: known before it runs.

        Args:
            keep: What is kept of each.
            images: Of the batch; as many as the sites were found with by default.
        """
        total = sum(site.size_bytes.get(keep, 0) for site in self)
        return total * images // self.images if images and self.images else total

    @classmethod
    def of(cls, sites: Iterable[Site]) -> Sites:
        """``sites`` with the witness's list, where they have one."""
        return sites if isinstance(sites, Sites) else cls(sites)
