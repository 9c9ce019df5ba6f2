"""Kinds of attention: built in, and defined by others."""

import copy
import pickle

import pytest

from attnviz.core.kinds import Kind


def test_there_is_one_object_per_kind_also_after_copying_and_pickling() -> None:
    for kind in Kind:
        assert copy.deepcopy(kind) is kind
        assert pickle.loads(pickle.dumps(kind)) is kind
        assert Kind.named(kind.value) is kind
        assert repr(kind) == f"Kind.{kind.value.upper()}"


def test_the_built_in_kinds_have_the_axes_of_the_literature() -> None:
    ranks = {kind.value: kind.ranks for kind in list(Kind)[:8]}
    assert ranks == {
        "channel": {2}, "spatial": {2, 3, 4}, "dense": {3, 4, 5}, "branch": {3}, "temporal": {2, 4}, "pairwise": {4},
        "pooling": {3}, "sampling": {5},
    }  # fmt: skip


def test_a_kind_cannot_be_changed_made_or_defined_twice() -> None:
    with pytest.raises(AttributeError, match="a kind is immutable: value"):
        Kind.CHANNEL.value = "other"
    with pytest.raises(TypeError, match=r"Kind\.define"):
        Kind()
    with pytest.raises(ValueError, match="'pairwise' is defined already"):
        Kind.define("pairwise", ("N",))
    with pytest.raises(ValueError, match="wanted the axes of g"):
        Kind.define("axisless")
    with pytest.raises(ValueError, match="unknown kind of attention 'chanel'"):
        Kind.named("chanel")
