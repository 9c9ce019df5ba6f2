"""Colour scales and overlays."""

import cv2
import numpy as np
import pytest

from attnviz.report.components.outline import Outline
from attnviz.report.core.colours import coloured, levels, lookup, overlay, resized
from attnviz.report.core.component import Backdrop
from attnviz.report.core.map_view import MapView, colour_range
from attnviz.report.core.viewer_data import scale_of


def view(values, kind="attention"):
    values = np.asarray(values, np.float32)
    return MapView("m", kind, "gate", "m", values, *colour_range(values, kind=kind))


def test_attention_spans_its_values_and_an_attribution_is_clipped():
    values = np.concatenate([np.linspace(0, 1, 999), [1000.0]])[None]
    assert colour_range(values, kind="attention") == (0, 1000, False, False)
    low, high, signed, clipped = colour_range(values, kind="attribution")
    assert (low, signed, clipped) == (0, False, True)
    assert 0.98 < high < 1.01


def test_rounding_errors_below_0_do_not_make_a_map_signed():
    assert colour_range(np.array([[-1e-9, 1.0]]), kind="attribution")[2] is False
    assert colour_range(np.array([[-0.1, 1.0]]), kind="attribution")[2] is True


@pytest.mark.parametrize("values", [np.full((2, 2), np.nan), np.zeros((2, 2)), np.full((2, 2), 0.7), -np.ones((2, 2))])
@pytest.mark.parametrize("kind", ["attention", "attribution"])
def test_constant_and_undefined_maps_have_colours(values, kind):
    assert levels(view(values, kind)).shape == (2, 2)
    assert coloured(view(values, kind), (8, 8)).shape == (8, 8, 3)


def test_the_ends_of_the_scale_are_the_first_and_last_step():
    assert levels(view([[0.25, 0.5], [0.75, 0.5]])).tolist() == [[0, 128], [255, 128]]
    assert levels(view([[-1.0, 2.0]])).tolist() == [[64, 255]]


@pytest.mark.parametrize("kind", ["attention", "attribution"])
def test_lightness_rises_evenly_along_a_scale(kind):
    lab = cv2.cvtColor(lookup(view([[0.0, 1.0]], kind))[None], cv2.COLOR_RGB2LAB)[0].astype(float)
    steps = np.diff(lab[::16, 0])
    assert steps.min() > 0
    assert steps.max() / steps.min() < 4


def test_an_overlay_blends_picture_and_colours():
    picture = np.full((4, 4, 3), 100, np.uint8)
    one = view([[0.0, 1.0], [0.0, 1.0]])
    assert np.array_equal(overlay(picture, one, 0.0), picture)
    assert np.array_equal(overlay(picture, one, 1.0), coloured(one, (4, 4)))
    half = overlay(picture, one, 0.5).astype(int)
    assert np.abs(half - (coloured(one, (4, 4)).astype(int) + 100) / 2).max() <= 1


def test_an_overlay_of_a_signed_map_is_grey_where_the_map_is_0():
    picture = np.full((3, 3, 3), (90, 100, 110), np.uint8)
    blended = overlay(picture, view([[-1.0, 0.0, 1.0]] * 3), 0.6).astype(int)
    assert np.ptp(blended[0, 1]) < 12
    assert blended[0, 0, 2] > blended[0, 0, 0] + 50  # negative is blue
    assert blended[0, 2, 0] > blended[0, 2, 2] + 50  # positive is red


def test_a_scale_has_the_values_and_labels_of_its_ends():
    scale = scale_of(view([[-1.0, 2.0]]))
    assert (scale["from"], scale["to"], scale["signed"], scale["clipped"]) == (-2.0, 2.0, True, False)
    assert scale["palette"] == "vlag"
    assert (scale["low"], scale["middle"], scale["high"]) == ("−2", "0", "2")


@pytest.mark.parametrize("shape", [(64, 160), (160, 64), (100, 100)])
def test_a_smaller_picture_keeps_the_proportions(shape):
    height, width = resized(np.zeros((*shape, 3), np.uint8), 80).shape[:2]
    assert (height, width) == (80 * shape[0] // max(shape), 80 * shape[1] // max(shape))


def test_an_outline_is_drawn_on_the_right_place_of_a_wide_picture():
    picture = np.full((100, 200, 3), 255, np.uint8)
    edge = np.array([[0.5, 0.5], [1.0, 0.5], [1.0, 1.0], [0.5, 1.0]])
    drawn = Outline("", "", edge, np.zeros((0, 2, 2))).static_images(Backdrop(picture))[0].pixels
    assert drawn.shape == (224, 448, 3)
    ys, xs = np.nonzero(np.abs(drawn.astype(int) - drawn[0, 0]).max(2))
    assert (ys.min(), xs.min()) == pytest.approx((112, 224), abs=4)
