"""One file per kind of operation that applies a ``g``."""
