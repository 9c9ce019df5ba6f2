"""``panel.png``: size, layout and Matplotlib's state."""

from dataclasses import replace

import matplotlib as mpl
import torch
from PIL import Image

from attnviz.core.records import Heatmap
from attnviz.report import describe
from attnviz.report.explanation import figure
from attnviz.report.explanation.figure_layout import chosen


def size_of(path):
    with Image.open(path) as image:
        return image.size


def test_it_has_the_width_of_a_page_and_square_tiles(document, tmp_path):
    figure.write(document, tmp_path / "p.png")
    width, height = size_of(tmp_path / "p.png")
    assert width == round(figure.WIDTH_IN * figure.DPI)
    assert 0.8 * width < height < 1.6 * width
    tiles = [axis for axis in figure.draw(document).axes if axis.images and not axis.axison]
    assert len(tiles) == 1 + len(document.maps)
    for tile in tiles:
        box = tile.get_window_extent()
        assert abs(box.width - box.height) < 1


def test_all_texts_are_inside_the_figure(document):
    drawn = figure.draw(document)
    boxes = [axis.get_tightbbox() for axis in drawn.axes] + [text.get_window_extent() for text in drawn.texts]
    assert len(boxes) > 20
    for box in boxes:
        assert box.x0 >= drawn.bbox.x0 - 1
        assert box.x1 <= drawn.bbox.x1 + 1
        assert box.y0 >= drawn.bbox.y0 - 1
        assert box.y1 <= drawn.bbox.y1 + 1


def test_matplotlib_settings_are_unchanged(document):
    before = dict(mpl.rcParams)
    figure.draw(document)
    assert dict(mpl.rcParams) == before


def test_many_maps_are_thinned_evenly(document):
    many = tuple(replace(document.maps[0], name=f"block.{i}") for i in range(60))
    names = [one.name for one in chosen(many)]
    assert len(names) == 16
    assert (names[0], names[-1]) == ("block.0", "block.59")


def test_a_single_map_and_dollar_signs_in_the_name_are_drawn(explanation, tmp_path):
    one = replace(
        explanation, image="$x^{2$.png", heatmaps=(Heatmap(torch.zeros(1, 4, 4), "gradcam", "l", "attribution"),),
        records=(), scores=(), photo=None,
    )  # fmt: skip
    figure.write(describe(one), tmp_path / "p.png")
    assert size_of(tmp_path / "p.png")[0] > 1000
