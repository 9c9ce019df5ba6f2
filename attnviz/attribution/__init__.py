"""Heatmaps that explain a target class, through Captum's ``Attribution`` interface."""
