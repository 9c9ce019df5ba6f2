r"""Edits: what :func:`attnviz.intervene` puts in the place of ``g``.

An edit is any function of ``g`` that gives a tensor of its shape, dtype and device: ``lambda g: 1 - g``. It must not
change ``g`` itself. An edit that has to know where it is has a method ``at``, which gives that function
(:class:`PlacedEdit`)::

    class FirstCallOnly:
        def at(self, moment):
            return attnviz.edits.zero if moment.call == 0 else lambda g: g

Entries *compete* where the weights of one sum are shared out among them: the keys of a query, the branches of a
channel, the frames or positions of one pooled value. The entries of a gate compete with all others of their image.
"""

from attnviz.edits.context import Edit, GEdit, Moment, PlacedEdit
from attnviz.edits.masking import drop_top, keep_random, keep_top, scale, zero
from attnviz.edits.registry import EDITS, NamedEdit, register_edit
from attnviz.edits.replacement import Mean, Swap, mean, mean_over, swap
from attnviz.edits.reweighting import Identity, Shuffle, Uniform, identity, shuffle, uniform

__all__ = [
    "EDITS",
    "Edit",
    "GEdit",
    "Identity",
    "Mean",
    "Moment",
    "NamedEdit",
    "PlacedEdit",
    "Shuffle",
    "Swap",
    "Uniform",
    "drop_top",
    "identity",
    "keep_random",
    "keep_top",
    "mean",
    "mean_over",
    "register_edit",
    "scale",
    "shuffle",
    "swap",
    "uniform",
    "zero",
]
