"""A comparison of maps as figures, a page, a file for machines, and a folder of all three."""

from attnviz.report.comparison.write import FORMATS, check, write

__all__ = ["FORMATS", "check", "write"]
