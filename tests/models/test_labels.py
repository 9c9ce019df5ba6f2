"""Classes by name and by index."""

import pytest

from attnviz.errors import TargetError, UnknownNameError
from attnviz.models.class_names import imagenet_labels
from attnviz.targets.labels import class_index


def test_the_thousand_imagenet_names_are_unique_regardless_of_case():
    assert len({label.lower() for label in imagenet_labels()}) == 1000


@pytest.mark.parametrize(
    ("index", "name"),
    [
        (0, "tench"),
        (134, "crane (bird)"),
        (517, "crane (machine)"),
        (657, "missile"),
        (744, "projectile"),
        (999, "toilet tissue"),
    ],
)
def test_names_have_the_index_of_their_class(index, name):
    assert imagenet_labels()[index] == name


def test_the_names_are_short_forms_of_timms():
    info = pytest.importorskip("timm.data").ImageNetInfo()
    for index, label in enumerate(imagenet_labels()):
        assert label.partition(" (")[0] in info.index_to_description(index)


@pytest.mark.parametrize("target", [281, "281", "tabby cat", "Tabby-Cat", "tabby_cat "])
def test_a_class_is_found_by_index_and_by_name(target):
    assert class_index(imagenet_labels(), target) == 281


def test_a_misspelt_name_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match=r"unknown class 'esspreso': did you mean espresso"):
        class_index(imagenet_labels(), "esspreso")


@pytest.mark.parametrize("target", [1000, "1000", -1, "-1"])
def test_an_index_outside_the_classes_is_refused(target):
    with pytest.raises(TargetError, match=r"class -?\d+: the model has 1000 classes, 0 to 999"):
        class_index(imagenet_labels(), target)


def test_the_error_lists_the_classes_whose_name_contains_the_word():
    with pytest.raises(UnknownNameError, match=r"unknown class 'cat': known are Egyptian cat, .*tiger cat"):
        class_index(imagenet_labels(), "cat")


@pytest.mark.parametrize("target", ["--5", "5-", "-"])
def test_text_with_hyphens_that_is_no_integer_is_an_unknown_name(target):
    with pytest.raises(UnknownNameError, match="unknown class"):
        class_index(imagenet_labels(), target)


@pytest.mark.parametrize("target", [3.5, True, [3], None])
def test_other_types_than_index_and_name_are_refused(target):
    with pytest.raises(TargetError, match="wanted an index or a name, got a"):
        class_index(imagenet_labels(), target)
