"""Figures and pages from an explanation; knows nothing of how it came about."""
