"""The viewer in a real browser: two maps together, one cursor on all maps, keyboard, paper, and what axe-core says."""

import numpy as np
import pytest
from chromium import NEEDED, Reader, expect

from attnviz.report import describe
from attnviz.report.core.formatting import number
from attnviz.report.explanation import html

pytestmark = NEEDED


@pytest.fixture(scope="module")
def document(explanation):
    return describe(explanation)


@pytest.fixture(scope="module")
def address(document, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    html.write(document, path)
    return path.as_uri()


@pytest.fixture
def reader(browser, address, request):
    context = browser.new_context(**getattr(request, "param", {}))
    yield Reader(context.new_page(), address)
    context.close()


def clip(reader):
    return reader.style("#stage-b", "clipPath")


def readout(reader):
    return reader.tab.text_content("#readout")


def values_at(document, x, y):
    """Name -> what the page should say, of the values themselves, to a step of the colour scale."""
    found = {}
    for view in document.maps:
        rows, columns = view.values.shape
        value = float(view.values[int(y * rows), int(x * columns)])
        step = np.rint(255 * np.clip((value - view.low) / (view.high - view.low), 0, 1))
        end = "≥ " if view.clipped and step == 255 else "≤ " if view.clipped and view.signed and step == 0 else ""
        found[view.name] = end + number(view.low + (view.high - view.low) * float(step) / 255)
    return found


class TestTwoMaps:
    def test_at_first_one_map_is_shown(self, reader):
        assert reader.tab.is_visible("#stage")
        assert not reader.tab.is_visible("#stage-b")
        assert not reader.tab.is_visible("#divider")

    def test_side_by_side_shows_both_with_their_scales_and_words(self, reader):
        reader.show("side")
        left, right = (reader.tab.locator(one).bounding_box() for one in ("#stage", "#stage-b"))
        assert left["x"] + left["width"] < right["x"]
        assert (left["y"], left["width"]) == (right["y"], right["width"])
        assert reader.title == "blocks.5.cbam.spatial"
        assert reader.told("title", "b") == "Grad-CAM"
        assert reader.tab.get_attribute("#stage-b .overlay", "alt") == "Map of Grad-CAM"
        reader.tab.select_option("#second", label="SmoothGrad")
        assert reader.told("title", "b") == "SmoothGrad"
        assert reader.troubles == []

    def test_the_divider_is_dragged(self, reader):
        reader.show("swipe")
        box, tab = reader.tab.locator("#stages").bounding_box(), reader.tab
        assert clip(reader) == "inset(0px 0px 0px 50%)"
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 200)
        tab.mouse.down()
        tab.mouse.move(box["x"] + box["width"] / 4, box["y"] + 100)
        assert clip(reader) == "inset(0px 0px 0px 25%)"
        tab.mouse.up()
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
        assert clip(reader) == "inset(0px 0px 0px 25%)"
        assert tab.get_attribute("#divider", "aria-valuenow") == "25"

    def test_the_divider_moves_by_keys_and_stops_at_the_borders(self, reader):
        reader.show("swipe")
        reader.tab.focus("#divider")
        for key, wanted in (("ArrowRight", 52), ("Shift+ArrowLeft", 42), ("PageUp", 52), ("End", 100),
                            ("ArrowRight", 100), ("Home", 0), ("ArrowLeft", 0)):  # fmt: skip
            reader.tab.keyboard.press(key)
            assert reader.tab.get_attribute("#divider", "aria-valuenow") == str(wanted)
            assert reader.tab.get_attribute("#divider", "aria-valuetext") == f"{wanted} % from the left"
        assert reader.style("#divider", "outlineStyle") == "solid"

    def test_on_either_side_of_the_divider_is_the_map_of_that_side(self, reader):
        stages = reader.tab.locator("#stages")
        reader.set_slider(100)
        reader.show("swipe")
        reader.tab.focus("#divider")
        reader.tab.keyboard.press("End")
        alone = stages.screenshot()
        reader.tab.keyboard.press("Home")
        assert stages.screenshot() != alone

    def test_a_map_can_be_laid_beside_the_plain_photograph(self, reader):
        reader.show("swipe")
        reader.tab.select_option("#second", label="the photograph")
        assert not reader.tab.is_visible("#stage-b .overlay")
        assert reader.style("#stage-b .photo", "filter") == "none"
        assert reader.told("title", "b") == "Photograph"
        assert reader.troubles == []


class TestCursor:
    def test_pointing_at_one_map_shows_the_value_of_every_map_there(self, reader, document):
        box = reader.tab.locator("#stage").bounding_box()
        reader.tab.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.6 * box["height"])
        expect(reader.tab.locator(".face .at").first).not_to_be_empty()
        wanted = values_at(document, 0.3, 0.6)
        rows = reader.tab.eval_on_selector_all(
            ".chooser label",
            "all => all.map(e => [e.querySelector('input').value, e.querySelector('.at').textContent])",
        )
        assert dict(rows) == wanted
        tiles = reader.tab.eval_on_selector_all("[data-at]", "all => all.map(e => [e.dataset.at, e.textContent])")
        assert dict(tiles) == wanted
        assert (
            readout(reader)
            == f"30 % from the left, 60 % from the top: blocks.5.cbam.spatial {wanted['blocks.5.cbam.spatial']}"
        )

    def test_the_same_place_is_marked_on_all_maps_until_the_pointer_leaves(self, reader, document):
        box = reader.tab.locator("#stage").bounding_box()
        reader.tab.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
        marks = reader.tab.eval_on_selector_all(".tiles .mark", "all => all.map(e => [e.hidden, e.style.left])")
        assert len(marks) == len(document.maps)
        assert all(not hidden and abs(float(left[:-1]) - 25) < 0.5 for hidden, left in marks)
        reader.tab.mouse.move(2, 2)
        assert reader.tab.locator(".mark:visible").count() == 0
        assert readout(reader).startswith("Point at the picture")

    def test_pointing_at_a_small_map_marks_the_large_one(self, reader):
        tile = reader.tab.locator('button[data-map="saliency"] .linked')
        tile.hover(position={"x": 20, "y": 30})
        assert not reader.tab.eval_on_selector("#stage .mark", "e => e.hidden")

    def test_a_click_keeps_the_place_and_escape_lets_it_go(self, reader):
        reader.tab.locator("#stage").click(position={"x": 58, "y": 290})
        reader.tab.mouse.move(2, 2)
        kept = readout(reader)
        assert kept.startswith("10 % from the left, 50 % from the top")
        reader.tab.focus("#stages")
        reader.tab.keyboard.press("Escape")
        assert readout(reader).startswith("Point at the picture")

    def test_arrow_keys_move_it_and_it_stops_at_the_border(self, reader):
        reader.tab.focus("#stages")
        assert reader.style("#stages", "outlineStyle") == "solid"
        for key, wanted in (("ArrowLeft", "50 % from the left, 50 %"), ("ArrowLeft", "48 % from the left, 50 %"),
                            ("Shift+ArrowDown", "48 % from the left, 60 %")):  # fmt: skip
            reader.tab.keyboard.press(key)
            assert readout(reader).startswith(wanted)
        for _ in range(6):
            reader.tab.keyboard.press("Shift+ArrowLeft")
        assert readout(reader).startswith("0 % from the left")
        assert reader.tab.get_attribute("#readout", "aria-live") == "polite"
        assert reader.troubles == []

    def test_both_values_are_read_out_where_two_maps_are_shown(self, reader):
        reader.show("side")
        reader.tab.focus("#stages")
        reader.tab.keyboard.press("ArrowUp")
        expect(reader.tab.locator("#readout")).to_contain_text("Grad-CAM ")
        assert "blocks.5.cbam.spatial " in readout(reader)


def test_a_site_that_has_more_to_show_leads_there(reader):
    link = reader.tab.locator('.caption[data-side="a"] a')
    target = link.get_attribute("href")
    reader.tab.eval_on_selector(target, "e => { e.open = false; }")
    link.click()
    assert reader.tab.eval_on_selector(target, "e => e.open")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("dark", 400)])
@pytest.mark.parametrize("mode", ["one", "side", "swipe"])
def test_axe_finds_nothing(browser, address, scheme, mode, width):
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    reader = Reader(context.new_page(), address)
    reader.show(mode)
    reader.tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    reader.tab.evaluate("cursor.set([0.5, 0.5], true)")
    assert reader.faults() == []
    assert reader.tab.evaluate("document.documentElement.scrollWidth") == width
    context.close()


def test_on_paper_everything_is_open_and_light_and_controls_are_gone(browser, address):
    context = browser.new_context(color_scheme="dark")
    reader = Reader(context.new_page(), address)
    reader.tab.eval_on_selector("details", "e => { e.open = false; }")
    count = "document.querySelectorAll('details:not([open])').length"
    reader.tab.evaluate(f"addEventListener('beforeprint', () => {{ window.shut = {count}; }})")
    assert reader.tab.pdf().startswith(b"%PDF")
    assert reader.tab.evaluate("window.shut") == 0
    assert not reader.tab.eval_on_selector("details", "e => e.open")
    reader.tab.emulate_media(media="print", color_scheme="dark")
    assert reader.style("body", "backgroundColor") == "rgb(255, 255, 255)"
    assert reader.style("body", "color") == "rgb(27, 29, 34)"
    for control in ("#theme", ".modes", "#opacity", ".chooser", "#readout"):
        assert not reader.tab.locator(control).first.is_visible()
    context.close()
