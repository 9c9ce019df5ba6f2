"""The report of a comparison of maps: a page, figures and a JSON file."""

from attnviz.core.comparison_results import Comparison
from attnviz.report.comparison.figures import draw
from attnviz.report.comparison.page import render
from attnviz.report.core.study_report import StudyReport

__all__ = ["REPORT", "check", "write"]

REPORT: StudyReport[Comparison] = StudyReport("comparison", "comparison", draw, render)
check, write = REPORT.check, REPORT.write
