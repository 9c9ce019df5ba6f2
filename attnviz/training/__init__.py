"""Scenes, training and held-out evaluation of the built-in models."""
