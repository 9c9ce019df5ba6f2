"""Masks and boxes of maps: numbers worked by hand."""

import math

import numpy as np
import pytest
import torch

from attnviz.core.records import Heatmap
from attnviz.metrics.localisation import box_iou, mask_iou


def heatmap(*rows: list[float]) -> Heatmap:
    return Heatmap(torch.tensor([rows], dtype=torch.float32), "gradcam", "layer4", "attribution")


# The maximum is 8; two peaks are joined at a corner, one is apart.
MAP = heatmap([8.0, 0.0, 0.0, 0.0, 5.0], [0.0, 4.0, 1.0, 0.0, 6.0], [0.0, 0.0, 0.0, -8.0, 0.0])


def places(mask: torch.Tensor) -> list[tuple[int, ...]]:
    return [tuple(place) for place in mask[0].nonzero().tolist()]


@pytest.mark.parametrize(
    ("threshold", "of", "wanted"),
    [
        (0.5, "maximum", [(0, 0), (0, 4), (1, 1), (1, 4)]),
        (0.51, "maximum", [(0, 0), (0, 4), (1, 4)]),
        (1.0, "maximum", [(0, 0)]),
        # 15 values, negative ones as 0: the ten smallest are 0, and 14 · 0.75 = 10.5 lies between 1 and 4.
        (0.75, "quantile", [(0, 0), (0, 4), (1, 1), (1, 4)]),
        (0.0, "quantile", [(0, 0), (0, 4), (1, 1), (1, 2), (1, 4)]),
        (0.99, "quantile", [(0, 0)]),
        ("otsu", "maximum", [(0, 0), (0, 4), (1, 1), (1, 4)]),
    ],
)
def test_a_mask_holds_the_large_positive_values(threshold, of, wanted) -> None:
    assert places(MAP.mask(threshold, of)) == wanted


def test_otsus_threshold_has_the_least_variance_within_both_groups() -> None:
    levels = torch.randint(0, 256, (1, 12, 12), generator=torch.Generator().manual_seed(0)).double() ** 2 / 255
    levels = levels.round()
    levels[0, 0, 0] = 255
    values = levels.flatten()
    within = {}
    for limit in range(255):
        groups = [group for group in (values[values <= limit], values[values > limit]) if len(group)]
        within[limit] = float(sum(((group - group.mean()) ** 2).sum() for group in groups))
    best = min(within, key=lambda limit: within[limit])
    assert torch.equal(Heatmap(levels, "m", "s", "attention").mask("otsu"), levels > best)


def test_each_image_has_its_own_threshold() -> None:
    values = torch.stack([MAP.values[0], 100 * MAP.values[0]])
    assert torch.equal(*Heatmap(values, "m", "s", "attention").mask(0.3))


@pytest.mark.parametrize("threshold", [0.5, "otsu"])
def test_a_map_without_positive_or_finite_values_has_no_region(threshold) -> None:
    for values in ([0.0, -1.0], [math.nan, 1.0], [math.inf, 1.0]):
        assert not heatmap(values).mask(threshold).any()
        assert heatmap(values).boxes(threshold) == ((),)


def test_regions_are_connected_over_corners_and_sorted_by_their_peak() -> None:
    first, second = MAP.boxes(0.5)[0]
    assert (first.box, first.area, first.peak, first.mean) == ((0, 0, 2, 2), 2, 8.0, 6.0)
    assert first.mask.tolist() == [[True, False], [False, True]]
    assert (second.box, second.area, second.peak, second.mean) == ((4, 0, 5, 2), 2, 6.0, 5.5)


def test_small_regions_are_left_out() -> None:
    assert [region.area for region in MAP.boxes(0.51)[0]] == [1, 2]
    assert [region.area for region in MAP.boxes(0.51, min_area=2)[0]] == [2]


def test_volumes_have_masks_and_no_boxes() -> None:
    volume = Heatmap(torch.rand(1, 2, 3, 4), "gradcam", "layer4", "attribution")
    assert volume.mask().shape == (1, 2, 3, 4)
    with pytest.raises(ValueError, match=r"gradcam: boxes are those of maps \(N, H, W\), got shape \(1, 2, 3, 4\)"):
        volume.boxes()


@pytest.mark.parametrize(
    ("threshold", "of", "message"),
    [
        (0.0, "maximum", r"a share of the maximum is above 0 and at most 1, or .* got 0.0"),
        (1.5, "maximum", "got 1.5"),
        (math.nan, "maximum", "got nan"),
        (1.0, "quantile", "a quantile is at least 0 and below 1, or .* got 1.0"),
        ("li", "maximum", "got 'li'"),
        (0.5, "mean", "a threshold is of the maximum or quantile, got of='mean'"),
    ],
)
def test_a_threshold_outside_its_range_is_an_error(threshold, of, message) -> None:
    with pytest.raises(ValueError, match=message):
        MAP.mask(threshold, of)


def test_iou_of_masks_and_boxes_by_hand() -> None:
    found = MAP.mask(0.5)
    truth = torch.zeros_like(found)
    truth[0, :2, :2] = True  # 4 pixels, of which 2 are found; 4 are found in all
    assert mask_iou(found, truth).tolist() == [2 / 6]
    assert math.isnan(float(mask_iou(truth & False, truth & False)))
    boxes = torch.tensor([region.box for region in MAP.boxes(0.5)[0]])
    np.testing.assert_allclose(box_iou(boxes, torch.tensor([[0, 0, 2, 2], [1, 0, 4, 2]])), [[1, 2 / 8], [0, 0]])
    with pytest.raises(ValueError, match=r"wanted bool masks, got torch\.float32"):
        mask_iou(MAP.values, truth)
    with pytest.raises(ValueError, match="left < right"):
        box_iou(boxes, torch.tensor([[2, 0, 2, 2]]))
