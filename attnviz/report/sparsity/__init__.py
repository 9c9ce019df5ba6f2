"""The report of a sparsity study: a page, figures and a JSON file."""

from attnviz.core.sparsity_results import SparsityStudy
from attnviz.report.core.study_report import StudyReport
from attnviz.report.sparsity.figures import draw
from attnviz.report.sparsity.page import render

__all__ = ["REPORT", "check", "write"]

REPORT: StudyReport[SparsityStudy] = StudyReport("study", "sparsity", draw, render)
check, write = REPORT.check, REPORT.write
