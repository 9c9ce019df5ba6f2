r"""Edits: replacements of ``g`` for :func:`attnviz.intervene`.

An edit is any function of ``g`` that returns a tensor of the same shape, dtype and device: ``lambda g: 1 - g``. It must
not change ``g`` in place. An edit that depends on the site or the call has a method ``at``, which returns that function
(:class:`PlacedEdit`)::

    class FirstCallOnly:
        def at(self, moment):
            return attnviz.edits.zero if moment.call == 0 else lambda g: g

Entries *compete* if they are the weights of one sum: the keys of a query, the branches of a
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
