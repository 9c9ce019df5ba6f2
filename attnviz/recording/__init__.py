"""Capture ``g(x)`` while a model runs: records of every attention site."""

from attnviz.recording.capture import Captured, capture
from attnviz.recording.lazy_records import RowsRecord, SummaryRecord
from attnviz.recording.row_statistics import STATISTICS, Statistic
from attnviz.recording.shared_tokens import same_tokens

__all__ = ["STATISTICS", "Captured", "RowsRecord", "Statistic", "SummaryRecord", "capture", "same_tokens"]
