"""Layers of self-attention over the same tokens, whose maps can be multiplied."""

from __future__ import annotations

from collections.abc import Sequence

from attnviz.core.records import Kind, Record
from attnviz.core.token_layout import Tokens
from attnviz.errors import CaptureError


def same_tokens(records: Sequence[Record]) -> Tokens:
    """The tokens that all layers share.

    Raises:
        CaptureError: there are no layers, a layer is no self-attention over all tokens of an image (windows, reduced
            keys, another kind), or the layers have different tokens.
    """
    if not records:
        raise CaptureError("rollout: there are no layers of attention")
    for record in records:
        layout = record.layout
        if record.site.kind is not Kind.PAIRWISE or layout is None or layout.keys is None or layout.windows != 1:
            raise CaptureError(f"{record.site.name}: rollout needs self-attention over all tokens of an image")
        if record.shape[-2] != record.shape[-1] or record.shape[-1] != records[0].shape[-1]:
            raise CaptureError(
                f"{record.site.name}: rollout needs layers of the same tokens, got {record.shape} after "
                f"{records[0].shape}"
            )
    keys: Tokens = records[0].layout.keys  # type: ignore[union-attr,assignment]  # checked above
    return keys
