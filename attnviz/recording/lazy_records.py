"""Records that keep less than the whole map."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import torch
from torch import Tensor

from attnviz._compat import is_functorch_wrapped
from attnviz.core.attention_scores import Index, Scores
from attnviz.core.records import Record, Site
from attnviz.core.uses import Operand
from attnviz.errors import CaptureError


class RowsRecord(Record):
    """A record that keeps queries and keys, and computes parts of its map on demand, exactly.

    Each access to ``g`` computes it again: a record of 4,097 tokens and 12 heads takes 25 MiB, its ``g`` 768 MiB.

    Attributes:
        scores: The queries and keys.
    """

    __slots__ = ("_log_sum_exp", "scores")
    scores: Scores
    _log_sum_exp: Tensor | None

    def __init__(self, site: Site, call: int, scores: Scores, x: Operand, y: Tensor, images: int | None = None) -> None:
        _set(self, site=site, call=call, scores=scores, x=x, y=y, images=images, _log_sum_exp=None)

    @property
    def g(self) -> Tensor:
        """The whole map ``(N, heads, Q, K)``, computed at each access."""
        return self.scores.rows()

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, heads, Q, K)``, without computing the map."""
        return self.scores.shape

    def rows(self, queries: Index) -> Tensor:
        """``g[:, :, queries]``, ``(N, heads, R, K)``: the same numbers as in the whole map."""
        return self.scores.rows(queries)

    def columns(self, keys: Index) -> Tensor:
        """``g[..., keys]``, ``(N, heads, Q, R)``.

        The log-sum-exp of every row takes one pass over all scores; it is computed for the first columns and cached.
        """
        log_sum_exp = self._log_sum_exp
        if log_sum_exp is None:
            log_sum_exp = self.scores.log_sum_exp()
            _set(self, _log_sum_exp=log_sum_exp)
        return self.scores.columns(keys, log_sum_exp)

    def __reduce__(self) -> tuple[Any, ...]:
        return RowsRecord, (self.site, self.call, self.scores, self.x, self.y, self.images)


class SummaryRecord(Record):
    """A record of statistics only, without the map, ``x`` and ``y``.

    Attributes:
        shape: ``(N, heads, Q, K)`` of the map.
        summary: The statistics, by name: ``(N, heads, Q)`` for those of queries, ``(N, heads, K)`` for those of keys.
    """

    __slots__ = ("_shape", "summary")
    summary: Mapping[str, Tensor]
    _shape: tuple[int, ...]

    def __init__(
        self, site: Site, call: int, shape: tuple[int, ...], summary: Mapping[str, Tensor], images: int | None = None
    ) -> None:
        _set(self, site=site, call=call, _shape=shape, summary=MappingProxyType(dict(summary)), images=images)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the canonical map."""
        return self._shape

    @property
    def g(self) -> Tensor:
        """Not kept."""
        self._missing("g")

    @property
    def x(self) -> Operand:
        """Not kept."""
        self._missing("x")

    @property
    def y(self) -> Tensor:
        """Not kept."""
        self._missing("y")

    def _missing(self, name: str) -> NoReturn:
        kept = ", ".join(self.summary) or "nothing"
        raise CaptureError(f"{self.name}: {name} was not kept, only {kept}; capture with keep='rows' or keep='full'")

    def __reduce__(self) -> tuple[Any, ...]:
        return SummaryRecord, (self.site, self.call, self.shape, dict(self.summary), self.images)


def compact(x: Operand) -> Operand:
    """``x``, or a copy if it is a view of much larger memory, such as one of queries, keys and values."""
    if not isinstance(x, Tensor) or x.requires_grad or x.layout != torch.strided:
        return x
    if is_functorch_wrapped(x):
        return x
    return x.clone() if x.untyped_storage().nbytes() > 2 * x.nbytes else x


def _set(record: Record, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(record, name, value)
